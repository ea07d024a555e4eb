"""Copes with what a root filesystem from somebody else has or lacks.

Images of every origin have the usual directories as links, or not at all, and programs whose
interpreter was never copied. This module works inside such a root, once the host is detached:
then a link leads to another place in the image, and never to the host.
"""

import os
import stat
import struct

import linux

TYPE_CHECKING = False  # importing typing would take 8 ms
if TYPE_CHECKING:
    from typing import BinaryIO


# By the class of an ELF file, 32 or 64 bits: the format of an offset, and where e_phoff,
# e_phentsize, p_offset and p_filesz are. Our machines are all little-endian. elf(5)
_ELF = {1: ("<I", 28, 42, 4, 16), 2: ("<Q", 32, 54, 8, 32)}
_PT_INTERP = 3


def attach(tree: int, path: str) -> None:
    """Attaches the mount behind a descriptor at a path inside. If links lead from there to
    another place, attaches it at that place. Makes what is missing, as container engines do.

    tree: a descriptor of linux.open_tree() or linux.fsmount(): of a directory or of a file.
    OSError: there is a file instead of a directory, or the other way round, or links lead in a
    circle, or the filesystem is read-only and lacks the place.
    """
    place = os.path.realpath(path)
    if os.path.isdir(tree):
        os.makedirs(place, exist_ok=True)
    elif not os.path.lexists(place):
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "x"):
            pass
    linux.move_mount(tree, place)


class User:
    """A user of an image: numbers, and where their files are."""

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid, self.gid, self.groups, self.home = uid, gid, groups, home


def find_user(text: str) -> User:
    """Returns the user that an image's config names, as this filesystem's /etc/passwd and
    /etc/group know it: passwd(5), group(5). OCI image-spec, config.md

    text: name, number, name:group, number:group; the group is a name or a number. Without one,
    the user has the group of /etc/passwd, or 0 if that does not list the number.
    SystemExit: there is no such user or group.
    """
    name, _, group = text.partition(":")
    uid, gid, home = -1, 0, "/"
    for fields in _records("/etc/passwd", 7):
        if name in (fields[0], fields[2]) and _is_id(fields[3]):
            name, uid, gid, home = fields[0], int(fields[2]), int(fields[3]), fields[5]
            break
    if uid < 0:
        uid = _number(
            name, f"the image wants to run as {name!r}, but it has no such user"
        )
    if group:
        found = [
            fields[2] for fields in _records("/etc/group", 4) if fields[0] == group
        ]
        problem = f"the image wants to run in group {group!r}, but it has no such group"
        return User(
            uid, _number(found[0] if found else group, problem), [], home or "/"
        )
    groups = [
        int(fields[2])
        for fields in _records("/etc/group", 4)
        if name in fields[3].split(",")
    ]
    return User(uid, gid, groups, home or "/")


def _records(path: str, count: int) -> list[list[str]]:
    """Returns the lines of /etc/passwd or /etc/group, split into this many fields, of which the
    third is a number. Leaves out damaged lines. Returns nothing if the file is missing, or is
    something else than a file: a FIFO would never end, and neither would /dev/zero, or a file
    of /proc, which has size 0."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size == 0:
            return []
        lines = os.fsdecode(os.read(descriptor, 1 << 20)).split("\n")
    finally:
        os.close(descriptor)
    records = [line.split(":") for line in lines]
    return [fields for fields in records if len(fields) == count and _is_id(fields[2])]


def _number(text: str, problem: str) -> int:
    """Returns the id that a text contains. SystemExit: the problem, if it is not an id."""
    if not _is_id(text):
        raise SystemExit(problem)
    return int(text)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def missing_part(path: str, depth: int = 4) -> str:
    """Returns why the kernel finds no way to execute an existing file, as the end of a
    sentence, or "" if nothing that the file names is missing. execve(2), elf(5).

    depth: how many interpreters may be scripts themselves; the kernel allows 4.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            kind, interpreter = _interpreter(file)
    except (OSError, struct.error, LookupError, OverflowError):  # cut off, or damaged
        return ""
    if not interpreter:
        return ""
    if interpreter.endswith("\r"):
        return "its first line ends with CR LF, as on Windows: type `sed -i 's/\\r$//' FILE`"
    if not os.path.exists(interpreter):
        return f"its {kind} {interpreter} is missing in this image"
    reason = missing_part(interpreter, depth - 1) if depth else ""
    return f"its {kind} is {interpreter}, and {reason}" if reason else ""


def _interpreter(file: "BinaryIO") -> tuple[str, str]:
    """Returns what a program or script needs to run, and the path of it, or ""."""
    head = file.read(256)
    if head.startswith(b"#!"):
        # A carriage return belongs to the name, but only at its end.
        words = head[2:].split(b"\n")[0].strip(b" \t").replace(b"\t", b" ").split(b" ")
        return "interpreter", os.fsdecode(words[0])
    if head.startswith(b"\x7fELF"):
        word, table, entry, begin, length = _ELF[head[4]]
        [offset] = struct.unpack_from(word, head, table)
        size, count = struct.unpack_from("<HH", head, entry)
        for number in range(count):
            file.seek(offset + number * size)
            header = file.read(size)
            if struct.unpack_from("<I", header)[0] == _PT_INTERP:
                file.seek(struct.unpack_from(word, header, begin)[0])
                most = struct.unpack_from(word, header, length)[0]
                return "loader", os.fsdecode(file.read(min(most, 4096)).rstrip(b"\0"))
    return "", ""
