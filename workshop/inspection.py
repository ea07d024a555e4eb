"""A container and its host, side by side, as the kernel sees them.

Everything is read from outside: from /proc/PID, from the files of the cgroup, and from the
host's own tools after nsenter(1) has put them into a namespace. No program of the container
runs, and no path is followed through its root. Texts can have control characters that the
container chose: views escape them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import socket
import textwrap
from collections.abc import Sequence
from pathlib import Path

from workshop import containers, procfs
from workshop.containers import Container, Process
from workshop.errors import Failure
from workshop.namespaces import KINDS, ask
from workshop.procfs import IdRange, Mount
from workshop.resources import layers, limits
from workshop.rows import LINES, SHARED, Row, shortened
from workshop.terminal import count, printable

WIDTH = 52  # columns of the container's side, to which lists are wrapped

# Asked in a container's namespaces, and outside. The host name comes last, because it can
# contain anything.
QUESTIONS = """
wc -l </proc/sysvipc/msg; echo --
ip -brief address show; echo --
ip route show; echo --
cat /proc/sys/kernel/hostname
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A container and its host."""

    title: str
    rows: list[Row]


@dataclasses.dataclass(frozen=True)
class Surroundings:
    """What only a process in the namespaces can find out."""

    host_name: str
    queues: int  # message queues
    network: list[str]  # a line for each device, then for each route


class Ended(Failure):
    """The container is not running any more."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"the container with the pid {pid} has ended")


def look(container: Container) -> Picture:
    """Returns the picture of a container. Raises Ended if it has ended, which can also
    happen in the meantime."""
    try:
        guard = os.pidfd_open(container.pid)
    except ProcessLookupError:
        raise Ended(container.pid) from None
    try:
        picture = _look(container)
        # If it has ended, another process with its pid may be in the picture.
        if select.select([guard], [], [], 0)[0]:
            raise Ended(container.pid)
        return picture
    except (OSError, Failure):
        if select.select([guard], [], [], 1)[0]:  # that explains the error
            raise Ended(container.pid) from None
        raise
    finally:
        os.close(guard)


def _look(container: Container) -> Picture:
    pid = container.pid
    family = containers.members(pid)
    here, there = surroundings(None), surroundings(pid)
    sides = {
        "uts": ([here.host_name], [there.host_name]),
        "ipc": (
            [count(here.queues, "message queue")],
            [count(there.queues, "message queue")],
        ),
        "pid": (_outside(family), _inside(family, pid)),
        "mnt": ([count(len(procfs.mounts("self")), "mount")], mounts(pid)),
        "net": (shortened(here.network), shortened(there.network)),
        "user": (users(os.getpid()), users(pid)),
        "cgroup": ([], []),
        "time": (clocks(os.getpid()), clocks(pid)),
    }
    rows = {kind: _row(kind, pid, *sides[kind]) for kind in [*KINDS, "time"]}
    time = rows.pop("time")
    title = f"{there.host_name} · pid {pid}, child of {container.runtime}"
    return Picture(
        f"{title} · {container.title()}",
        [*rows.values(), limits(container), time, layers(container)],
    )


def _row(kind: str, pid: int, host: list[str], inside: list[str]) -> Row:
    """Returns the row about a kind of namespace: its numbers, and lines about the
    contents."""
    ours, theirs = procfs.namespace(kind), procfs.namespace(kind, pid)
    if ours == theirs:
        inside = [SHARED, *(inside[1:] if kind == "pid" else [])]
    host = [f"{ours:<11} {host[0] if host else ''}", *host[1:]]
    inside = [f"{theirs:<11} {inside[0] if inside else ''}", *inside[1:]]
    return Row(kind, ours != theirs, host, inside)


# ---- uts, ipc, net


def surroundings(pid: int | None) -> Surroundings:
    """Returns what is found in the namespaces of a process, or in ours."""
    parts = re.split(r"^--\n", ask(QUESTIONS, pid), maxsplit=3, flags=re.MULTILINE)
    queues, addresses, routes, name = parts
    network = [_device(line, pid) for line in addresses.split("\n")[:-1]]
    network += [route.partition(" proto ")[0] for route in routes.split("\n")[:-1]]
    return Surroundings(name.removesuffix("\n"), int(queues) - 1, network)


