"""Locks between processes: one `lab` at a time changes things."""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Callable

from host.errors import LabError

LIMIT = 900  # seconds to wait for another `lab`

if sys.platform == "win32":  # only Vagrant runs there, and it has its own locks

    def try_lock(descriptor: int) -> bool:
        return True

else:
    import fcntl

    def try_lock(descriptor: int) -> bool:
        """Locks an open file, if no other process has locked it. Returns whether it did."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def open_lock(path: pathlib.Path) -> int:
    """Opens a file to lock it. NFS wants it writable; a local file may also be root's."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:
        return os.open(path, os.O_RDONLY)


def take(path: pathlib.Path) -> int | None:
    """Locks a file for as long as this process lives. Returns the descriptor to close
    to unlock it earlier, or None if another process holds the lock."""
    descriptor = open_lock(path)
    if try_lock(descriptor):
        return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def exclusive(
    path: pathlib.Path, waiting: Callable[[], None], limit: float = LIMIT
) -> Iterator[None]:
    """Holds the lock on a file in the block. Calls `waiting` once if another process
    holds it now, and raises LabError if that process still holds it after the limit."""
    descriptor = open_lock(path)
    try:
        if not try_lock(descriptor):
            waiting()
            deadline = time.monotonic() + limit
            while not try_lock(descriptor):
                if time.monotonic() > deadline:
                    raise LabError(
                        f"another ./lab is still running after {limit:.0f} s"
                    )
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)
