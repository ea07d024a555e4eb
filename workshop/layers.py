"""Layers: the directories that are stacked to make an image, and that step 07 mounts.

overlayfs puts a layer on top of those below it: a file hides the file with the same name
below, a directory is merged with the one below unless it is opaque, and a whiteout (the
character device 0:0) hides a name without showing anything. filesystems/overlayfs in the
kernel's documentation
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import fcntl
import os
import re
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from workshop.errors import Failure
from workshop.project import STATE

LAYERS = STATE / "layers"


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer, which can be shared by several images."""

    path: Path  # absolute

    @property
    def label(self) -> str:
        """What the guide calls it: its name, or its path if it is not in LAYERS. Of a digest
        the first digits are enough."""
        if self.path.parent != LAYERS:
            return str(self.path)
        return re.sub(r"^sha256-([0-9a-f]{12})[0-9a-f]{52}$", r"\1", self.path.name)

    def check(self) -> None:
        """Raises Failure unless the layer is a directory, as overlayfs demands."""
        if not self.path.is_dir():
            problem = "not a directory" if self.path.exists() else "missing"
            raise Failure(f"layer {self.path} is {problem}")

    def size(self) -> int:
        """Returns the bytes that the layer takes up on disk, as du(1) counts them."""
        total, linked = 0, set()
        for folder, folders, files in os.walk(self.path):
            # A link to a directory is among the directories, and os.walk does not follow it.
            links = [name for name in folders if os.path.islink(f"{folder}/{name}")]
            for name in ["", *links, *files]:
                status = os.lstat(os.path.join(folder, name))
                if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                    key = status.st_dev, status.st_ino
                    if key in linked:
                        continue
                    linked.add(key)
                total += status.st_blocks * 512
        return total


@dataclasses.dataclass(frozen=True)
class Entry:
    """A file of a layer: anything but a directory. Layers are given by their places in the
    stack; 0 is the top."""

    path: str  # below the root, with a leading slash
    layer: int
    is_whiteout: bool
    hidden_by: int | None = None  # a layer above

    @property
    def is_seen(self) -> bool:
        """Whether a container sees the file."""
        return self.hidden_by is None and not self.is_whiteout


@dataclasses.dataclass
class _Names:
    """The names that hide something in the layers below, each with the highest layer that
    has it."""

    # Below this layer, everything of this name is hidden. "NAME/" stands for the contents
    # of a directory.
    covers: dict[str, int] = dataclasses.field(default_factory=dict)
    # This layer has a directory of this name, which hides a file below.
    folders: dict[str, int] = dataclasses.field(default_factory=dict)

    def add(self, below: _Names) -> None:
        """Adds the names of the next layer."""
        self.covers = below.covers | self.covers
        self.folders = below.folders | self.folders


def entries(layers: Sequence[Layer]) -> Iterator[Entry]:
    """Yields an Entry for each file of each layer, from the top layer down."""
    above = _Names()
    for number, layer in enumerate(layers):
        found = _Names()
        yield from _entries_of(layer, number, above, found)
        above.add(found)


def _entries_of(
    layer: Layer, number: int, above: _Names, found: _Names
) -> Iterator[Entry]:
    """Yields the entries of one layer. Its names go into `found`."""
    # Directories to read: on disk, below the root, and the layer that hides the contents.
    pending: list[tuple[str, str, int | None]] = [(str(layer.path), "", None)]
    while pending:
        folder, prefix, hidden_by = pending.pop()
        for item in os.scandir(folder):
            path = f"{prefix}/{item.name}"
            hides = above.covers.get(path) if hidden_by is None else hidden_by
            if item.is_dir(follow_symlinks=False):
                found.folders[path] = number
                if is_opaque(item.path):
                    found.covers[f"{path}/"] = number
                inside = above.covers.get(f"{path}/") if hides is None else hides
                pending.append((item.path, path, inside))
            else:
                found.covers[path] = number
                hides = above.folders.get(path) if hides is None else hides
                status = item.stat(follow_symlinks=False)
                yield Entry(path, number, is_whiteout(item.path, status), hides)


def is_whiteout(path: str, status: os.stat_result) -> bool:
    """Returns whether a file is a whiteout: the device 0:0 or, since Linux 6.7, an empty
    file with an attribute."""
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        return _attribute(path, "whiteout") is not None
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(folder: str) -> bool:
    """Returns whether a directory hides everything that the layers below have in it."""
    return _attribute(folder, "opaque") == b"y"


def _attribute(path: str, name: str) -> bytes | None:
    """Returns an attribute of overlayfs, or None. Step 07 mounts with userxattr, so the
    kernel does not look at trusted.overlay.* either."""
    with contextlib.suppress(OSError):
        return os.getxattr(path, f"user.overlay.{name}", follow_symlinks=False)
    return None


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many entries a layer has: all files, those that a container sees, those below
    that it hides, and whiteouts."""

    files: int
    seen: int
    hides: int
    whiteouts: int


def count(found: Sequence[Entry], layers: int) -> list[Counts]:
    """Returns the Counts of each layer in a stack of this many layers."""
    files = collections.Counter(e.layer for e in found if not e.is_whiteout)
    seen = collections.Counter(e.layer for e in found if e.is_seen)
    hides = collections.Counter(e.hidden_by for e in found if not e.is_whiteout)
    whiteouts = collections.Counter(e.layer for e in found if e.is_whiteout)
    return [Counts(files[n], seen[n], hides[n], whiteouts[n]) for n in range(layers)]


@contextlib.contextmanager
def locked(operation: int) -> Iterator[None]:
    """Holds the lock of the directory of all layers during the block: fcntl.LOCK_SH while a
    layer is made that no image lists yet, fcntl.LOCK_EX while such layers are removed."""
    folder = os.open(LAYERS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, operation)
        yield
    finally:
        os.close(folder)


def complete(unfinished: Path, path: Path) -> None:
    """Gives a layer its name, once all its files are on the disk. Raises OSError if a layer
    has that name."""
    # After a power cut, the disk can have the rename without the contents of files: syncfs(2).
    subprocess.run(["sync", "-f", str(unfinished)], check=True)
    unfinished.rename(path)


def remove_tree(path: Path) -> None:
    """Removes a file, or a directory with everything in it. If there is none, does
    nothing. Raises Failure if it cannot be removed."""
    command = ["rm", "-rf", "--one-file-system", "--", str(path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failure((done.stderr.splitlines() or [f"rm failed on {path}"])[0])
