#!/bin/sh
# pack.sh IMAGE FOLDER ARCH: makes, of the lab's image in the folder IMAGE, a FOLDER for a
# USB stick, from which a lab starts without any network: by `./lab up --from FOLDER`, or
# by hand, as the page START.md in it says. `lab` calls it. On x86_64 the folder has a box
# for Vagrant and a VM for VirtualBox and VMware as well, see box.sh and ovf.sh. No file is
# bigger than 4 GB, and none needs permissions or links: FAT has none.
set -eu
image=$1
folder=$2
arch=$3
project=$(cd "$(dirname "$0")/.." && pwd)
here=$project/vagrant
start=$(date +%s)

say() { printf '  pack %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

rm -rf "$folder/image" "$folder/box" "$folder/ovf" "$folder/project.tar.gz" "$folder/START.md" "$folder/SHA256SUMS"
mkdir -p "$folder/image"
say 'the image'
qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd "$image/disk.raw" "$folder/image/disk.qcow2"
cp "$image/vmlinuz" "$image/initrd" "$image/inputs" "$image/megabytes" "$folder/image/"
echo "$arch" >"$folder/image/arch"

say 'the project'
# As a new checkout: without anybody's own files, or the state of a lab.
tar -C "$project" --exclude-vcs --exclude=./.lab --exclude=./.vagrant --exclude='./my/*' \
	--exclude=__pycache__ --exclude=.pytest_cache --exclude=.ruff_cache --exclude=.ipynb_checkpoints \
	--owner=0 --group=0 --numeric-owner --transform='s,^\.,container-workshop,' -czf "$folder/project.tar.gz" .

if [ "$arch" = amd64 ]; then
	mkdir -p "$folder/box" "$folder/ovf"
	sh "$here/box.sh" "$image" "$folder/box/lab.box"
	sh "$here/ovf.sh" "$image" "$folder/ovf" "$folder/project.tar.gz"
fi

cat >"$folder/START.md" <<END
# The container workshop, without a network

To check the files: sha256sum -c SHA256SUMS

## Linux, with QEMU

For a Linux machine ($arch) that has QEMU and OpenSSH's client. Debian's and Ubuntu's names
for them: $([ "$arch" = arm64 ] && echo qemu-system-arm || echo qemu-system-x86), qemu-utils, openssh-client. Install these before you go
where there is no network. Neither root nor Vagrant is needed.

    tar -xzf project.tar.gz -C ~
    cd ~/container-workshop
    ./lab up --from THIS-FOLDER

THIS-FOLDER is where this page is, for example /media/you/STICK. The image is copied from it,
so the stick can go on to the next person when the last screen is there. It needs 2 GB on
your disk. From then on it is ./lab up and ./lab down, and the project's README.md.
END
[ "$arch" != amd64 ] || cat >>"$folder/START.md" <<'END'

## Linux, with Vagrant and libvirt

    tar -xzf project.tar.gz -C ~
    cd ~/container-workshop
    LAB=vagrant ./lab up --from THIS-FOLDER

That adds the box in box/ to Vagrant, under the name that the project asks for, and then it
is vagrant up. By hand, where the folder's path has no blank in it: cd THIS-FOLDER/box &&
vagrant box add catalog.json.

## VirtualBox: Windows, Linux, macOS on Intel

1. In VirtualBox: File, Import Appliance, choose ovf/workshop.ovf. Keep what it proposes.
2. Let this machine, and no other, reach JupyterLab in the VM. In the VM's settings: Network,
   Adapter 1, which is attached to NAT, Advanced, Port Forwarding, a new rule: TCP, host IP
   127.0.0.1, host port 8888, guest port 8888. For ssh also host port 2222, guest port 22.
3. Start the VM. Within a minute its window shows a container, and the address of
   JupyterLab: type that into the browser of this machine.

Or instead of 1 and 2, typed in a terminal:

    VBoxManage import ovf/workshop.ovf
    VBoxManage modifyvm container-workshop --natpf1 jupyter,tcp,127.0.0.1,8888,,8888
    VBoxManage modifyvm container-workshop --natpf1 ssh,tcp,127.0.0.1,2222,,22

Where port 8888 is taken, forward another one, and put it in the address.

## VMware: Workstation, Player, Fusion on Intel

Open ovf/workshop.ovf, and see that its network adapter is on NAT. Start the VM. Its window
shows, besides the address for VirtualBox, one that begins with the VM's own number, such as
http://192.168.118.130:8888: that is the one to type. Nothing has to be forwarded.

## In a VM from ovf/

The project is in /workshop, on the VM's disk; so is what you write, in my/. To keep that
when you throw the VM away, download it in JupyterLab. The token in the address was made when
the VM first started: no other has it. The VM's window is a terminal in the lab as well.

For ssh give the VM your public key: upload it into my/ in JupyterLab, and in a terminal
there, or in the VM's window, type

    cat my/id_ed25519.pub >>/home/vagrant/.ssh/authorized_keys

Then it is ssh -p 2222 vagrant@127.0.0.1. No password opens the VM. To stop it: sudo poweroff.
END

say 'checksums'
(
	cd "$folder"
	set -- START.md project.tar.gz image/*
	[ "$arch" != amd64 ] || set -- "$@" box/* ovf/*
	sha256sum "$@" >SHA256SUMS
)
sync -f "$folder"
say "done, $(du -sm "$folder" | cut -f1) MB"
