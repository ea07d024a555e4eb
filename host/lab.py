"""The lab: its settings, its progress and its directory, handed to every command."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from host import locks, processes
from host.errors import LabError
from host.progress import Progress
from host.settings import Settings


# The VM's user has the uid of the project's owner. If that is not an ordinary user, it
# has this one: vagrant/files/usr/local/lib/workshop-setup
FIRST_USER = 1000


class Lab:
    """Holds what every command works with."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress

    def say(self, sentence: str) -> None:
        self.progress.say(sentence)

    def prepare_state(self) -> None:
        """Makes the lab's directory, which only its owner may read."""
        state = self.settings.state
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o700)
        (state / "log").mkdir(exist_ok=True)

    def make_my(self, in_vm: bool = True) -> None:
        """Makes my/, the learner's directory. If root runs this, what belongs to root in it
        is given to the project's owner, or with `in_vm` to the user who is that owner in
        the VM, because they must be able to write there."""
        my = self.settings.project / "my"
        my.mkdir(exist_ok=True)
        if not processes.is_root():
            return
        owner = os.lstat(self.settings.project)
        uid, gid = owner.st_uid, owner.st_gid
        if in_vm and uid < FIRST_USER:
            uid = gid = FIRST_USER
        for path in [my, *contents(my)]:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                if os.lstat(path).st_uid == 0:
                    os.lchown(path, uid, gid)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the lab's lock in the block: one `lab` at a time changes things."""
        self.prepare_state()

        def waiting() -> None:
            self.say("waiting for another ./lab that is running here")

        with locks.exclusive(self.settings.state / "lock", waiting):
            yield

    def log(self, name: str) -> pathlib.Path:
        """Returns the path of a new, empty log."""
        path = self.settings.state / "log" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        return path

    def ask_for_root(self, purpose: str) -> None:
        processes.ask_for_root(self.progress, purpose)

    # ---- room

    def free_disk(self) -> int:
        """Returns the free megabytes where the lab's directory is, or will be."""
        place = self.settings.state
        while not place.exists():
            place = place.parent
        return shutil.disk_usage(place).free >> 20

    def need_disk(self, megabytes: int, reusable: int = 0) -> None:
        free = self.free_disk() + reusable
        if free < megabytes:
            raise LabError(
                f"too little disk space for {self.settings.state}: "
                f"{free} MB are free, {megabytes} MB are needed",
                "Make room there, then run the command again.",
            )

    def need_memory(self, megabytes: int) -> None:
        """Raises LabError if a VM with so much memory does not fit into this machine."""
        needed, free = megabytes + 250, free_memory()
        if free < needed:
            raise LabError(
                f"too little memory: {free} MB are free, {needed} MB are needed",
                "Close a large program, or give the VM less: LAB_MEMORY=1024 ./lab up",
            )


def free_memory() -> int:
    """Returns the megabytes that programs can use without swapping (Linux)."""
    with open("/proc/meminfo") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) >> 10
    raise LabError("/proc/meminfo does not say how much memory is available")


def contents(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields what a directory holds, at all depths. What is removed meanwhile is left out,
    which rglob would take for an error (until Python 3.13)."""
    for directory, directories, files in os.walk(path):
        yield from (pathlib.Path(directory, name) for name in directories + files)


def disk_use(path: pathlib.Path) -> int:
    """Returns the megabytes that a file or a directory takes on the disk."""
    blocks = 0
    for each in [path, *contents(path)]:
        with contextlib.suppress(OSError):
            # POSIX counts blocks of 512 bytes; Windows has no such count.
            status = each.lstat()
            blocks += getattr(status, "st_blocks", status.st_size // 512)
    return blocks >> 11


def remove(path: pathlib.Path) -> None:
    """Removes a file, a directory, or a symbolic link (but not its target)."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
