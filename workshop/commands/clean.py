"""`workshop clean`: removes what runtimes and commits that were killed had to leave, and the
network's host side. What is in use stays."""

import fcntl
import os
import subprocess
import time
from pathlib import Path

from workshop import containers, images, sandbox
from workshop.command_line import Parser
from workshop.errors import Failure

CGROUPS = Path("/sys/fs/cgroup/workshop")
NETWORK = Path(__file__).resolve().parent.parent / "steps" / "network.sh"
CABLES = Path("/sys/class/net/workshop0/brif")
COMMITTED = "@"  # between an image's name and some digits: a layer that commit made


def main(arguments):
    """Removes, and says what. Returns the exit status, 1 if something could not be."""
    Parser(prog="workshop clean").parse_args(arguments)
    removed = 0
    for path in dead(containers.CONTAINERS):
        remove_tree(path)
        removed += _tell(f"removed {path}")
    for path in dead(CGROUPS):
        _remove_cgroup(path)
        removed += _tell(f"removed {path}")
    for path in half_made():
        remove_tree(path)
        removed += _tell(f"removed {path}, half made")
    for path in remove_unlisted():
        removed += _tell(f"removed {path}, of no image")
    for path in sandbox.clean():
        removed += _tell(f"removed {path}, of a check that was killed")
    removed += _network_off()
    if not removed:
        print("nothing to clean")
    return 0


def _tell(line):
    print(line, flush=True)
    return 1


def dead(directory):
    """The entries of a directory whose name is the pid of no runtime."""
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if path.name.isdigit()]
    return sorted(path for path in found if not containers.is_runtime(path.name))


def half_made():
    """What commits that are dead did not finish: names with a leading dot and, at the end,
    a pid."""
    found = []
    for directory in images.LAYERS, images.IMAGES:
        for path in directory.glob(".*"):
            pid = path.name.rpartition(".")[2]
            if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                found.append(path)
    return sorted(found)


def remove_unlisted():
    """Removes the layers made by commit that no image lists, while no commit is at work.
    Yields each."""
    if not images.LAYERS.is_dir():
        return
    directory = os.open(images.LAYERS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        listed = {layer for name in images.names() for layer in images.layers_of(name)}
        for path in sorted(images.LAYERS.glob(f"[!.]*{COMMITTED}*")):
            if path not in listed and not _in_use(path):
                remove_tree(path)
                yield path
    finally:
        os.close(directory)


def _in_use(layer):
    """Whether a container that runs was started from an image that is no more listed, so
    that nobody can tell its layers."""
    for path in containers.CONTAINERS.glob("[0-9]*"):
        if containers.is_runtime(path.name):
            try:
                if layer in images.layers_of(containers.find(path.name).image):
                    return True
            except Failure:
                return True
    return False


def remove_tree(path):
    """Removes a file, or a directory with all that is in it; none is no error. Failure: it
    cannot be removed."""
    command = ["rm", "-rf", "--one-file-system", path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failure(done.stderr.splitlines()[0])


def _remove_cgroup(path):
    """Removes a cgroup, with the processes in it if there are any."""
    kill = path / "cgroup.kill"
    if kill.exists():
        kill.write_text("1")
    for _ in range(100):
        try:
            return path.rmdir()
        except FileNotFoundError:
            return None
        except OSError:  # EBUSY: the last of them is not quite dead
            time.sleep(0.05)
    raise Failure(f"{path} has processes that do not end")


def _network_off():
    """Takes the bridge and NAT away if they are there and no container is connected.
    Returns how much was removed."""
    if subprocess.run([NETWORK, "status"], check=False, capture_output=True).returncode:
        return 0
    if CABLES.is_dir() and (cables := list(CABLES.iterdir())):
        print(f"kept the network: {len(cables)} connected to it")
        return 0
    done = subprocess.run([NETWORK, "off"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise Failure(done.stderr.strip() or "network.sh off has failed")
    return _tell("removed the bridge workshop0, its NAT, and what they had changed")