def _device(line: str, pid: int | None) -> str:
    """Returns a line about a network device, from a line of `ip -brief address`."""
    device, state, *words = filter(None, line.split(" "))
    device, _, peer = device.partition("@if")
    words = [w for w in words if not w.startswith("fe80:") and w != "::1/128"]
    words += ["is down"] if state == "DOWN" else []
    if peer.isdigit() and pid is not None:
        words += _other_end(int(peer))
    return " ".join([device, *words])


def _other_end(index: int) -> list[str]:
    """Returns words about the host's device with a number, if it is the other end of a
    container's veth(4), and about the bridge that this device is connected to."""
    with contextlib.suppress(OSError):
        device = Path("/sys/class/net", socket.if_indextoname(index))
        if procfs.read(device / "iflink") != procfs.read(device / "ifindex"):
            bridge = device / "master"
            words = ["to", device.name]
            return words + (["in", bridge.readlink().name] if bridge.exists() else [])
    return []


# ---- pid


def _outside(family: Sequence[Process]) -> list[str]:
    """Returns lines about a container's processes as the host sees them."""
    lines = [f"{process.pid:>7}  uid {process.uid}" for process in family]
    return [f"{len(procfs.pids())} processes, among them:", *shortened(lines)]


def _inside(family: Sequence[Process], pid: int) -> list[str]:
    """Returns lines about a container's processes as the container sees them."""
    ids, lines = procfs.id_map("uid_map", pid), []
    for process in family:
        found = (line.inside_of(process.uid) for line in ids)
        uid = next((uid for uid in found if uid is not None), None)
        user = "nobody" if uid is None else f"uid {uid}"
        lines.append(f"{process.inside:>7}  {user:<11} {process.command}")
    return [count(len(family), "process"), *shortened(lines)]


# ---- mnt


def mounts(pid: int) -> list[str]:
    """Returns lines about a container's mounts: how many there are, and those that the host
    does not have, by type of filesystem."""
    table, known = procfs.mounts(pid), {*map(_place, procfs.mounts("self"))}
    own = [mount for mount in table if _place(mount) not in known]
    lines = [count(len(table), "mount")]
    if os.readlink(f"/proc/{pid}/root") != "/":
        lines[0] += " visible after chroot"
    elif len(own) < len(table):
        lines[0] += f", {len(table) - len(own)} the same as on the host"
    for kind in dict.fromkeys(mount.kind for mount in own):
        names = shortened(_targets([mount for mount in own if mount.kind == kind]))
        lines += textwrap.wrap(
            f"{kind:<8} {' '.join(names)}",
            WIDTH,
            subsequent_indent=" " * 9,
            break_on_hyphens=False,
        )
    return shortened(lines, 2 * LINES)


def _place(mount: Mount) -> tuple[str, ...]:
    return mount.device, mount.root, mount.target, mount.options


def _targets(mounts: Sequence[Mount]) -> list[str]:
    """Returns where mounts are. Many in the same directory become /dev/{null,zero}."""
    names = [
        printable(mount.target) + ":ro" * ("ro" in mount.options.split(","))
        for mount in mounts
    ]
    folders = {os.path.dirname(name) for name in names}
    if len(names) < 3 or len(folders) > 1:
        return names
    folder = folders.pop().rstrip("/")
    return [f"{folder}/{{{','.join(os.path.basename(name) for name in names)}}}"]


# ---- user, time


def users(pid: int) -> list[str]:
    """Returns lines about the ids of a process: what they are outside.
    user_namespaces(7)"""
    users, groups = procfs.id_map("uid_map", pid), procfs.id_map("gid_map", pid)
    if not users:
        return ["nobody: its uid_map is empty"]
    if users == groups == [IdRange(0, 0, 2**32 - 1)]:
        return ["root is root"]
    if users == groups:
        return [_mapped("id", line) for line in users[:LINES]]
    lines = [_mapped("user", line) for line in users[:LINES]]
    return lines + [_mapped("group", line) for line in groups[:LINES]]


def _mapped(name: str, ids: IdRange) -> str:
    if ids.count == 1:
        return f"{name} {ids.inside} is {ids.outside} outside"
    inside = f"{ids.inside}–{ids.inside + ids.count - 1}"
    return f"{name}s {inside} are {ids.outside}–{ids.outside + ids.count - 1} outside"


def clocks(pid: int) -> list[str]:
    """Returns lines about the clocks of a process that differ from the host's.
    time_namespaces(7)"""
    words = procfs.read(f"/proc/{pid}/timens_offsets").split()
    clocks = zip(words[::3], words[1::3], strict=True)
    return [
        f"{clock} {int(seconds):+} s" for clock, seconds in clocks if seconds != "0"
    ]
