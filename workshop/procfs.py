"""What the kernel tells of a process in /proc/PID. proc(5)"""

import os
import re
from collections import namedtuple

# A line of mountinfo, proc_pid_mountinfo(5). device: the number of the filesystem; root: what
# of it is shown there; tags: how it is shared.
Mount = namedtuple("Mount", "device root target options kind source data tags")


def read(path):
    """A file's text; "" if it is not there, or its process has just ended."""
    try:
        with open(path, errors="replace", newline="") as file:
            return file.read()
    except OSError:
        return ""


def words(pid):
    """The command line of a process."""
    text = read(f"/proc/{pid}/cmdline").removesuffix("\0")
    return text.split("\0") if text else []


def parent(pid):
    """The pid of a process's parent; 0: it has none, or has ended."""
    found = re.search(r"^PPid:\t(\d+)$", read(f"/proc/{pid}/status"), re.MULTILINE)
    return int(found[1]) if found else 0


def children(pid):
    """The pids of a process's children, the eldest first."""
    return [int(word) for word in read(f"/proc/{pid}/task/{pid}/children").split()]


def namespace(kind, pid="self"):
    """The number of a process's namespace: the inode of /proc/PID/ns/KIND. namespaces(7)"""
    return int(os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2][:-1])


def cgroup(pid):
    """The path of a process's cgroup, as we see it, of version 2."""
    found = re.search(r"^0::(.*)$", read(f"/proc/{pid}/cgroup"), re.MULTILINE)
    return found[1] if found else ""


def mounts(pid):
    """The Mounts in the table of a process, as far as it can reach them."""
    return table(read(f"/proc/{pid}/mountinfo"))


def table(text):
    """The Mounts in the text of a mountinfo."""
    found = []
    # Of what splitlines() and split() take for ends, the kernel escapes only the usual ones.
    for line in text.split("\n")[:-1]:
        fields, _, rest = line.partition(" - ")
        _, _, *before = map(_unescape, fields.split(" "))
        device, root, target, options, *tags = before
        kind, source, data = map(_unescape, rest.split(" "))
        found.append(Mount(device, root, target, options, kind, source, data, tags))
    return found


def _unescape(word):
    """A word of mountinfo, where a space is \\040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), word)
