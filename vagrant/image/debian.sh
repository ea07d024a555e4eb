#!/bin/sh
# Fills $WORK/root with Debian from its packages, for $LAB_ARCH and $LAB_SUITE.
# customize.sh does the rest when Debian is unpacked there.
set -eu
root=$WORK/root

# How apt reaches the mirror here (proxy, certificates) holds for the new system as well.
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
