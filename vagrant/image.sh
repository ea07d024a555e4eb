#!/bin/sh
# image.sh FOLDER INPUTS OWNER PID: makes the lab VM's image from Debian's packages:
# FOLDER/disk.raw (ext4, no partitions), FOLDER/vmlinuz and FOLDER/initrd. `lab`
# calls it, as root, with LAB_ARCH and LAB_SUITE: which processor and release. FOLDER appears when all is done, never half made, belongs to
# OWNER, and FOLDER/inputs holds INPUTS, a hash of what it was made from.
#
# The work is done in mount and pid namespaces of its own (the very thing that this
# workshop is about): when their first process dies, every process and mount in
# them goes too. So nothing is left behind, even if PID, the caller, is killed.
set -eu
out=$1
work=$out.new
project=$(cd "$(dirname "$0")/.." && pwd)
start=$(date +%s)
umask 022

say() { printf '  image %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

# Called back by mmdebstrap with the new root when Debian is unpacked in it.
customize() {
	root=$1
	chroot "$root" useradd -u 1000 -m -s /bin/bash vagrant
	echo workshop >"$root/etc/hostname"
	printf '127.0.0.1 localhost\n127.0.1.1 workshop\n' >"$root/etc/hosts"
	# The names and numbers of QEMU's user network are always the same.
	mkdir -p "$root/etc/systemd/network"
	cat >"$root/etc/systemd/network/qemu.network" <<-'END'
		[Match]
		Type=ether
		Kind=!*
		[Network]
		Address=10.0.2.15/24
		Gateway=10.0.2.2
		IPv6AcceptRA=no
		LinkLocalAddressing=no
	END
	mkdir -p "$root/workshop/vagrant"
	cat >"$root/etc/fstab" <<-'END'
		LABEL=workshop / ext4 rw,relatime,errors=remount-ro 0 0
		workshop /workshop 9p trans=virtio,version=9p2000.L,msize=512000,cache=mmap 0 0
	END

	# Downloads in here trust what this machine trusts (it may have a proxy of
	# its own); nothing of that stays in the image.
	mount --rbind "$root" "$root" # mmdebstrap in there wants / to be a mount
	mount --bind "$project/vagrant" "$root/workshop/vagrant"
	bundle=/etc/ssl/certs/ca-certificates.crt
	if [ -e $bundle ]; then cp $bundle "$root/tmp/ca.crt"; fi
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LAB_MIRROR="${LAB_MIRROR-}" \
		${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} \
		PIP_CONFIG_FILE=/dev/null PIP_CERT=/tmp/ca.crt PIP_DEFAULT_TIMEOUT=60 \
		chroot "$root" sh /workshop/vagrant/provision.sh
	umount "$root/workshop/vagrant"
	umount -R "$root"
	rmdir "$root/workshop/vagrant"

	chroot "$root" systemctl -q enable systemd-networkd
	chroot "$root" apt-mark -q hold "linux-image-$LAB_ARCH" >/dev/null
	for console in ttyS0 ttyAMA0; do
		ln -sf /dev/null "$root/etc/systemd/system/serial-getty@$console.service"
	done
	rm -f "$root"/etc/ssh/ssh_host_* "$root/tmp/ca.crt" "$root"/initrd.img* "$root"/vmlinuz*
	# Nothing has to be brought up to date at the first start.
	touch "$root/etc/.updated" "$root/var/.updated"
}

# The kernel beside the image, with a RAM disk of busybox and a few modules.
kernel() {
	root=$work/root
	busybox=$root/bin/busybox # static: it runs out here too, and has all the tools
	version=$(basename "$root"/lib/modules/*)
	cp "$root"/boot/vmlinuz-* "$work/vmlinuz"
	mkdir -p "$work/ram/bin" "$work/ram/modules" "$work/ram/dev" "$work/ram/proc" "$work/ram/root"
	cp "$root/bin/busybox" "$work/ram/bin/"
	for tool in sh mount umount insmod findfs cat grep sleep poweroff switch_root; do
		ln -s busybox "$work/ram/bin/$tool"
	done
	cp "$project/vagrant/init" "$work/ram/init"
	chmod +x "$work/ram/init"
	modules order virtio_pci virtio_blk virtio_net virtio_rng ext4 9pnet_virtio 9p qemu_fw_cfg
	: >"$work/ram/modules.disks"
	if [ "$LAB_ARCH" = amd64 ]; then
		modules disks sd_mod ata_piix ahci mptspi mptsas vmw_pvscsi virtio_scsi nvme
	fi
	(cd "$work/ram" && "$busybox" find . | "$busybox" cpio -o -H newc >"$work/initrd" 2>/dev/null)
}

# modules LIST NAME...: into the RAM disk, with what they depend on, and in modules.LIST
# in the order in which they load.
modules() {
	list=$work/ram/modules.$1
	shift
	chroot "$root" modprobe -a -S "$version" --show-depends "$@" |
		sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
		while read -r file; do
			name=$(basename "$file" .xz)
			case $file in
			*.xz) "$busybox" xz -dc "$root$file" >"$work/ram/modules/$name" ;;
			*) cp "$root$file" "$work/ram/modules/$name" ;;
			esac
			echo "$name" >>"$list"
		done
}

# The outer half: start the inner one in its namespaces and watch over both ends.
supervise() {
	caller=$1
	exec 8>"$out.lock"
	flock -w 20 8 || { echo 'another build of the image does not end' && exit 1; }
	setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc \
		sh "$0" "$out" --inside &
	build=$!
	trap 'kill -KILL $build' INT TERM HUP
	while kill -0 $build 2>/dev/null; do
		kill -0 "$caller" 2>/dev/null || kill -KILL $build 2>/dev/null || true
		sleep 0.5
	done
	if wait $build; then return; fi
	rm -rf --one-file-system "$work"
	exit 1
}

case $2 in
--customize)
	customize "$3"
	exit
	;;
--inside) ;;
*)
	supervise "$4"
	echo "$2" >"$work/inputs"
	chown -R "$3" "$work"
	rm -rf --one-file-system "$out"
	mv "$work" "$out"
	say "done, $(cat "$out/megabytes") MB"
	exit
	;;
esac

rm -rf --one-file-system "$work"
mkdir -p "$work"
say 'Debian, downloaded and unpacked'
apt-config dump | grep -E '^Acquire::(Check-|.*(::Proxy|::Ca)).* ".+";$' >"$work/apt-options" || true
INITRD=No mmdebstrap --quiet --mode=root --variant=minbase --arch="$LAB_ARCH" \
	--include="linux-image-$LAB_ARCH,systemd-sysv,udev,dbus,ca-certificates,kmod" \
	--aptopt="$work/apt-options" \
	--dpkgopt="$project/vagrant/files/etc/dpkg/dpkg.cfg.d/workshop" \
	--customize-hook="sh '$project/vagrant/image.sh' '$out' --customize \"\$1\"" \
	"$LAB_SUITE" "$work/root" ${LAB_MIRROR:+"$LAB_MIRROR"}
root=$work/root
rm -f "$root"/etc/apt/apt.conf.d/99mmdebstrap "$root"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$root/etc/resolv.conf" "$root/var/lib/dbus/machine-id"
rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
printf 'nameserver 10.0.2.3\noptions timeout:2 attempts:2\n' >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
say 'kernel'
kernel
say 'disk'
truncate -s 8191M "$work/disk.raw" # with a partition table before it: 8 GB
mkfs.ext4 -q -F -m 1 -L workshop -d "$root" "$work/disk.raw"
du -m "$work/disk.raw" | cut -f1 >"$work/megabytes"
rm -rf --one-file-system "$root" "$work/ram" "$work/apt-options"
sync -f "$work/disk.raw"
