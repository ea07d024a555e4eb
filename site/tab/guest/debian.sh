#!/bin/sh
# debian.sh FOLDER VARIANT SUITE PACKAGES: unpacks Debian packages for i386 in FOLDER/root.
# VARIANT is one of mmdebstrap's. Needs root, and a kernel that runs i386 programs.
set -eu
work=$1 root=$1/root
# The new system reaches the mirror as this machine does (proxy, certificates).
apt-config dump | grep -E '^Acquire::(Check-|.*(::Proxy|::Ca)).* ".+";$' >"$work/apt-options" || true
# Only the archive itself, without the suite for security updates: the machine has no network, and
# every point release contains them.
INITRD=No mmdebstrap --quiet --mode=root --arch=i386 --variant="$2" --include="$4" \
	--aptopt="$work/apt-options" --dpkgopt="$(dirname "$0")/dpkg.cfg" \
	"$3" "$root" "${LAB_MIRROR:-http://deb.debian.org/debian}"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* \
	"$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap \
	"$root"/etc/machine-id "$root"/var/lib/dbus/machine-id "$root"/etc/resolv.conf \
	"$work/apt-options"
