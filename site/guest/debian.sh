#!/bin/sh
# debian.sh FOLDER: unpacks the Debian packages of the machine in the tab into FOLDER: guest/
# (its root), image/ (the root filesystem `debian` of its containers) and kernel/ (the kernel,
# its modules, and the BIOS). Needs root, and a kernel that runs i386 programs.
#
# The guest is bookworm because Debian 12 is the last one with a kernel for i686.
set -eu
work=$1
doc=$(dirname "$0")/dpkg.cfg
rm -rf --one-file-system "$work"
mkdir -p "$work"
# The new systems reach the mirror as this machine does (proxy, certificates).
apt-config dump | grep -E '^Acquire::(Check-|.*(::Proxy|::Ca)).* ".+";$' >"$work/apt-options" || true

# unpack VARIANT PACKAGES SUITE FOLDER
unpack() {
	INITRD=No mmdebstrap --quiet --mode=root --arch=i386 --variant="$1" --include="$2" \
		--aptopt="$work/apt-options" --dpkgopt="$doc" "$3" "$4" ${LAB_MIRROR:+"$LAB_MIRROR"}
	rm -rf "$4"/var/cache/apt/* "$4"/var/lib/apt/lists/* "$4"/var/log/* \
		"$4"/etc/apt/apt.conf.d/99mmdebstrap "$4"/etc/dpkg/dpkg.cfg.d/99mmdebstrap \
		"$4"/etc/machine-id "$4"/var/lib/dbus/machine-id "$4"/etc/resolv.conf
}

unpack minbase "$(echo python3 busybox-static iproute2 iputils-ping nftables procps psmisc \
	kmod acl strace sudo less nano vim-tiny bash-completion ncurses-bin systemd crun |
	tr ' ' ,)" bookworm "$work/guest"
unpack minbase iproute2,iputils-ping,procps trixie "$work/image"
unpack extract linux-image-686,seabios bookworm "$work/kernel"
rm "$work/apt-options"
