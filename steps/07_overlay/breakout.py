#!/usr/bin/python3
"""Break-out 07: poison the image, and with it every container started from it later."""

import os
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

poison = f"/root/poison-{os.getpid()}"
attack.inside("sh", "-c", f"echo malware >{poison}")
process = attack.inside("sh", "-c", f"cat {poison}; rm -f {poison}")
attack.report(
    "leave a file for the next container", "malware" in process.stdout, process
)

attack.end()
