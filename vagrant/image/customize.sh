#!/bin/sh
# customize.sh ROOT: turns the Debian that has just been unpacked in ROOT into the lab.
# mmdebstrap calls it: see debian.sh.
set -eu
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

# Downloads in the chroot trust the certificates that this machine trusts, because it may
# have a proxy of its own. None of that stays in the image.
mount --rbind "$root" "$root" # mmdebstrap in the chroot requires that / is a mount
mount --bind "$VAGRANT" "$root/workshop/vagrant"
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
# In an emulated VM the start takes two thirds of the time without what no VM here needs:
# drivers for radio, nested VMs and old hardware, which udev would unpack and load; generators
# and services; and udev's work on devices that the kernel has already set up.
printf 'blacklist %s\n' kvm_amd kvm_intel cfg80211 ata_piix ata_generic floppy psmouse pcspkr \
	i2c_piix4 aesni_intel ghash_clmulni_intel sha1_ssse3 sha256_ssse3 sha512_ssse3 \
	crct10dif_pclmul crc32_pclmul >"$root/etc/modprobe.d/workshop.conf"
mkdir -p "$root/etc/systemd/system-generators" \
	"$root/etc/systemd/system/systemd-udev-trigger.service.d"
for name in podman-system systemd-gpt-auto systemd-hibernate-resume systemd-import \
	systemd-rc-local systemd-ssh systemd-sysv systemd-system-update systemd-tpm2; do
	ln -s /dev/null "$root/etc/systemd/system-generators/$name-generator"
done
for unit in modprobe@drm.service modprobe@efi_pstore.service netavark-dhcp-proxy.service \
	netavark-dhcp-proxy.socket proc-sys-fs-binfmt_misc.automount systemd-binfmt.service \
	systemd-modules-load.service systemd-network-generator.service \
	systemd-networkd-persistent-storage.service systemd-pstore.service \
	systemd-udev-load-credentials.service; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
cat >"$root/etc/systemd/system/systemd-udev-trigger.service.d/workshop.conf" <<-'END'
	[Service]
	ExecStart=
	ExecStart=-udevadm trigger --type=devices --action=add \
		--prioritized-subsystem=block,net --subsystem-nomatch=tty --subsystem-nomatch=vc \
		--subsystem-nomatch=memory --subsystem-nomatch=wakeup \
		--subsystem-nomatch=workqueue --subsystem-nomatch=event_source
END

# Tells systemd that nothing needs updating at the first start.
touch "$root/etc/.updated" "$root/var/.updated"
