#!/bin/sh
# box.sh IMAGE FILE: makes the Vagrant box FILE, for libvirt, from the lab's image in the
# folder IMAGE. Beside it a catalog.json gives it the name and the version that the
# Vagrantfile asks for: `vagrant box add catalog.json`, typed in that folder.
set -eu
image=$1
box=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$image.box
start=$(date +%s)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

say() { printf '  box %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

# pinned WORD: what the Vagrantfile sets it to, for libvirt
pinned() { sed -n "s/^ *override\.vm\.$1 = \"\(.*\)\"\$/\1/p" "$here/../Vagrantfile"; }

rm -rf "$work"
mkdir -p "$work"
say 'a disk that starts itself'
sh "$here/disk.sh" "$image" "$work/disk.raw" vagrant
say 'the box'
qemu-img convert -f raw -O qcow2 "$work/disk.raw" "$work/box.img"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 8}' >"$work/metadata.json"
tar -C "$work" -cf - metadata.json box.img | gzip -1 >"$box.part"
mv "$box.part" "$box"
cat >"$(dirname "$box")/catalog.json" <<-END
	{"name": "$(pinned box)", "versions": [{"version": "$(pinned box_version)", "providers": [
	  {"name": "libvirt", "url": "$(basename "$box")", "checksum_type": "sha256",
	   "checksum": "$(sha256sum "$box" | cut -c1-64)"}]}]}
END
say "done, $(du -m "$box" | cut -f1) MB"
