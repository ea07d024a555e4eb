"""A sandbox for a half-finished runtime: whatever the runtime mounts, renames, starts or leaves
behind, the host stays as it was.

A sandbox is made of the same things as the steps. It has its own namespaces for mounts, processes,
network, host name, message queues and cgroups, and it has limits. When its first process ends,
or is killed because it takes too long, the kernel removes everything else. On disk, everything
is read-only except what a runtime must change; that is a copy, which is removed.

sandbox_inside.py sets up the inside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import linux

from workshop import cgroups, sandbox_inside
from workshop.sandbox_inside import MEMORY
from workshop.staging import SCRATCH, Staging

CGROUP_PREFIX = "workshop-sandbox-"
FLAGS = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET
FLAGS |= linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
PROCESSES = 600  # as many as a sandbox may have

_numbers = itertools.count(1)  # for the names of this process's sandboxes


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a function in a sandbox has ended."""

    result: Any  # what it has returned; None: it was late, or was killed in the sandbox
    late: bool  # whether it was killed because it took too long
    status: int  # the exit status of the sandbox; 128 + N: signal N killed the function

    def problem(self) -> str:
        """Returns why there is no result, as the end of a sentence about the runtime."""
        return "took too long" if self.late else "killed everything around it"


class Sandbox:
    """A function that runs in a sandbox. What it returns must be fit for JSON, because the
    process that calls it is not trusted. It is killed after `seconds`."""

    def __init__(
        self, function: Callable[[], object], staging: Staging, seconds: float
    ):
        name = f"{os.getpid()}-{next(_numbers)}"
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self._answer, self._complete = b"", False
        self._status: int | None = None  # None: it has not ended
        self._scratch = SCRATCH / name
        self._cgroup = _make_cgroup(name)
        self._pipe, end = os.pipe()
        try:
            self._pid = self._start(function, staging, end)
        except BaseException:
            os.close(self._pipe)
            self._remove()
            raise
        finally:
            os.close(end)

    def _start(
        self, function: Callable[[], object], staging: Staging, answer: int
    ) -> int:
        """Creates the first process of the sandbox. Returns its pid."""
        for name in "tmp/learner", "var", "containers", "layers", "images":
            (self._scratch / name).mkdir(parents=True)
        for name in "tmp", "var":
            (self._scratch / name).chmod(0o1777)
        flags, cgroup = FLAGS, None
        if self._cgroup:
            flags |= linux.CLONE_NEWCGROUP
            cgroup = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            pid = linux.clone(flags, cgroup)
        finally:
            if cgroup is not None:
                os.close(cgroup)
        if pid == 0:
            os.close(self._pipe)
            sandbox_inside.main(
                function, answer, self._scratch, staging, cgroup is not None
            )
        return pid

    def fileno(self) -> int:
        """Returns the descriptor that select(2) waits for: when it is ready, call read()."""
        return self._pipe

    def read(self) -> bool:
        """Reads a part of the function's result. Returns whether it is complete."""
        data = os.read(self._pipe, 65536)
        self._answer += data
        self._complete = not data
        return self._complete

    def finish(self, late: bool = False) -> Ending:
        """Waits until the function has returned or its time is up, and removes the sandbox.
        `late`: its time is up."""
        try:
            while not (late or self._complete):
                left = max(self.deadline - time.monotonic(), 0)
                if select.select([self], [], [], left)[0]:
                    self.read()
                else:
                    late = True
            if not late:
                # The first process must see how the second one has ended.
                pidfd = os.pidfd_open(self._pid)
                select.select([pidfd], [], [], 5)
                os.close(pidfd)
        finally:
            status = self.end()
        result = None
        if not late:
            with contextlib.suppress(ValueError):
                result = json.loads(self._answer)
        return Ending(result, late, status)

    def end(self) -> int:
        """Kills everything in the sandbox, and removes it, unless that was done before.
        Returns the exit status of its first process, or -N if signal N has killed it."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            os.close(self._pipe)
            self._remove()
        return self._status

    def _remove(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
        if self._cgroup:
            cgroups.remove(self._cgroup)


def run(function: Callable[[], object], staging: Staging, seconds: float) -> Ending:
    """Runs a function in a sandbox, and waits for its end."""
    return Sandbox(function, staging, seconds).finish()


@contextlib.contextmanager
def staged(source: bytes) -> Iterator[Staging]:
    """Makes a staging directory for a runtime with these contents. Yields it, and removes it
    after the block. Also removes what killed checks have left behind."""
    clean()
    staging = Staging(SCRATCH / f"{os.getpid()}-staging")
    try:
        staging.create(source)
        yield staging
    finally:
        staging.remove()


def clean() -> list[Path]:
    """Removes the files and cgroups of sandboxes whose process was killed. Returns their
    paths."""
    removed = []
    for path in [*SCRATCH.glob("*-*"), *cgroups.ROOT.glob(f"{CGROUP_PREFIX}*")]:
        pid = path.name.removeprefix(CGROUP_PREFIX).partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            if path.is_relative_to(cgroups.ROOT):
                cgroups.remove(path)
            else:
                shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _make_cgroup(name: str) -> Path | None:
    """Makes a cgroup with the limits of a sandbox. Returns its path, or None if there is no
    cgroup v2 that hands on the controllers that it needs. cgroups(7)"""
    if not cgroups.CONTROLLERS.issubset(cgroups.available() or ()):
        return None
    path = cgroups.ROOT / f"{CGROUP_PREFIX}{name}"
    try:
        cgroups.make(path)
    except OSError:  # `workshop doctor` says why
        return None
    (path / "memory.max").write_text(str(MEMORY))
    (path / "memory.swap.max").write_text("0")
    (path / "pids.max").write_text(str(PROCESSES))
    return path
