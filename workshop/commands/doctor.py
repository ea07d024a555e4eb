"""`workshop doctor`: which steps this kernel can run, and what the others miss.

Most answers come from trying: each attempt is made in namespaces of its own, in a process
that ends with it, so nothing of the machine's is changed.
"""

import os
import platform
import re
import shutil
import subprocess
from collections import namedtuple
from pathlib import Path

from rich.table import Table
from rich.text import Text

from workshop import images
from workshop.command_line import Parser
from workshop.errors import Failure
from workshop.terminal import console, printable

# What a step needs: a name for it, a function that returns None or why it is not there.
Need = namedtuple("Need", "step name why_not")

NETWORK = """
ip link add workshop8 type bridge
ip link add workshop9 type veth peer name workshop7
nft add table ip t
nft 'add chain ip t c { type nat hook postrouting priority srcnat; }'
nft add rule ip t c masquerade
"""
OVERLAY = """
mount -t tmpfs none {0}; mkdir {0}/lower {0}/upper {0}/work {0}/all
mount -t overlay -o lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work,userxattr none {0}/all
"""
CONTROLLERS = Path("/sys/fs/cgroup/cgroup.controllers")


def main(arguments):
    """Prints the table. Returns the exit status, 1 if a step cannot run."""
    Parser(prog="workshop doctor").parse_args(arguments)
    if os.geteuid() != 0:
        raise Failure("it tries what containers need, and that needs root: try sudo")
    grid = Table(title=f"Linux {platform.release()}, {platform.machine()}")
    for column in ["step", "it needs", "here"]:
        grid.add_column(column)
    failed = []
    for need in needs():
        why = need.why_not()
        mark = Text(printable(why), "red") if why else Text("ok", "green")
        grid.add_row(need.step, Text(need.name), mark)
        if why and need.step not in failed:
            failed.append(need.step)
    console().print(grid)
    if not failed:
        print("All steps can run here.")
        return 0
    print(f"Cannot run here, or not all of it: {', '.join(failed)}.")
    print("The other steps work. In a VM of its own, ./lab up, all of them do.")
    return 1


def needs():
    """All that is checked, in the order of the steps."""
    return [
        Need("all", "x86_64 or aarch64", machine),
        Need("all", "Linux 5.9 (clone3, close_range)", lambda: older_than(5, 9)),
        Need("01_uts", "uts and ipc namespaces", tries("--uts --ipc", "true")),
        Need("02_pid", "pid namespaces", tries("--pid --fork", "true")),
        Need(
            "03_mnt", "mount namespaces", tries("--mount", "mount -t tmpfs none /mnt")
        ),
        Need("03_mnt", "a root filesystem", root_filesystem),
        Need("04_net", "ip and nft", lambda: missing("ip", "nft")),
        Need(
            "04_net", "network namespaces, veth, bridge, NAT", tries("--net", NETWORK)
        ),
        Need("05_user", "user namespaces", tries("--user --map-root-user", "true")),
        Need("05_user", "Linux 5.12 (idmapped mounts)", lambda: older_than(5, 12)),
        Need("06_cgroup", "limits: cgroup v2 with cpu, memory, pids", cgroup2),
        Need(
            "07_overlay",
            "Linux 5.19 (layers that are idmapped)",
            lambda: older_than(5, 19),
        ),
        Need("07_overlay", "overlayfs with userxattr", overlay),
    ]


def machine():
    name = platform.machine()
    return None if name in ("x86_64", "aarch64") else f"this is {name}"


def older_than(major, minor):
    version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
    return None if version >= (major, minor) else f"this is {platform.release()}"


def missing(*tools):
    absent = [tool for tool in tools if not shutil.which(tool)]
    return f"not installed: {', '.join(absent)}" if absent else None


def tries(namespaces, script):
    """A function that runs the script in new namespaces; its complaint is the reason."""
    return lambda: attempt(namespaces, script)


def attempt(namespaces, script):
    command = ["unshare", *namespaces.split(), "sh", "-ec", script]
    try:
        run = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if run.returncode == 0:
        return None
    lines = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
    return lines[0]


def root_filesystem():
    if (images.STATE / "rootfs" / "busybox").is_dir():
        return None
    return f"{images.STATE}/rootfs/busybox is not there: ./lab up makes it"


def cgroup2():
    """Version 1 and 2 can be there side by side; a controller belongs to one of them."""
    try:
        here = CONTROLLERS.read_text().split()
    except FileNotFoundError:
        return "/sys/fs/cgroup is not cgroup v2; --memory, --pids, --cpus do not work"
    absent = [name for name in ("cpu", "memory", "pids") if name not in here]
    return f"cgroup v2 is without {', '.join(absent)}" if absent else None


def overlay():
    """Mounts one on a tmpfs of its own."""
    return attempt("--mount", OVERLAY.format("/mnt"))
