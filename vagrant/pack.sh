#!/bin/sh
# pack.sh IMAGE FOLDER ARCH: makes, of the lab's image in the folder IMAGE, a FOLDER for a
# USB stick, from which `./lab up --from FOLDER` starts a lab without any network. `lab`
# calls it. No file is bigger than 4 GB, and none needs permissions or links: FAT has none.
set -eu
image=$1
folder=$2
arch=$3
project=$(cd "$(dirname "$0")/.." && pwd)
start=$(date +%s)

say() { printf '  pack %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

rm -rf "$folder/image" "$folder/project.tar.gz" "$folder/START.md" "$folder/SHA256SUMS"
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

cat >"$folder/START.md" <<END
# The container workshop, without a network

For a Linux machine ($arch) that has QEMU and OpenSSH's client. Debian's and Ubuntu's names
for them: $([ "$arch" = arm64 ] && echo qemu-system-arm || echo qemu-system-x86), qemu-utils, openssh-client. Install these before you go
where there is no network. Neither root nor Vagrant is needed.

    tar -xzf project.tar.gz -C ~
    cd ~/container-workshop
    ./lab up --from THIS-FOLDER

THIS-FOLDER is where this page is, for example /media/you/STICK. The image is copied from it,
so the stick can go on to the next person when the last screen is there. It needs 2 GB on
your disk. From then on it is ./lab up and ./lab down, and the project's README.md.

To check the files: sha256sum -c SHA256SUMS
END

say 'checksums'
(cd "$folder" && sha256sum START.md project.tar.gz image/* >SHA256SUMS)
sync -f "$folder"
say "done, $(du -sm "$folder" | cut -f1) MB"
