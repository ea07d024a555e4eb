"""Makes directories for one run of the program, and removes them when it ends.

`process.main` runs the clean-up after the container has ended. SIGKILL leaves no time for it, so
the next run also removes the directories of runs that were killed.
"""

import os
import time

from errors import report
from tools import read, run, write

TYPE_CHECKING = False  # importing typing would take 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable

CGROUPS = "/sys/fs/cgroup/workshop"  # where steps 06 and 07 have theirs

# Function and arguments of each deferred call. clean_up() makes the last one first.
_deferred: "list[tuple[Callable[..., object], tuple[object, ...]]]" = []


def defer(function: "Callable[..., object]", *arguments: object) -> None:
    """Has process.main call function(*arguments) when the container has ended. The last call
    to be deferred is made first. FileNotFoundError from it is not an error."""
    _deferred.append((function, arguments))


def clean_up() -> int:
    """Makes all deferred calls. Returns 0, or the exit status if one of them failed."""
    status = 0
    for function, arguments in reversed(_deferred):
        try:
            function(*arguments)
        except FileNotFoundError:
            pass  # somebody else was faster
        except (OSError, SystemExit) as error:
            status = report(error)
    return status


def temporary_directory(
    parent: str, remove: "Callable[[str], object]", mode: int = 0o700
) -> str:
    """Makes a directory that is named after our pid. Returns its path.

    parent: where; it is made with this mode if it does not exist. remove(path) is called
    when the container has ended, for this directory and for each one whose name is the pid
    of no process: its run was killed.
    """
    os.makedirs(parent, mode, exist_ok=True)
    path = f"{parent}/{os.getpid()}"
    if os.path.exists(path):  # of a dead process that had our pid
        remove(path)
    os.mkdir(path)
    for name in os.listdir(parent):
        if name.isdigit() and not os.path.exists(f"/proc/{name}"):
            defer(_sweep, remove, f"{parent}/{name}")
    defer(remove, path)
    return path


def _sweep(remove: "Callable[[str], object]", path: str) -> None:
    """Removes what a killed run has left, unless a new process has that pid by now. First
    ends what still runs in the container: its files must not disappear under it. A failure
    is reported, but does not change the exit status of this run."""
    pid = os.path.basename(path)
    if not os.path.exists(f"/proc/{pid}"):
        try:
            _end_processes(f"{CGROUPS}/{pid}")
            remove(path)
        except (OSError, SystemExit) as error:
            report(error)


def _end_processes(cgroup: str) -> None:
    """Kills all processes in a cgroup, if it exists, and waits for their end: cgroups(7),
    cgroup.kill, Linux 5.14. A process without limits has no cgroup, but dies with its
    runtime in any case. SystemExit: they do not end."""
    if not os.path.exists(f"{cgroup}/cgroup.procs"):
        return
    for _ in range(250):
        if "populated 0" in read(f"{cgroup}/cgroup.events").split("\n"):
            return
        write(f"{cgroup}/cgroup.kill", "1")
        time.sleep(0.02)
    raise SystemExit(f"{cgroup}: its processes were killed, but do not end")


def remove_tree(path: str) -> None:
    """Removes a directory and everything in it. SystemExit: something is mounted there. It
    could be a part of the host, so nothing is removed."""
    # The kernel escapes spaces and newlines, but not everything that split() and
    # splitlines() take for one.
    mounts = [line.split(" ")[1] for line in read("/proc/self/mounts").split("\n")[:-1]]
    if any(f"{mount}/".startswith(f"{path}/") for mount in mounts):
        raise SystemExit(
            f"{path} is not removed: something is mounted there, see findmnt"
        )
    if os.geteuid() != 0:  # root may enter every directory, but its owner may not
        run("chmod -R u+rwX", path)
    if not _remove_empty(path):
        run("rm -rf --one-file-system", path)


def _remove_empty(path: str, levels: int = 3) -> bool:
    """Removes directories that hold nothing but directories, down to this many levels. Most
    containers leave no more, and it is faster than to start rm. Returns whether path is
    gone."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not (levels and entry.is_dir(follow_symlinks=False)):
                    return False
                if not _remove_empty(entry.path, levels - 1):
                    return False
        os.rmdir(path)
    except OSError:
        return False
    return True
