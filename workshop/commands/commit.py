"""`workshop commit CONTAINER NAME`: keeps what a container has written as a layer, on top of
the layers of its image; together they are the image NAME.

An image is there when images/NAME is, and that comes last: whoever is killed or finds the
disk full before leaves no image, only files with a leading dot that `workshop clean` and
the next commit remove. The container goes on meanwhile; a file that it is writing at that
moment is kept as far as it has come.
"""

import fcntl
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from workshop import containers, images
from workshop.commands import clean
from workshop.command_line import Parser
from workshop.errors import Failure
from workshop.terminal import console


def main(arguments):
    """Makes the image and prints the sizes. Returns the exit status."""
    parser = Parser(prog="workshop commit")
    parser.add_argument(
        "container", metavar="CONTAINER", help="pid of the runtime or the container"
    )
    parser.add_argument("name", metavar="NAME", help="of the new image")
    options = parser.parse_args(arguments)
    images.check_name(options.name)
    if (images.IMAGES / options.name).exists():
        raise _taken(options.name)
    container = containers.find(options.container)
    below = images.layers_of(container.image)
    images.check_layers(below)
    # An end by these signals is an end by way of `finally`.
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    layer = commit(container, options.name, below)
    show(options.name, layer, below)
    return 0


def commit(container, name, below):
    """Makes a layer of the container's upper directory and an image of it and below.
    Returns the layer. Failure: the container has ended, or the name is taken meanwhile."""
    if any(len(str(layer).splitlines()) != 1 for layer in below):
        raise Failure(f"{container.image}: a list of layers has no room for line ends")
    with shared_layers():
        for leftover in clean.half_made():
            clean.remove_tree(leftover)
        copy = images.LAYERS / f".{name}.{os.getpid()}"
        listing = images.IMAGES / f".{name}.{os.getpid()}"
        layer = images.LAYERS / f"{name}{clean.COMMITTED}{os.urandom(4).hex()}"
        done = False
        try:
            _copy(container.upper, copy)
            # Its runtime removes the directory when the container has ended: what has been
            # copied is whole only if that has not begun.
            if containers.first_process(container.runtime) != container.pid:
                raise Failure(f"the container {container.pid} has ended meanwhile")
            lines = "".join(f"{path}\n" for path in [layer, *below])
            listing.write_text(lines, errors="surrogateescape")
            copy.rename(layer)
            try:
                os.link(listing, images.IMAGES / name)  # unless there is one
            except FileExistsError:
                raise _taken(name) from None
            done = True
            return layer
        finally:
            for path in [listing, copy] if done else [listing, copy, layer]:
                clean.remove_tree(path)


@contextmanager
def shared_layers():
    """During the block no `workshop clean` looks for layers that no image lists."""
    images.LAYERS.mkdir(parents=True, exist_ok=True)
    images.IMAGES.mkdir(parents=True, exist_ok=True)
    directory = os.open(images.LAYERS, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_SH)
        yield
    finally:
        os.close(directory)


def _copy(source, target):
    """Copies a directory with all that overlayfs goes by: owners, whiteouts, extended
    attributes. Failure: the disk is full, for example."""
    kept = "mode,ownership,timestamps,links,xattr"
    command = ["cp", "-dR", f"--preserve={kept}", source, target]
    done = subprocess.run(
        [
            "setpriv",
            "--pdeathsig",
            "KILL",
            *command,
        ],  # it must not outlive this process
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode:
        raise Failure((done.stderr.splitlines() or ["cp has failed"])[0])


def _taken(name):
    return Failure(f"there is an image {name} already; rm {images.IMAGES / name} first")


def show(name, layer, below):
    """Prints the delta's size beside the whole image's."""
    found = [entry for entry in images.entries([layer, *below]) if entry.layer == 0]
    gone = sum(entry.whiteout for entry in found)
    delta = images.size(layer)
    whole = delta + sum(images.size(path) for path in below)
    grid = Table(title=Text(f"image {name}"), title_justify="left")
    grid.add_column("")
    grid.add_column("layers", justify="right")
    grid.add_column("size", justify="right")
    grid.add_row("the new layer, the delta", "1", decimal(delta))
    grid.add_row("the whole image", str(1 + len(below)), decimal(whole))
    out = console()
    out.print(grid)
    out.print(Text(f"{layer}  files: {len(found) - gone}  whiteouts: {gone}"))
