"""What killed runtimes, commits and checks have left behind, and how to remove it. Whatever
is in use stays."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

from workshop import cgroups, containers, garbage, sandbox
from workshop.errors import Failure
from workshop.layers import remove_tree
from workshop.project import PROJECT

CGROUPS = cgroups.ROOT / "workshop"
NETWORK = PROJECT / "steps/network.sh"
NETWORK_IS_ON = Path("/run/workshop/ip_forward")  # also if only a part of it works
# The devices that are connected to the bridge of step 04.
CONNECTED = Path("/sys/class/net/workshop0/brif")


@dataclasses.dataclass(frozen=True)
class Leftover:
    """Something that was left behind, and what has become of it."""

    text: str
    removed: bool = True  # False: it is in use

    def __str__(self) -> str:
        return f"{'removed' if self.removed else 'kept'} {self.text}"


def remove_all() -> Iterator[Leftover]:
    """Removes everything that was left behind. Yields each piece when it is done. Raises
    Failure if a piece cannot be removed."""
    # First, because that ends what still runs on the files of a container: a command that
    # has changed its user id outlives the runtime if its guard is killed as well.
    for path in dead(CGROUPS):
        cgroups.remove(path)
        yield Leftover(str(path))
    for path in dead(containers.CONTAINERS):
        remove_tree(path)
        yield Leftover(str(path))
    for path in garbage.remove_unfinished():
        yield Leftover(f"{path}, an unfinished commit, pull or removal")
    for path in garbage.remove_unlisted():
        yield Leftover(f"{path}, which no image uses")
    for path in sandbox.clean():
        yield Leftover(f"{path}, of a check that was killed")
    yield from _remove_network()


def dead(folder: Path) -> list[Path]:
    """Returns the entries of a directory whose names are pids, but not of a running runtime."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.name.isdigit()]
    return sorted(path for path in found if not containers.is_runtime(path.name))


def _remove_network() -> Iterator[Leftover]:
    """Removes the bridge and the NAT rules of step 04, unless a container is connected."""
    if not NETWORK_IS_ON.exists():
        return
    if CONNECTED.is_dir() and (devices := len(list(CONNECTED.iterdir()))):
        what = "container is" if devices == 1 else "containers are"
        yield Leftover(f"the network: {devices} {what} connected to it", removed=False)
        return
    done = subprocess.run([NETWORK, "off"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failure(done.stderr.strip() or "`network.sh off` failed")
    yield Leftover(
        "the bridge workshop0, its NAT rules, and the settings it had changed"
    )
