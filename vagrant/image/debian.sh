#!/bin/sh
# Fills $WORK/root with Debian from its packages, for $LAB_ARCH and $LAB_SUITE.
# mmdebstrap then runs customize.sh, which does the rest.
set -eu
root=$WORK/root

# The new system reaches the mirror as this machine does (proxy, certificates).
apt-config dump | grep -E '^Acquire::(Check-|.*(::Proxy|::Ca)).* ".+";$' >"$WORK/apt-options" || true
# shellcheck disable=SC2016 # mmdebstrap's shell expands it
INITRD=No mmdebstrap --quiet --mode=root --variant=minbase --arch="$LAB_ARCH" \
	--include="linux-image-$LAB_ARCH,systemd-sysv,udev,dbus,ca-certificates,kmod" \
	--aptopt="$WORK/apt-options" \
	--dpkgopt="$VAGRANT/files/etc/dpkg/dpkg.cfg.d/workshop" \
	--customize-hook='sh "$VAGRANT/image/customize.sh" "$1"' \
	"$LAB_SUITE" "$root" ${LAB_MIRROR:+"$LAB_MIRROR"}
rm -f "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap \
	"$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$WORK/apt-options"
printf 'nameserver 10.0.2.3\noptions timeout:2 attempts:2\n' >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
