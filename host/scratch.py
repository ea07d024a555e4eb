"""Directories for VMs that are thrown away: test.PID in the lab's directory.

Each process locks its directory for as long as it lives, so a directory that is not
locked was left by a killed process. The VMs themselves die with their process.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from host import locks


@contextlib.contextmanager
def directory(state: pathlib.Path) -> Iterator[pathlib.Path]:
    """Makes a directory for this process, and removes it after the block. The caller
    must hold the lab's lock: until the directory itself is locked, a sweep would take
    it for a leftover."""
    sweep(state)
    path = state / f"test.{os.getpid()}"
    path.mkdir(mode=0o700)
    descriptor = locks.take(path / "lock")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor is not None:
            os.close(descriptor)


def sweep(state: pathlib.Path) -> None:
    """Removes what killed processes left."""
    for path in state.glob("test.*"):
        try:
            descriptor = locks.take(path / "lock")
        except OSError:  # it has just been removed
            continue
        if descriptor is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)
