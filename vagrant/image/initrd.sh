#!/bin/sh
# Makes $WORK/vmlinuz and $WORK/initrd from $WORK/root: the kernel, and a RAM disk of
# busybox and a few kernel modules, with ../init as its first process.
set -eu
root=$WORK/root
ram=$WORK/ram
busybox=$root/bin/busybox # static, so it runs outside of $root too, and has all the tools
version=$(basename "$root"/lib/modules/*)

# modules LIST NAME…: copies kernel modules, and those that they depend on, to the RAM
# disk, and lists them in modules.LIST in the order in which they load.
modules() {
	list=$ram/modules.$1
	shift
	chroot "$root" modprobe -a -S "$version" --show-depends "$@" |
		sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' |
		while read -r file; do
			name=$(basename "$file" .xz)
			case $file in
			*.xz) "$busybox" xz -dc "$root$file" >"$ram/modules/$name" ;;
			*) cp "$root$file" "$ram/modules/$name" ;;
			esac
			echo "$name" >>"$list"
		done
}

cp "$root"/boot/vmlinuz-* "$WORK/vmlinuz"
mkdir -p "$ram/bin" "$ram/modules" "$ram/dev" "$ram/proc" "$ram/root"
cp "$busybox" "$ram/bin/"
for tool in sh mount umount insmod findfs cat grep sleep poweroff switch_root; do
	ln -s busybox "$ram/bin/$tool"
done
cp "$VAGRANT/init" "$ram/init"
chmod +x "$ram/init"
modules order virtio_pci virtio_blk virtio_net virtio_rng ext4 9pnet_virtio 9p qemu_fw_cfg
: >"$ram/modules.disks"
if [ "$LAB_ARCH" = amd64 ]; then
	modules disks sd_mod ata_piix ahci mptspi mptsas vmw_pvscsi virtio_scsi nvme
fi
(cd "$ram" && "$busybox" find . | "$busybox" cpio -o -H newc >"$WORK/initrd" 2>/dev/null)
rm -rf --one-file-system "$ram"
