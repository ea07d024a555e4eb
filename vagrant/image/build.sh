#!/bin/sh
# build.sh WORK OWNER: builds the lab VM's image in the directory WORK: disk.raw (ext4, no
# partitions), vmlinuz, initrd and megabytes. At the end OWNER owns all of these files.
#
# host/image.py starts it as root, as the first process of new mount and PID namespaces
# (the very thing that this workshop is about), with LAB_ARCH, LAB_SUITE, LAB_MIRROR, and
# LAB_LOCK, a file that is locked while this runs. Standard input is a pipe that closes
# when `lab` ends for whatever reason. Then everything that runs in here ends too.
set -eu
umask 022
export WORK="$1"
owner=$2
VAGRANT=$(cd "$(dirname "$0")/.." && pwd)
export VAGRANT
start=$(date +%s)

say() { printf '  image %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

exec 8>"$LAB_LOCK"
flock -n 8 || { echo 'another build of the image is still running' && exit 1; }
exec 3<&0 </dev/null
# A process in a PID namespace can kill all other processes there except the first. The
# first one, this script, ends when a command that it runs is killed.
(
	cat <&3 >/dev/null
	while :; do
		kill -KILL -1
		sleep 0.1
	done
) &
exec 3<&-

rm -rf --one-file-system "$WORK"
mkdir -p "$WORK"
say 'Debian, downloaded and unpacked'
sh "$VAGRANT/image/debian.sh"
say 'kernel and RAM disk'
sh "$VAGRANT/image/initrd.sh"
say 'disk'
sh "$VAGRANT/image/filesystem.sh"
chown -R "$owner" "$WORK"
say "done, $(cat "$WORK/megabytes") MB"
