"""What the kernel says about a process in /proc/PID. proc(5)"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Mount:
    """A line of mountinfo. proc_pid_mountinfo(5)"""

    device: str  # the number of the filesystem: 0:29
    root: str  # the directory of the filesystem that is shown at the target
    target: str
    options: str  # of this mount, with commas between
    kind: str  # the type of the filesystem
    source: str
    data: str  # the options of the filesystem, with commas between
    tags: tuple[str, ...]  # how the mount is shared: shared:1


@dataclasses.dataclass(frozen=True)
class IdRange:
    """A line of a uid_map or gid_map. user_namespaces(7)"""

    inside: int  # the first id
    outside: int
    count: int

    def inside_of(self, outside: int) -> int | None:
        """Returns the id inside that an id outside is mapped to, or None."""
        within = 0 <= outside - self.outside < self.count
        return self.inside + outside - self.outside if within else None


def read(path: str | Path) -> str:
    """Returns the text of a file, or "" if there is none or its process has just ended."""
    try:
        with open(path, errors="replace", newline="") as file:
            return file.read()
    except OSError:
        return ""


def pids() -> list[int]:
    """Returns the pids of all processes, the lowest first."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def words(pid: int | str) -> list[str]:
    """Returns the command line of a process, or [] if it has none or has ended."""
    text = read(f"/proc/{pid}/cmdline").removesuffix("\0")
    return text.split("\0") if text else []


def status(pid: int | str) -> dict[str, list[str]]:
    """Returns the fields of /proc/PID/status, split into words; {} if the process has
    ended."""
    lines = (
        line.partition(":") for line in read(f"/proc/{pid}/status").split("\n")[:-1]
    )
    return {key: value.split() for key, _, value in lines}


def parent(pid: int | str) -> int:
    """Returns the pid of a process's parent, or 0 if it has none or has ended."""
    return int(status(pid).get("PPid", ["0"])[0])


def children(pid: int | str) -> list[int]:
    """Returns the pids of a process's children, the oldest first."""
    return [int(word) for word in read(f"/proc/{pid}/task/{pid}/children").split()]


def namespace(kind: str, pid: int | str = "self") -> int:
    """Returns the number of a process's namespace: the inode of /proc/PID/ns/KIND. Raises
    OSError if the process has ended. namespaces(7)"""
    return int(os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2][:-1])


def is_in(kind: str, number: int, pid: int | str) -> bool:
    """Returns whether a process is in the namespace with a number. If it has ended, it is
    in none."""
    try:
        return namespace(kind, pid) == number
    except OSError:
        return False


def id_map(file: str, pid: int | str) -> list[IdRange]:
    """Returns the lines of a process's uid_map or gid_map, as our user namespace sees
    them."""
    lines = read(f"/proc/{pid}/{file}").splitlines()
    return [IdRange(*map(int, line.split())) for line in lines]


def cgroup(pid: int | str) -> str:
    """Returns the path of a process's cgroup, version 2, as our cgroup namespace sees it;
    "" if there is none."""
    found = re.search(r"^0::(.*)$", read(f"/proc/{pid}/cgroup"), re.MULTILINE)
    return found[1] if found else ""


def mounts(pid: int | str) -> list[Mount]:
    """Returns the mount table of a process, without the mounts that the process cannot reach."""
    return table(read(f"/proc/{pid}/mountinfo"))


def table(text: str) -> list[Mount]:
    """Parses the text of a mountinfo."""
    found = []
    # splitlines() and split() would also split at characters that the kernel does not
    # escape.
    for line in text.split("\n")[:-1]:
        fields, _, rest = line.partition(" - ")
        _, _, *before = map(_unescape, fields.split(" "))
        device, root, target, options, *tags = before
        kind, source, data = map(_unescape, rest.split(" "))
        found.append(
            Mount(device, root, target, options, kind, source, data, tuple(tags))
        )
    return found


def _unescape(word: str) -> str:
    """Decodes a word of mountinfo, in which a space is \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)
