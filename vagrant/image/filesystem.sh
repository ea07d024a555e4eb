#!/bin/sh
# Makes the disk $WORK/disk.raw from $WORK/root, which it removes, and says in
# $WORK/megabytes how much of it is in use.
set -eu
truncate -s 8191M "$WORK/disk.raw" # with a partition table before it: 8 GB
mkfs.ext4 -q -F -m 1 -L workshop -d "$WORK/root" "$WORK/disk.raw"
du -m "$WORK/disk.raw" | cut -f1 >"$WORK/megabytes"
rm -rf --one-file-system "$WORK/root"
sync -f "$WORK/disk.raw"
