#!/usr/bin/python3
"""Break-out 01: rename the machine, and remove its message queues, from a container."""

import os
import random
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

host, name = os.uname().nodename, f"owned-{random.randint(1000, 9999)}"
process = attack.inside("hostname", name)
attack.report(f"call the whole machine {name}", os.uname().nodename == name, process)
socket.sethostname(host)

made = subprocess.run(
    ["ipcmk", "-Q"], capture_output=True, text=True, check=True
).stdout
queue = made.split()[-1]
process = attack.inside("ipcrm", "-q", queue)
attack.report(
    f"remove the host's message queue {queue}", process.returncode == 0, process
)
subprocess.run(["ipcrm", "-q", queue], capture_output=True)

attack.end()
