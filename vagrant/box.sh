#!/bin/sh
# box.sh IMAGE FILE: makes the Vagrant box FILE (for libvirt, and QEMU's plugin) from the
# lab's image in the folder IMAGE, which image.sh made. As root, on Linux, with extlinux.
#
# The box holds what the image holds. It differs where Vagrant's world differs: it starts
# itself with a bootloader, asks its network for an address, gets the project folder from
# Vagrant, and lets Vagrant in with the key that all of Vagrant's boxes share, until the
# first `vagrant up` puts a key of its own in its place.
#
# All is done in a mount namespace of its own, so no mount is left behind.
set -eu
image=$1
box=$2
if [ "${3-}" != --inside ]; then exec unshare --mount sh "$0" "$image" "$box" --inside; fi
work=$box.new
start=$(date +%s)
trap 'umount "$work/root" 2>/dev/null || true; rm -rf --one-file-system "$work"' EXIT
trap 'exit 130' INT TERM HUP

say() { printf '  box %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

# Public, and the same everywhere: its private half comes with every Vagrant.
vagrants_key='ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key'

# The files that differ, in the box's root directory.
adapt() {
	root=$1
	install -d -m 700 -o 1000 -g 1000 "$root/home/vagrant/.ssh"
	echo "$vagrants_key" >"$root/home/vagrant/.ssh/authorized_keys"
	chmod 600 "$root/home/vagrant/.ssh/authorized_keys"
	chown 1000:1000 "$root/home/vagrant/.ssh/authorized_keys"
	rm "$root/etc/systemd/network/qemu.network"
	printf '[Match]\nType=ether\nKind=!*\n[Network]\nDHCP=ipv4\n[DHCPv4]\nClientIdentifier=mac\n' \
		>"$root/etc/systemd/network/vagrant.network"
	# Where libvirt's network, then VirtualBox's and QEMU's, answer for names.
	printf 'nameserver 192.168.121.1\nnameserver 10.0.2.3\noptions timeout:1 attempts:2\n' \
		>"$root/etc/resolv.conf"
	echo 'LABEL=workshop / ext4 rw,relatime,errors=remount-ro 0 0' >"$root/etc/fstab"
	rmdir "$root/workshop"
	# Keys of the guest itself, anew in each VM: the image has none.
	cat >"$root/etc/systemd/system/ssh.service.d/keys.conf" <<-'END'
		[Service]
		ExecStartPre=
		ExecStartPre=/usr/bin/ssh-keygen -A
		ExecStartPre=/usr/sbin/sshd -t
	END
}

bootloader() {
	root=$1
	# Without holes: extlinux cannot read a file that has some.
	cp --sparse=never "$image/vmlinuz" "$image/initrd" "$root/boot/"
	mkdir -p "$root/boot/extlinux"
	cat >"$root/boot/extlinux/extlinux.conf" <<-'END'
		DEFAULT lab
		LABEL lab
		LINUX /boot/vmlinuz
		INITRD /boot/initrd
		APPEND console=ttyS0 quiet net.ifnames=0 systemd.show_status=0
	END
	extlinux --install "$root/boot/extlinux" 2>/dev/null # it says what it assumes of the disk
}

rm -rf --one-file-system "$work"
mkdir -p "$work/root"
say 'a copy of the disk'
cp --sparse=always "$image/disk.raw" "$work/disk.raw"
mount -o loop "$work/disk.raw" "$work/root"
mkdir -p "$work/root/etc/systemd/system/ssh.service.d"
adapt "$work/root"
bootloader "$work/root"
umount "$work/root"
say 'the box'
qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$work/box.img"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 8}' >"$work/metadata.json"
tar -C "$work" -cf - metadata.json box.img | gzip -1 >"$work/box"
mv "$work/box" "$box"
say "done, $(du -m "$box" | cut -f1) MB"
