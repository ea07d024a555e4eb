#!/usr/bin/python3
"""Break-out 02: kill a process on the host from a container."""

import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

victim = subprocess.Popen(["sleep", "60"])
process = attack.inside("sh", "-c", f"kill -9 {victim.pid}")
with contextlib.suppress(subprocess.TimeoutExpired):
    victim.wait(10 if process.returncode == 0 else 0)  # a killed process ends soon
attack.report(
    f"kill process {victim.pid} of the host", victim.poll() is not None, process
)
victim.kill()
victim.wait()

attack.end()
