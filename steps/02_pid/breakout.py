#!/usr/bin/python3
"""Break-out 02: kill a process on the host from a container."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

victim = subprocess.Popen(["sleep", "60"])
process = attack.inside("sh", "-c", f"kill -9 {victim.pid}")
time.sleep(0.1)
attack.report(
    f"kill process {victim.pid} of the host", victim.poll() is not None, process
)
victim.kill()
victim.wait()

attack.end()
