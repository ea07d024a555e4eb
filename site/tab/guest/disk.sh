#!/bin/sh
# disk.sh GUEST IMAGE KERNEL PYTHON PROJECT WORK: makes in the directory WORK the machine's
# disk.raw (ext4, no partitions), vmlinuz, initrd and bios.bin from three systems that debian.sh
# made, the Python packages in the directory PYTHON, and the project. Needs root, and new mount
# and PID namespaces.
set -eu
guest=$1 image=$2 kernel=$3 python=$4 project=$5 work=$6
here=$project/site/tab/guest
root=$work/root
umask 022
rm -rf --one-file-system "$work"
mkdir -p "$work"
cp -a "$guest" "$root"

# Kernel, BIOS, and the modules: the first ones in the RAM disk, the others on the disk.
version=$(basename "$kernel"/lib/modules/*)
cp "$kernel"/boot/vmlinuz-* "$work/vmlinuz"
cp "$kernel/usr/share/seabios/bios.bin" "$work/bios.bin"
cp "$kernel/usr/share/seabios/vgabios-stdvga.bin" "$work/vgabios.bin"
mkdir -p "$root/usr/share/doc" "$root/lib/modules"
cp -a "$kernel"/usr/share/doc/* "$root/usr/share/doc/"
early='ata_piix sd_mod ext4 virtio_pci 9pnet_virtio 9p virtio_console virtio_net'
late='overlay veth bridge nf_tables nft_masq nft_chain_nat nf_nat br_netfilter loop dummy tun'
mount --bind "$kernel/lib/modules" "$root/lib/modules"
chroot "$root" depmod "$version"
# dependencies NAMES: the files of these modules and of those that they need, in order
dependencies() {
	# shellcheck disable=SC2086 # a list of names
	chroot "$root" modprobe -S "$version" -a --show-depends $1 |
		sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++'
}
ram=$work/ram
mkdir -p "$ram/bin" "$ram/modules" "$ram/dev" "$ram/proc" "$ram/sys" "$ram/root"
cp "$root/bin/busybox" "$ram/bin/"
for tool in sh mount insmod sleep switch_root; do ln -s busybox "$ram/bin/$tool"; done
install -m 755 "$here/initrd-init" "$ram/init"
dependencies "$early" | while read -r file; do
	cp "$root$file" "$ram/modules/"
	basename "$file" >>"$ram/modules.order"
done
(cd "$ram" && find . | LC_ALL=C sort | "$root/bin/busybox" cpio -o -H newc >"$work/initrd" 2>/dev/null)
all=$(dependencies "$early $late")
umount "$root/lib/modules"
for file in $all; do install -D -m 644 "$kernel/lib/modules/${file#*/lib/modules/}" "$root$file"; done
cp "$kernel/lib/modules/$version"/modules.builtin* \
	"$kernel/lib/modules/$version/modules.order" "$root/lib/modules/$version/"
chroot "$root" depmod "$version"

# The system and the project.
echo workshop >"$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 workshop\n' >"$root/etc/hosts"
# Nobody answers there. But containers get this list, as they do in the lab's VM.
echo 'nameserver 10.0.2.3' >"$root/etc/resolv.conf"
: >"$root/etc/machine-id"
# shellcheck disable=SC2028 # bash expands them
echo "PS1='\\[\\e[32m\\]\\w\\[\\e[0m\\] # '" >>"$root/root/.bashrc"
install -m 755 "$here/init" "$root/sbin/workshop-init"
install -m 755 "$project/vagrant/files/usr/local/bin/workshop" "$root/usr/local/bin/workshop"
mkdir -p "$root/workshop/my" "$root/workshop/notebooks" "$root/workshop/tests"
for name in steps workshop pyproject.toml Vagrantfile; do
	cp -a "$project/$name" "$root/workshop/"
done
cp -a "$project"/tests/*.py "$project/tests/attacks" "$root/workshop/tests/"
(cd "$root/workshop/tests" && rm ci.py static.py documented.py newer_qemu.py)
find "$root/workshop" -name __pycache__ -prune -exec rm -rf {} +

# What /opt/workshop is in the lab's VM, without the packages of JupyterLab.
site=$root/opt/workshop/lib/python3.11/site-packages
mkdir -p "$root/opt/workshop/bin" "$site"
cp -a "$python/." "$site/"
printf '%s\n' /workshop /workshop/steps >"$site/workshop.pth"
ln -s /usr/bin/python3 "$root/opt/workshop/bin/python"
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' >"$root/opt/workshop/pyvenv.cfg"
install -m 644 "$here/cells.py" "$root/opt/workshop/cells.py"

# The root filesystems and images, by the script that makes them in the lab's VM. It writes to
# the machine's own paths, which are the guest's here, in this mount namespace.
state=$root/var/lib/workshop
install -d -m 700 "$state"
install -d "$state/layers"
cp -a "$image" "$state/layers/debian"
: >"$state/layers/debian/etc/resolv.conf"
echo debian >"$state/layers/debian/etc/hostname"
echo '127.0.0.1 localhost' >"$state/layers/debian/etc/hosts"
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/workshop /var/lib/apt/lists/partial
mount --bind "$state" /var/lib/workshop
mount --bind "$root/bin/busybox" "$(readlink -f /bin/busybox)"
echo 'APT::Architecture "i386"; APT::Architectures { "i386"; };' >"$work/apt.conf"
APT_CONFIG=$work/apt.conf sh "$project/vagrant/provision.sh" roots
umount /var/lib/workshop /var/lib

# Python looks for bytecode in this directory, not beside the files.
mkdir -p "$root/var/cache/workshop/pycache"
chmod 1777 "$root/var/cache/workshop" "$root/var/cache/workshop/pycache"
# Some of the library's own test files do not compile on purpose.
chroot "$root" env PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache \
	/opt/workshop/bin/python -m compileall -q /opt/workshop /usr/lib/python3.11 \
	/workshop/workshop /workshop/steps /workshop/tests >/dev/null || true

truncate -s 1024M "$work/disk.raw"
mkfs.ext4 -q -F -O ^has_journal,^metadata_csum,^resize_inode -m 0 -N 80000 \
	-E lazy_itable_init=0 -d "$root" "$work/disk.raw"
rm -rf --one-file-system "$root" "$ram" "$work/apt.conf"
