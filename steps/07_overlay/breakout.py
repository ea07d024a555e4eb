#!/usr/bin/python3
"""Break-out 07: poison the image, and with it every container started from it later."""

import os
import sys

sys.path.append(os.path.join(sys.path[0], ".."))
from attack import end, inside, tell

poison = f"/root/poison-{os.getpid()}"
inside("sh", "-c", f"echo malware >{poison}")
process = inside("sh", "-c", f"cat {poison}; rm -f {poison}")
tell("leave a file for the next container", "malware" in process.stdout, process)

end()
