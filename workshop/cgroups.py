"""Control groups: how much one uses and may use, and how to remove one. cgroups(7), and
admin-guide/cgroup-v2 in the kernel's documentation"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
from pathlib import Path

from workshop import procfs
from workshop.errors import Failure

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = {"cpu", "memory", "pids"}  # that containers and sandboxes need


@dataclasses.dataclass(frozen=True)
class Use:
    """How much of something is used. Memory is in bytes."""

    used: int
    limit: int | None
    events: dict[str, int]  # how often the limit was hit, from the events file


@dataclasses.dataclass(frozen=True)
class CpuTime:
    """The processor time of a cgroup."""

    allowed: float | None  # CPUs; None: all of them
    used: float  # seconds
    throttled: int  # how often the cgroup had to wait


def available() -> set[str] | None:
    """Returns the controllers of cgroup v2, or None if /sys/fs/cgroup is something else. A
    machine can have versions 1 and 2 side by side, but each controller belongs to one."""
    try:
        return set((ROOT / "cgroup.controllers").read_text().split())
    except OSError:
        return None


def handed_on(path: Path) -> set[str]:
    """Returns the controllers that a cgroup hands on to those below it."""
    return set((path / "cgroup.subtree_control").read_text().split())


def make(path: Path) -> None:
    """Makes a cgroup, and those above it that are missing. Each cgroup above it hands
    CONTROLLERS on. Raises OSError, which why_not_handed_on() explains."""
    if path != ROOT:
        make(path.parent)
        control = path.parent / "cgroup.subtree_control"
        control.write_text(" ".join(f"+{name}" for name in sorted(CONTROLLERS)))
        path.mkdir(exist_ok=True)


def keep_back(path: Path, controllers: set[str]) -> None:
    """Ends what make() has begun: a cgroup hands these controllers on no longer. Raises
    OSError if a cgroup below uses one of them."""
    if controllers:
        text = " ".join(f"-{name}" for name in sorted(controllers))
        (path / "cgroup.subtree_control").write_text(text)


def why_not_handed_on(error: OSError) -> str:
    """Returns why make() has failed."""
    if error.errno == errno.EBUSY:
        return (
            f"processes are in {ROOT} itself, so the kernel gives the cgroups below it no "
            "controllers: no internal processes, cgroups(7)"
        )
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"{ROOT} is read-only here, or belongs to another user namespace"
    return f"{error.filename or ROOT}: {error.strerror}"


def remove(path: Path) -> None:
    """Kills the processes in a cgroup, and removes it with all cgroups below it. Raises
    Failure if the processes do not end."""
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")
    for _ in range(250):
        for place, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(place)
        if not path.exists():
            return
        time.sleep(0.02)  # a killed process takes a moment to leave its cgroup
    raise Failure(f"cannot remove {path}: its processes do not end")


def use(path: str, controller: str) -> Use | None:
    """Returns the use of memory or pids by a cgroup, or None if that is not counted. A limit
    also applies to all cgroups below. So if a cgroup above has a tighter limit, returns the
    use of that cgroup."""
    limits = []
    for folder in _up(path):
        limit = procfs.read(folder / f"{controller}.max").strip()
        if limit.isdigit():
            limits.append((int(limit), folder))
    tightest, folder = min(limits, default=(None, Path(f"{ROOT}{path}")))
    used = procfs.read(folder / f"{controller}.current").strip()
    events = _fields(folder / f"{controller}.events")
    return Use(int(used), tightest, events) if used else None


def cpu_time(path: str) -> CpuTime | None:
    """Returns the processor time of a cgroup, or None if it is not counted."""
    fields = _fields(Path(f"{ROOT}{path}/cpu.stat"))
    if "usage_usec" not in fields:
        return None
    shares = []
    for folder in _up(path):
        quota, _, period = procfs.read(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit():
            shares.append(int(quota) / int(period))
    allowed = min(shares, default=None)
    return CpuTime(
        allowed, fields["usage_usec"] / 1e6, int(fields.get("nr_throttled", 0))
    )


def _up(path: str) -> list[Path]:
    """Returns the directories of a cgroup and of all cgroups above it."""
    folder = Path(f"{ROOT}{path}")
    return [one for one in [folder, *folder.parents] if one.is_relative_to(ROOT)]


def _fields(path: Path) -> dict[str, int]:
    """Returns the contents of a file in which each line is a name and a number."""
    lines = (line.split() for line in procfs.read(path).splitlines())
    return {name: int(number) for name, number in lines}
