#!/bin/sh
# bootable.sh DISK IMAGE vagrant | alone PROJECT: adapts the system on the raw DISK for a VM
# that a program other than `lab` runs. host/bootable_disk.py made DISK from the lab's image in
# the directory IMAGE. It runs this as root, in a new mount namespace, so that no mount is left
# behind.
#
# The system gets a bootloader, and asks its network for an address and a name server. With
# "vagrant", Vagrant provides the project as a shared folder, and the key that lets Vagrant in.
# With "alone" the VM has the project, a tar.gz, on its disk, and its own screen shows the
# address of JupyterLab.
#
# The disk has no key, token or host key: each VM makes its own when it first starts.
set -eu
disk=$1
image=$2
kind=$3
project=${4-}
root=$disk.root
trap 'umount "$root" 2>/dev/null || true; rmdir "$root" 2>/dev/null || true' EXIT
trap 'exit 130' INT TERM HUP

# bootloader OPTIONS: installs it; OPTIONS go on the kernel's command line.
bootloader() {
	# Without holes, because extlinux cannot read a sparse file.
	cp --sparse=never "$image/vmlinuz" "$image/initrd" "$root/boot/"
	mkdir -p "$root/boot/extlinux"
	cat >"$root/boot/extlinux/extlinux.conf" <<-END
		SAY The lab is starting.
		DEFAULT lab
		LABEL lab
		LINUX /boot/vmlinuz
		INITRD /boot/initrd
		APPEND quiet net.ifnames=0 systemd.show_status=0 ${1-}
	END
	extlinux --install "$root/boot/extlinux" 2>/dev/null # it reports what it assumes about the disk
}

# unit NAME: writes a systemd unit from standard input.
unit() {
	mkdir -p "$(dirname "$root/etc/systemd/system/$1")"
	cat >"$root/etc/systemd/system/$1"
}

adapt() {
	echo 'LABEL=workshop / ext4 rw,relatime,errors=remount-ro 0 0' >"$root/etc/fstab"
	rm "$root/etc/systemd/network/qemu.network"
	printf '[Match]\nType=ether\nKind=!*\n[Network]\nDHCP=ipv4\n[DHCPv4]\nClientIdentifier=mac\n' \
		>"$root/etc/systemd/network/dhcp.network"
	# Takes the name servers that come with the address, since there is no systemd-resolved.
	unit name-servers.service <<-'END'
		[Unit]
		After=systemd-networkd.service
		[Service]
		ExecStart=/bin/sh -c "until grep -q ^DNS=. /run/systemd/netif/state; do sleep 2; done; \
			sed -n 's/^DNS=//p' /run/systemd/netif/state | tr ' ' '\n' | sed 's/^/nameserver /' >/etc/resolv.conf"
	END
	mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
	ln -s ../name-servers.service "$root/etc/systemd/system/multi-user.target.wants/"
	unit ssh.service.d/key.conf <<-'END'
		[Service]
		ExecStartPre=
		ExecStartPre=/bin/sh -c "[ -e /etc/ssh/ssh_host_ed25519_key ] || \
			ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"
		ExecStartPre=/usr/sbin/sshd -t
	END
	install -d -m 700 -o 1000 -g 1000 "$root/home/vagrant/.ssh"
	install -m 600 -o 1000 -g 1000 /dev/null "$root/home/vagrant/.ssh/authorized_keys"
}

# This key is public and the same in all boxes: every Vagrant comes with its private half. The
# first `vagrant up` replaces it with a new key.
vagrants_key='ssh-rsa AAAAB3NzaC1yc2EAAAABIwAAAQEA6NF8iallvQVp22WDkTkyrtvp9eWW6A8YVr+kz4TjGYe7gHzIw+niNltGEFHzD8+v1I2YJ6oXevct1YeS0o9HZyN1Q9qgCgzUFtdOKLv6IedplqoPkcmF0aYet2PkEDo3MlTBckFXPITAMzF8dJSIFo9D8HfdOV0IAdx4O7PtixWKn5y2hMNG0zQPyUecp4pzC6kivAIhyfHilFR61RGL+GPXQ2MWZWFYbAGjyiYJnAmCP3NOTd0jMZEnDkbUvxhMmBYSdETk1rRgm+R4LOzFUGaHqHDLKLX+FIPKcF96hrucXzcWyLbIbEgE98OHlnVYCzRdK8jlqm8tehUc9c9WhQ== vagrant insecure public key'
vagrant() {
	echo "$vagrants_key" >"$root/home/vagrant/.ssh/authorized_keys"
	rmdir "$root/workshop"
	bootloader console=ttyS0
}

alone() {
	tar -xzf "$project" --strip-components=1 -C "$root/workshop"
	mkdir -p "$root/workshop/my"
	chown -R 1000:1000 "$root/workshop"
	# Anyone who sees this screen owns the VM, so it needs no login. It ends like `./lab up`.
	unit getty@tty1.service.d/login.conf <<-'END'
		[Service]
		ExecStart=
		ExecStart=-/sbin/agetty --autologin vagrant --noissue --noclear - $TERM
	END
	cat >"$root/etc/profile.d/screen.sh" <<-'END'
		if [ "$(tty)" = /dev/tty1 ]; then workshop welcome --screen; fi
	END
	cat >"$root/etc/motd" <<-'END'

		The lab: a machine to take apart. You are in /workshop, the project's directory, which
		is on this VM's own disk. Type "workshop" to begin. "sudo -s" makes you root.

	END
	# No one can copy text from that screen, so the token is short enough to type: 48 bits.
	# Each guess costs a request to a server that only this machine can reach.
	unit workshop-setup.service.d/token.conf <<-'END'
		[Service]
		ExecStartPre=/bin/sh -c "[ -s /etc/workshop/token ] || \
			{ umask 077; od -An -N6 -tx1 /dev/urandom | tr -dc 0-9a-f >/etc/workshop/token; }"
	END
	bootloader
}

mkdir -p "$root"
mount -o loop,offset=1M "$disk" "$root"
adapt
"$kind"
