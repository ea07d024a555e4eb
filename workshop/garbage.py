"""Removes what nothing needs any more: layers that no image lists, blobs that belong to no image,
and what killed commits, pulls and removals left unfinished."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from workshop import containers, images, layers, oci, origins
from workshop.errors import Failure
from workshop.layers import Layer, remove_tree

# In the name of a layer that a commit made: between the image's name and random digits.
COMMITTED = "@"
# The name of a layer that came from outside starts with this. Its archive's digest follows.
UNPACKED = "sha256-"


def is_unpacked(layer: Layer) -> bool:
    """Returns whether a layer came from outside."""
    name = layer.path.name
    return layer.path.parent == layers.LAYERS and name.startswith(UNPACKED)


def is_ours(layer: Layer) -> bool:
    """Returns whether a layer was made by a commit, a pull or an import, and not by the lab's
    setup."""
    committed = layer.path.parent == layers.LAYERS and COMMITTED in layer.path.name
    return committed or is_unpacked(layer)


def unfinished(alone: bool = False) -> list[Path]:
    """Returns what killed commits, pulls and removals left unfinished. The names begin with a dot
    and end with a pid, and there is no process with that pid any more.

    alone: whether the caller holds the lock of the layers with LOCK_EX. Then nothing is being
    made, and a process with such a pid is another one: after a boot, pids begin again."""
    found = []
    for folder in layers.LAYERS, images.IMAGES, origins.ORIGINS:
        for path in folder.glob(".*"):
            pid = path.name.rpartition(".")[2]
            if pid.isdigit() and (alone or not os.path.exists(f"/proc/{pid}")):
                found.append(path)
    return sorted(found)


def remove_unfinished() -> Iterator[Path]:
    """Removes what killed commits, pulls and removals left unfinished. Yields each of them. Waits
    until no commit, pull or import is running."""
    if not layers.LAYERS.is_dir():
        return
    with layers.locked(fcntl.LOCK_EX):
        for path in unfinished(alone=True):
            remove_tree(path)
            yield path


def remove_unlisted() -> Iterator[Path]:
    """Removes those of our layers that no image lists any more, the blobs that belong to no image,
    and the origins of images that are gone. Yields each of them. A layer that a container uses
    stays. Waits until no commit, pull or import is running."""
    if not layers.LAYERS.is_dir():
        return
    with layers.locked(fcntl.LOCK_EX):
        listed = images.listed()
        for path in sorted(layers.LAYERS.glob("[!.]*")):
            layer = Layer(path)
            if is_ours(layer) and layer not in listed and not _is_in_use(layer):
                # An import would take what a killed removal leaves for the whole layer, so the
                # layer loses its name first.
                nameless = path.with_name(f".{path.name}.{os.getpid()}")
                path.rename(nameless)
                remove_tree(nameless)
                yield path
        for path in sorted(origins.ORIGINS.glob("[!.]*")):
            if path.name not in images.names():
                remove_tree(path)
                yield path
        needed = origins.blobs()
        for path in sorted(oci.BLOBS.glob("*/*")):
            if path not in needed:
                remove_tree(path)
                yield path


def remove_image(name: str) -> None:
    """Removes an image, but not its layers: see remove_unlisted(). Raises Failure if there is
    no such image, or if it came with the lab."""
    images.check_name(name)
    if name not in images.names():
        images.layers_of(name)  # raises Failure, and says which images there are
    if not any(is_ours(layer) for layer in images.mentioned(name)):
        raise Failure(f"the image {name} came with the lab, and lessons need it")
    (images.IMAGES / name).unlink()
    origins.remove(name)


def _is_in_use(layer: Layer) -> bool:
    """Returns whether a running container uses a layer, or might use it: once an image is gone,
    nothing says which layers its containers have."""
    for path in containers.CONTAINERS.glob("[0-9]*"):
        if containers.is_runtime(path.name):
            try:
                if layer in images.layers_of(containers.image_of(path.name)):
                    return True
            except (Failure, OSError):
                return True
    return False
