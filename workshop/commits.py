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
from pathlib import Path

from workshop import containers, garbage, images, layers, origins, procfs
from workshop.containers import Container
from workshop.errors import Failure
from workshop.layers import Layer, remove_tree


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


def commit(
    container: Container, name: str, below: list[Layer], image: str = ""
) -> Layer:
    """Makes a layer of what a container has written, and an image of it and the layers
    below. Returns the new layer. Raises Failure if the container ends before the layer is
    complete, or if another commit takes the name.

    image: the container's image. If it came from outside, the new image takes over its config."""
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
        for leftover in garbage.unfinished():
            remove_tree(leftover)
        copy = layers.LAYERS / f".{name}.{os.getpid()}"
        listing = images.IMAGES / f".{name}.{os.getpid()}"
        layer = Layer(layers.LAYERS / f"{name}{garbage.COMMITTED}{os.urandom(4).hex()}")
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
            layers.complete(copy, layer.path)  # and the listing, on the same disk
            origin = origins.load(image)
            try:
                os.link(listing, images.IMAGES / name)  # fails if the image exists
            except FileExistsError:
                raise _taken(name) from None
            remove.remove(layer.path)
            if origin:
                origins.save(name, origin)
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
    return Failure(
        f"there is already an image {name}. To replace it, type workshop image rm {name}"
    )
