"""Copes with what a root filesystem from somebody else has or lacks.

Images of every origin have the usual directories as links, or not at all, and programs whose
interpreter was never copied. This module works inside such a root, once the host is detached:
then a link leads to another place in the image, and never to the host.
"""

import os
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
