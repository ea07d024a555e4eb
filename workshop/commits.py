"""Commits: what a container has written becomes a layer. That layer, on top of the layers of
the container's image, is a new image.

An image exists once images/NAME does, and a commit creates that file last. If a commit is
killed or finds the disk full before that, there is no image, only files with a leading dot, which
the next commit and `workshop clean` remove. The container keeps running during the commit; a
file that it is writing at that moment is saved as it is then, perhaps incomplete.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from workshop import containers, images, layers, procfs
from workshop.containers import Container
from workshop.errors import Failure
from workshop.layers import Layer, remove_tree

# In the name of a layer that a commit made: between the image's name and random digits.
COMMITTED = "@"


def check_unused(name: str) -> None:
    """Raises Failure if there is already an image of this name, or if none can have it."""
    images.check_name(name)
    if (images.IMAGES / name).exists():
        raise _taken(name)


def upper_of(container: Container) -> Path:
    """Returns the directory with what a container has written. Raises Failure if it has
    none."""
    upper = container.upper()
    if upper is None:
        raise Failure(
            f"process {container.pid} is not a container of step 07 or later, so it has "
            "no layer to commit"
        )
    return upper


def commit(container: Container, name: str, below: list[Layer]) -> Layer:
    """Makes a layer of what a container has written, and an image of it and the layers
    below. Returns the new layer. Raises Failure if the container ends before the layer is
    complete, or if another commit takes the name."""
    upper = upper_of(container)
    if len(below) >= images.MOST:
        raise Failure(
            f"the container's image has {len(below)} layers, and step 07 can stack only "
            f"{images.MOST}, so there is no room for one more"
        )
    for layer in below:
        if "\n" in str(layer.path):
            raise Failure(
                f"the path {str(layer.path)!r} has a line break, so an image cannot list it"
            )
    for folder in layers.LAYERS, images.IMAGES:
        folder.mkdir(parents=True, exist_ok=True)
    with layers.locked(fcntl.LOCK_SH):
        for leftover in unfinished():
            remove_tree(leftover)
        copy = layers.LAYERS / f".{name}.{os.getpid()}"
        listing = images.IMAGES / f".{name}.{os.getpid()}"
        layer = Layer(layers.LAYERS / f"{name}{COMMITTED}{os.urandom(4).hex()}")
        remove = [listing, copy, layer.path]
        try:
            mounts = procfs.mounts(container.pid)
            _copy(upper, copy)
            _remove_mount_points(copy, [mount.target for mount in mounts])
            # The runtime removes the directory once the container has ended. The copy is
            # complete only if that has not begun.
            if containers.first_process(container.runtime) != container.pid:
                raise Failure(f"the container {container.pid} ended during the commit")
            lines = "".join(f"{one.path}\n" for one in [layer, *below])
            listing.write_text(lines, errors="surrogateescape")
            copy.rename(layer.path)
            try:
                os.link(listing, images.IMAGES / name)  # fails if the image exists
            except FileExistsError:
                raise _taken(name) from None
            remove.remove(layer.path)
            return layer
        finally:
            for path in remove:
                remove_tree(path)


def _copy(source: Path, target: Path) -> None:
    """Copies a directory with everything that matters to overlayfs: owners, whiteouts,
    extended attributes. Raises Failure if cp(1) fails, for example because the disk is
    full."""
    kept = "mode,ownership,timestamps,links,xattr"
    command = ["setpriv", "--pdeathsig", "KILL"]  # it must not outlive this process
    command += ["cp", "-dR", f"--preserve={kept}", str(source), str(target)]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        raise Failure((done.stderr.splitlines() or ["cp failed"])[0])


def _remove_mount_points(copy: Path, targets: list[str]) -> None:
    """Removes empty directories and files on which something is mounted. The runtime made
    them because the image has none. Directories above them stay: nothing says whose they are."""
    for target in sorted(targets, reverse=True):
        place = f"{copy.resolve()}{target}"
        if os.path.realpath(place) != place:  # a link, which may lead out of the copy
            continue
        with contextlib.suppress(OSError):
            if os.path.isdir(place):
                os.rmdir(place)  # fails unless it is empty
            elif os.path.isfile(place) and os.path.getsize(place) == 0:
                os.unlink(place)


def _taken(name: str) -> Failure:
    path = images.IMAGES / name
    return Failure(
        f"there is already an image {name}. To replace it, type rm {path} first"
    )


def unfinished() -> list[Path]:
    """Returns what killed commits did not finish: names with a leading dot, and with the pid
    of no process at the end."""
    found = []
    for folder in layers.LAYERS, images.IMAGES:
        for path in folder.glob(".*"):
            pid = path.name.rpartition(".")[2]
            if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                found.append(path)
    return sorted(found)


def remove_unlisted() -> Iterator[Path]:
    """Removes the layers that a commit has made and that no image lists any more, while no
    commit is running. Yields each of them. A layer in use by a container stays."""
    if not layers.LAYERS.is_dir():
        return
    with layers.locked(fcntl.LOCK_EX):
        listed = images.listed()
        for path in sorted(layers.LAYERS.glob(f"[!.]*{COMMITTED}*")):
            if Layer(path) not in listed and not _is_in_use(Layer(path)):
                remove_tree(path)
                yield path


def _is_in_use(layer: Layer) -> bool:
    """Returns whether a running container uses a layer, or may use it: if the container's
    image is not listed any more, nothing says which layers it has."""
    for path in containers.CONTAINERS.glob("[0-9]*"):
        if containers.is_runtime(path.name):
            try:
                if layer in images.layers_of(containers.image_of(path.name)):
                    return True
            except (Failure, OSError):
                return True
    return False
