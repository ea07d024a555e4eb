"""The kinds of namespaces that containers use, and how to ask a question inside them.
namespaces(7)"""

from __future__ import annotations

import dataclasses

import linux

from workshop import bounded
from workshop.errors import Failure

TIMEOUT = 30  # seconds that a question may take


@dataclasses.dataclass(frozen=True)
class Namespace:
    """A kind of namespace."""

    kind: str  # as in /proc/PID/ns and lsns(8): mnt
    flag_name: str  # in linux.py, for clone(2) and unshare(2): CLONE_NEWNS
    step: str  # the number of the step that adds it: 03
    isolates: str  # in a few words

    @property
    def flag(self) -> int:
        value: int = getattr(linux, self.flag_name)
        return value


NAMESPACES = [
    Namespace("uts", "CLONE_NEWUTS", "01", "host name"),
    Namespace("ipc", "CLONE_NEWIPC", "01", "message queues"),
    Namespace("pid", "CLONE_NEWPID", "02", "processes"),
    Namespace("mnt", "CLONE_NEWNS", "03", "files and mounts"),
    Namespace("net", "CLONE_NEWNET", "04", "network"),
    Namespace("user", "CLONE_NEWUSER", "05", "users"),
    Namespace("cgroup", "CLONE_NEWCGROUP", "06", "limits"),
]
KINDS = [namespace.kind for namespace in NAMESPACES]


def ask(script: str, pid: int | None = None) -> str:
    """Returns what the host's own tools print in the uts, ipc and net namespaces of a
    process, or in ours. No program of the container runs. Raises Failure if the shell
    script fails. nsenter(1)"""
    enter = [] if pid is None else ["nsenter", f"--target={pid}", "-u", "-i", "-n"]
    output = bounded.run([*enter, "sh", "-ec", script], TIMEOUT)
    if problem := output.problem():
        raise Failure(problem)
    return output.out
