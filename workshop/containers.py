"""Containers that run, seen from the host: which there are, and what they run on."""

import os
from collections import namedtuple
from pathlib import Path

from workshop import images, procfs
from workshop.errors import Failure

CONTAINERS = images.STATE / "containers"

# runtime, pid: of container.py, and of the container's first process, as the host counts;
# image: as it was asked for, a path absolute; upper: the directory with what is its own.
Container = namedtuple("Container", "runtime pid image upper")


def is_runtime(pid):
    """Whether a process with this pid is a container.py, and not just somebody who was
    given the number of one that is dead."""
    try:
        return b"run" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def find(word):
    """The Container whose runtime or first process has this pid. Failure: there is none."""
    if not (word.isascii() and word.isdigit()):
        raise Failure(f"{word!r} is not a pid, the runtime's or the container's")
    for runtime in (word, str(procfs.parent(word))):
        upper = CONTAINERS / runtime / "upper"
        if os.path.isdir(upper) and is_runtime(runtime):
            pid = first_process(runtime)
            if pid is not None and word in (runtime, str(pid)):
                return Container(int(runtime), pid, _image(runtime), upper)
    raise Failure(f"no container of step 07 has the pid {word}")


def first_process(runtime):
    """The pid of a runtime's container: its child in another pid namespace; None: it has
    ended, or not yet begun."""
    for pid in procfs.children(runtime):
        try:
            if procfs.namespace("pid", pid) != procfs.namespace("pid"):
                return pid
        except OSError:
            continue  # has ended just now
    return None


def _image(runtime):
    """IMAGE on a runtime's command line, run [--option VALUE]... IMAGE COMMAND..."""
    line = Path(f"/proc/{runtime}/cmdline").read_bytes().split(b"\0")
    words = iter([os.fsdecode(word) for word in line[line.index(b"run") + 1 :]])
    for word in words:
        if word == "--":
            word = next(words)
        elif word.startswith("-"):
            if "=" not in word:
                next(words)
            continue
        if "/" in word:
            return os.path.join(os.readlink(f"/proc/{runtime}/cwd"), word)
        return word
    raise Failure(f"the command line of {runtime} names no image")
