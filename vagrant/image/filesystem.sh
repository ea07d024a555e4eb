#!/bin/sh
# Makes the disk $WORK/disk.raw from $WORK/root, which it removes, and writes the
# megabytes that are in use to $WORK/megabytes.
set -eu
truncate -s 8191M "$WORK/disk.raw" # 8 GB together with a partition table in front of it
mkfs.ext4 -q -F -m 1 -L workshop -d "$WORK/root" "$WORK/disk.raw"
du -m "$WORK/disk.raw" | cut -f1 >"$WORK/megabytes"
rm -rf --one-file-system "$WORK/root"
sync -f "$WORK/disk.raw"
