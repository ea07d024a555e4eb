"""What each step needs from the kernel and the machine.

Most answers come from trying it out, in new namespaces and in a process that ends with them,
so nothing on the machine changes.
"""

from __future__ import annotations

import dataclasses
import platform
import re
import shutil
from collections.abc import Callable

from workshop import bounded, cgroups
from workshop.project import STATE

ROOT = STATE / "rootfs/busybox"
TIMEOUT = 20  # seconds that each attempt may take

NETWORK = """
ip link add workshop8 type bridge
ip link add workshop9 type veth peer name workshop7
nft add table ip t
nft 'add chain ip t c { type nat hook postrouting priority srcnat; }'
nft add rule ip t c masquerade
"""
OVERLAY = """
mount -t tmpfs none /mnt
cd /mnt
mkdir lower upper work all
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,userxattr none all
"""


@dataclasses.dataclass(frozen=True)
class Requirement:
    """Something that a step needs."""

    step: str  # its name, or "all"
    name: str
    problem: Callable[[], str | None]  # returns None if the machine has it, or why not


def requirements() -> list[Requirement]:
    """Returns everything that is checked, in the order of the steps."""
    mount = "mount -t tmpfs none /mnt"
    return [
        Requirement("all", "x86_64 or aarch64", machine),
        Requirement("all", "Linux 5.9 (clone3, close_range)", at_least(5, 9)),
        Requirement("01_uts", "UTS and IPC namespaces", tries("--uts --ipc", "true")),
        Requirement("02_pid", "PID namespaces", tries("--pid --fork", "true")),
        Requirement("03_mnt", "mount namespaces", tries("--mount", mount)),
        Requirement("03_mnt", "a root filesystem", root_filesystem),
        Requirement("04_net", "ip and nft", lambda: missing("ip", "nft")),
        Requirement(
            "04_net",
            "network namespaces, veth, bridge, NAT",
            tries("--net", NETWORK),
        ),
        Requirement(
            "05_user", "user namespaces", tries("--user --map-root-user", "true")
        ),
        Requirement("05_user", "Linux 5.12 (idmapped mounts)", at_least(5, 12)),
        Requirement(
            "06_cgroup", "limits: cgroup v2 with cpu, memory, pids", controllers
        ),
        Requirement("07_overlay", "Linux 5.19 (idmapped layers)", at_least(5, 19)),
        Requirement(
            "07_overlay", "overlayfs with userxattr", tries("--mount", OVERLAY)
        ),
    ]


def machine() -> str | None:
    name = platform.machine()
    return None if name in ("x86_64", "aarch64") else f"this is {name}"


def at_least(major: int, minor: int) -> Callable[[], str | None]:
    """Returns a check of the kernel's version."""

    def problem() -> str | None:
        version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
        return None if version >= (major, minor) else f"this is {platform.release()}"

    return problem


def missing(*tools: str) -> str | None:
    absent = [tool for tool in tools if not shutil.which(tool)]
    return f"not installed: {', '.join(absent)}" if absent else None


def tries(namespaces: str, script: str) -> Callable[[], str | None]:
    """Returns a check that runs a shell script in new namespaces, which are options of
    unshare(1). The first line of an error is the problem."""

    def problem() -> str | None:
        command = ["unshare", *namespaces.split(), "sh", "-ec", script]
        return bounded.run(command, TIMEOUT).problem()

    return problem


def root_filesystem() -> str | None:
    return None if ROOT.is_dir() else f"{ROOT} is missing: ./lab up creates it"


def controllers() -> str | None:
    available = cgroups.available()
    if available is None:
        return (
            "/sys/fs/cgroup is not cgroup v2: --memory, --pids and --cpus do not work"
        )
    absent = sorted(cgroups.CONTROLLERS - available)
    return f"cgroup v2 lacks a controller: {', '.join(absent)}" if absent else None
