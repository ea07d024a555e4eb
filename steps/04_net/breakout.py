#!/usr/bin/python3
"""Break-out 04: talk to services that the host keeps to itself, from a container."""

import os
import socket
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

# Abstract sockets have a name but no file, so the container's own root does not hide them.
ABSTRACT = """
use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0);
connect(S, pack_sockaddr_un("\\0$ARGV[0]")) or die "connect: $!\n"; print "connected\n";
"""

with socket.create_server(("127.0.0.1", 0)) as server:
    port = server.getsockname()[1]
    process = attack.inside(
        "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo connected"
    )
    attack.report(
        f"connect to 127.0.0.1:{port} of the host", process.returncode == 0, process
    )

with socket.socket(socket.AF_UNIX) as server:
    name = f"private-{os.getpid()}"
    server.bind(f"\0{name}")
    server.listen()
    process = attack.inside("perl", "-e", ABSTRACT, name)
    attack.report(
        f"connect to the abstract socket @{name}", process.returncode == 0, process
    )

attack.end()
