"""The rows about limits and layers: how much a container may use, and where its files are."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from workshop import cgroups, containers, images, procfs
from workshop.containers import Container
from workshop.errors import Failure
from workshop.procfs import Mount
from workshop.rows import SHARED, Row, bar, shortened, size
from workshop.terminal import count

FILES = 2000  # counted at most in a container's own layer


def limits(container: Container) -> Row:
    """Returns the row about the limits of a container's cgroup, and about what it uses."""
    ours, theirs = procfs.cgroup(container.runtime), procfs.cgroup(container.pid)
    memory = dict(
        line.split()[:2] for line in procfs.read("/proc/meminfo").splitlines()
    )
    total, free = (int(memory[f"Mem{word}:"]) << 10 for word in ("Total", "Available"))
    host = [ours, f"{size(total - free)} of {size(total)} memory"]
    host += [count(os.cpu_count() or 1, "CPU")]
    if ours == theirs:
        return Row("limits", False, host, [SHARED])
    inside = [theirs]
    if use := cgroups.use(theirs, "memory"):
        limit = "all" if use.limit is None else size(use.limit)
        text = f"{bar(use.used, use.limit)} {size(use.used)} of {limit} memory"
        killed = use.events.get("oom_kill")
        inside.append(text + (f", {killed} killed" if killed else ""))
    if use := cgroups.use(theirs, "pids"):
        limit = "any number of" if use.limit is None else str(use.limit)
        text = f"{bar(use.used, use.limit)} {use.used} of {limit} processes"
        refused = use.events.get("max")
        inside.append(text + (f", {refused} refused" if refused else ""))
    if cpu := cgroups.cpu_time(theirs):
        allowed = "all" if cpu.allowed is None else f"{cpu.allowed:g}"
        text = f"{allowed} CPUs, {cpu.used:.1f} s used"
        inside.append(
            text + (f", throttled {cpu.throttled} times" if cpu.throttled else "")
        )
    return Row("limits", True, host, inside)


def layers(container: Container) -> Row:
    """Returns the row about the filesystem or the layers that a container's files are on."""
    ours = [mount for mount in procfs.mounts("self") if mount.target == "/"]
    host = [f"{mount.kind} on {mount.source}" for mount in ours[-1:]]
    pid = container.pid
    if upper := container.upper():
        labels = ["layers that no image lists any more"]
        with contextlib.suppress(Failure):
            below = images.layers_of(containers.image_of(container.runtime))
            labels = shortened([layer.label for layer in below])
        return Row(
            "layers", True, host, [f"{changes(upper)} of its own, on top of", *labels]
        )
    root = os.readlink(f"/proc/{pid}/root")  # where the link leads, but not followed
    if root != "/":
        return Row("layers", True, host, [f"chroot to {root}"])
    roots = [mount for mount in procfs.mounts(pid) if mount.target == "/"]
    is_shared = procfs.namespace("mnt", pid) == procfs.namespace("mnt")
    if is_shared or not roots or roots[-1].root == "/":
        return Row("layers", False, host, [SHARED])
    inside = ["no layers: everything it writes goes to", _on_host(roots[-1])]
    if "idmapped" in roots[-1].options.split(","):
        inside.append("with its users as the host's (idmapped)")
    return Row("layers", True, host, inside)


def _on_host(mount: Mount) -> str:
    """Returns where the host shows the directory that a mount shows: the mount can be on
    another disk. If the host does not show it, this is its path in its filesystem."""
    same = [ours for ours in procfs.mounts("self") if ours.device == mount.device]
    for ours in sorted(same, key=lambda ours: len(ours.root), reverse=True):
        if Path(mount.root).is_relative_to(ours.root):
            below = Path(mount.root).relative_to(ours.root)
            return str(Path(ours.target, below))
    return mount.root


def changes(upper: Path) -> str:
    """Returns how many files a container's own layer has, and their size on disk."""
    files = total = 0
    # By descriptors, because the container could put a link in place of a directory
    # meanwhile.
    for _, _, names, folder in os.fwalk(upper):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(name, dir_fd=folder).st_blocks * 512
            files += 1
            if files == FILES:
                return f"over {files} files"
    return f"{count(files, 'file')} ({size(total)})"
