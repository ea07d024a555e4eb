"""The inside of a sandbox: its first process, and the mounts and devices that a runtime finds."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import linux

from workshop import cgroups
from workshop.project import PROJECT, STATE
from workshop.staging import SCRATCH, SHOWN, Staging

MS_REMOUNT, MS_SHARED = 0x20, 0x100000  # of mount(2); no step needs them
# Bytes: half of the machine's memory, but never more than a suite needs.
MEMORY = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, 2 << 30)
# The limits of each process, which also count where there is no cgroup v2: bytes of memory,
# and of a file. setrlimit(2)
LIMITS = {resource.RLIMIT_DATA: MEMORY, resource.RLIMIT_FSIZE: 256 << 20}


def main(
    function: Callable[[], object],
    answer: int,
    scratch: Path,
    staging: Staging,
    limited: bool,
) -> NoReturn:
    """Is the first process of a sandbox: sets it up, and lets a second process call the
    function and write what it returns, as JSON, to the descriptor `answer`. Exits like the
    second process. `limited`: the sandbox has a cgroup."""
    status = 1
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        build(scratch, staging, limited)
        worker = os.fork()
        if worker == 0:
            for limit, value in LIMITS.items():
                resource.setrlimit(limit, (value, value))
            data = json.dumps(function()).encode()
            while data:
                data = data[os.write(answer, data) :]
            os._exit(0)
        os.close(answer)
        pid = None
        while pid != worker:  # process 1 also waits for every orphan
            pid, wait_status = os.wait()
            status = os.waitstatus_to_exitcode(wait_status)
        status = 128 - status if status < 0 else status
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def build(scratch: Path, staging: Staging, limited: bool) -> None:
    """Sets up the sandbox: what a runtime may change is a copy, and everything else is the
    host's, but read-only."""
    project = os.open(PROJECT, os.O_RDONLY | os.O_DIRECTORY)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    _mount_kernel_filesystems(limited)
    linux.mount(STATE, STATE, None, linux.MS_BIND)
    _show_read_only(staging.folder, scratch / SHOWN.relative_to("/"))
    # All sandboxes share what Python has compiled.
    _show(staging.pycache, scratch / SHOWN.relative_to("/") / staging.pycache.name)
    os.environ["PYTHONPYCACHEPREFIX"] = str(SHOWN / staging.pycache.name)
    _show_state(scratch, staging)
    _show(scratch / "tmp", "/tmp")
    _show(scratch / "var", "/var/tmp")
    linux.mount("sandbox", SCRATCH, "tmpfs")  # hides the other sandboxes
    # One of the new mounts may now hide the project.
    PROJECT.mkdir(parents=True, exist_ok=True)
    _show_read_only(f"/proc/self/fd/{project}", PROJECT)
    os.close(project)
    os.chdir(PROJECT)
    flags = MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY
    linux.mount(None, "/", None, flags)
    # systemd makes / shared, too, and a runtime must cope with that.
    linux.mount(None, "/", None, linux.MS_REC | MS_SHARED)
    # A real machine has more network devices than the loopback.
    links = "link set lo up\nlink add sandbox0 type bridge\n"
    subprocess.run(["ip", "-batch", "-"], input=links.encode(), check=True)


def _mount_kernel_filesystems(limited: bool) -> None:
    """Mounts the filesystems that show the sandbox's own namespaces."""
    linux.mount("sysfs", "/sys", "sysfs")  # of this network namespace
    if limited:
        linux.mount("cgroup2", cgroups.ROOT, "cgroup2")
        # A cgroup that gives controllers to its children has no processes of its own:
        # cgroups(7). systemd's tools look for process 1 in a cgroup of this name.
        (cgroups.ROOT / "init.scope").mkdir()
        (cgroups.ROOT / "init.scope/cgroup.procs").write_text("0")
    linux.mount("proc", "/proc", "proc")  # of this pid namespace
    with contextlib.suppress(OSError):
        # As on a machine that has run for a while: only containers have small pids.
        Path("/proc/sys/kernel/ns_last_pid").write_text("1000")
    linux.mount("sandbox", "/dev/shm", "tmpfs", 0, "mode=1777")
    if os.path.isdir("/dev/mqueue"):
        linux.mount("mqueue", "/dev/mqueue", "mqueue")
    for folder in "/run/workshop", "/run/netns":
        os.makedirs(folder, exist_ok=True)
        linux.mount("sandbox", folder, "tmpfs", 0, "mode=755")


def _show_state(scratch: Path, staging: Staging) -> None:
    """Shows copies of what is in /var/lib/workshop."""
    # A fact may make images and layers. A runtime has no reason to write to those that were
    # there before, unlike the root filesystems of steps 03 to 06.
    for layer in STATE.glob("layers/*"):
        (scratch / "layers" / layer.name).mkdir()
        _show_read_only(layer, scratch / "layers" / layer.name)
    for image in STATE.glob("images/*"):
        shutil.copy(image, scratch / "images")
    for name in "containers", "layers", "images":
        os.makedirs(STATE / name, 0o755, exist_ok=True)
        _show(scratch / name, STATE / name)
    # debian becomes a mount point here. busybox stays a plain directory, as both are outside
    # a sandbox: pivot_root(2) refuses a directory that was not mounted first.
    for root in STATE.glob("rootfs/*"):
        if root.name != "busybox":
            _show(root, staging.rootfs / root.name)
    if staging.rootfs.is_dir():
        _show(staging.rootfs, STATE / "rootfs")


def _show(source: Path, target: Path | str) -> None:
    """Shows a directory, and everything mounted below it, at a second place."""
    linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)


def _show_read_only(source: Path | str, target: Path) -> None:
    linux.mount(source, target, None, linux.MS_BIND)
    flags = MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY
    linux.mount(None, target, None, flags)
