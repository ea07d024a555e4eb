"""The containers that are running, seen from the host."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shlex
from pathlib import Path

from workshop import namespaces, procfs
from workshop.errors import Failure
from workshop.project import STATE

CONTAINERS = STATE / "containers"


@dataclasses.dataclass(frozen=True)
class Container:
    """A running container. Pids are the host's."""

    runtime: int  # the pid of its container.py, or of whatever else is its parent
    pid: int  # of its first process
    command: tuple[str, ...]  # the command line of its runtime

    def title(self) -> str:
        """Returns the command line of its runtime, without the interpreter."""
        place = _place_of_run(self.command)
        return shlex.join(self.command if place is None else self.command[place - 1 :])

    def upper(self) -> Path | None:
        """Returns the directory with everything that the container has written. Only the
        runtimes from step 07 on have one."""
        folder = CONTAINERS / str(self.runtime) / "upper"
        own = is_runtime(self.runtime) and first_process(self.runtime) == self.pid
        return folder if own and os.path.isdir(folder) else None


@dataclasses.dataclass(frozen=True)
class Process:
    """A process of a container."""

    pid: int
    parent: int
    inside: int  # its pid in its own pid namespace
    uid: int  # as our user namespace sees it
    command: str


def is_runtime(pid: int | str) -> bool:
    """Returns whether a process is a container.py that runs a container. If the runtime has
    ended, another process can have its pid."""
    return _place_of_run(procfs.words(pid)) is not None


def _place_of_run(words: list[str] | tuple[str, ...]) -> int | None:
    """Returns the place of `run` in a runtime's command line, such as python3 -S
    my/container.py run true, or None if this is not the command line of a runtime."""
    if not words or not os.path.basename(words[0]).startswith("python"):
        return None
    for place in range(2, len(words)):
        if words[place] == "run" and words[place - 1].endswith(".py"):
            return place
    return None


def running() -> list[Container]:
    """Returns the containers of all runtimes."""
    found = []
    for runtime in procfs.pids():
        words = procfs.words(runtime)
        # A child that has not executed its command yet has its parent's command line.
        if words == procfs.words(procfs.parent(runtime)):
            continue
        if (place := _place_of_run(words)) and _is_ours(runtime, words[place - 1]):
            pid = first_process(runtime)
            found += [Container(runtime, pid, tuple(words))] if pid else []
    return found


def _is_ours(pid: int, script: str) -> bool:
    """Returns whether the Python script that a process executes is a container.py: it uses
    the modules of the steps. If the script cannot be read, it may be one."""
    with contextlib.suppress(OSError):
        folder = os.readlink(f"/proc/{pid}/cwd")
        path = os.path.join(folder, script).lstrip("/")
        source = Path(f"/proc/{pid}/root", path).read_bytes()
        return (
            re.search(rb"^\s*(import|from)\s.*\b(linux|process)\b", source, re.M)
            is not None
        )
    return True


def first_process(runtime: int | str) -> int | None:
    """Returns the pid of the process that a runtime has started as its container, or None
    before that process begins and after it ends.

    It is the child in another pid namespace. If there is none, it is the oldest child,
    because the others are tools that end soon."""
    children = procfs.children(runtime)
    for pid in children:
        with contextlib.suppress(OSError):  # it has just ended
            if procfs.namespace("pid", pid) != procfs.namespace("pid"):
                return pid
    return children[0] if children else None


def only() -> Container | None:
    """Returns the only container that is running, or None if there are several. Raises
    Failure if there is none."""
    found = running()
    if not found:
        raise Failure("no container is running: start one in another terminal")
    return found[0] if len(found) == 1 else None


def find(name: str) -> Container:
    """Returns the container with a host name, or the one that a pid belongs to: a runtime's
    pid, or that of a process in its container. For the pid of any other process it returns
    that process. Raises Failure if there is no such container or process, or if several
    containers have the host name."""
    found = running()
    if name.isascii() and name.isdigit():
        return _with_pid(name, found)
    named = [container for container in found if host_name(container) == name]
    if not named:
        raise Failure(f"no running container has the host name {name}")
    if len(named) > 1:
        pids = ", ".join(str(container.pid) for container in named)
        raise Failure(
            f"several containers have the host name {name}: use a pid, {pids}"
        )
    return named[0]


def _with_pid(word: str, found: list[Container]) -> Container:
    """Returns the container that a process belongs to, or just this process."""
    if not os.path.exists(f"/proc/{word}"):
        raise Failure(f"no process has the pid {word}")
    above = pid = int(word)
    while above:  # the nearest one: a container can be inside another
        for container in found:
            if above == container.pid or pid == container.runtime:
                return container
        above = procfs.parent(above)
    return Container(procfs.parent(pid), pid, tuple(procfs.words(pid)))


def host_name(container: Container) -> str:
    """Returns the host name of a container, or "" if the container has just ended."""
    with contextlib.suppress(Failure):
        answer = namespaces.ask("cat /proc/sys/kernel/hostname", container.pid)
        return answer.removesuffix("\n")
    return ""


def image_of(runtime: int | str) -> str:
    """Returns IMAGE from a runtime's command line, run [--option VALUE]... IMAGE COMMAND...
    A path becomes absolute. Raises Failure if there is no image, OSError if the runtime has
    ended."""
    raw = Path(f"/proc/{runtime}/cmdline").read_bytes().split(b"\0")
    line = [os.fsdecode(word) for word in raw]
    place = _place_of_run(line)
    words = iter(line[place + 1 :] if place else [])
    for word in words:
        if word == "--":
            word = next(words, "")
        elif word.startswith("-"):
            if "=" not in word:
                next(words, "")
            continue
        if "/" in word:
            return os.path.join(os.readlink(f"/proc/{runtime}/cwd"), word)
        return word
    raise Failure(f"the command line of process {runtime} names no image")


def members(first: int) -> list[Process]:
    """Returns the processes of the container with this first process: its descendants, and
    the processes that were sent into its pid namespace from outside."""
    known = _processes()
    number = procfs.namespace("pid", first)
    is_own = number != procfs.namespace("pid")
    family: set[int] = set()
    for pid in known:
        above = pid
        while above in known and above != first and above not in family:
            above = known[above].parent
        if above in known or (is_own and procfs.is_in("pid", number, pid)):
            family.add(pid)
    return [known[pid] for pid in sorted(family)]


def _processes() -> dict[int, Process]:
    """Returns all processes, by their pids."""
    known = {}
    for pid in procfs.pids():
        status = procfs.status(pid)
        if "NSpid" in status:
            command = shlex.join(procfs.words(pid)) or f"[{' '.join(status['Name'])}]"
            inside, uid = int(status["NSpid"][-1]), int(status["Uid"][1])
            known[pid] = Process(pid, int(status["PPid"][0]), inside, uid, command)
    return known
