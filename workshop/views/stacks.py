"""Images and their layers, as tables and lines for a terminal."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence

from rich.console import Group
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from workshop import images, oci, origins
from workshop import layers as library
from workshop.errors import Failure
from workshop.layers import Entry, Layer
from workshop.terminal import printable


def overview() -> tuple[Group, bool]:
    """Returns a table with a row for each image, and whether one of them is broken, which
    the text below the table explains."""
    stacks: dict[str, list[Layer]] = {}
    broken = []
    for name in images.names():
        stacks[name] = []
        try:
            stacks[name] = images.layers_of(name)
            images.check_layers(stacks[name])
        except (Failure, OSError) as error:
            broken.append(Text(f"{name} is broken: {printable(str(error))}", "red"))
    users = collections.Counter(x for stack in stacks.values() for x in set(stack))
    sizes = {layer: layer.size() for layer in users if layer.path.is_dir()}
    grid = Table()
    grid.add_column("image", overflow="fold")
    grid.add_column("layers, the top one first", overflow="fold")
    grid.add_column("size", justify="right")
    grid.add_column("shared", justify="right")
    grid.add_column("digest")
    grid.add_column("from", overflow="fold")
    for name, stack in stacks.items():
        size = sum(sizes.get(layer, 0) for layer in stack)
        shared = sum(sizes.get(layer, 0) for layer in stack if users[layer] > 1)
        labels = Text(" ".join(printable(layer.label) for layer in stack))
        origin = origins.load(name)
        digest = origin.digest.partition(":")[2][:12] if origin else "-"
        reference = Text(printable(origin.reference) if origin else "-")
        numbers = decimal(size), decimal(shared) if shared else "-"
        grid.add_row(Text(name), labels, *numbers, digest, reference)
    copied = decimal(sum(sizes[layer] * users[layer] for layer in sizes))
    total = Text(
        f"{decimal(sum(sizes.values()))} on disk: each layer is stored once. "
        f"With a copy for each image it would be {copied}."
    )
    if blobs := sum(path.stat().st_size for path in oci.BLOBS.glob("*/*")):
        total.append(f"\nBlobs, to push what was pulled: {decimal(blobs)}.")
    return Group(grid, total, *broken), bool(broken)


def layers(image: str, stack: Sequence[Layer], found: Sequence[Entry]) -> Group:
    """Returns a table with a row for each layer of an image: its size, its files, and what
    it hides in the layers below."""
    grid = Table(title=Text(f"{printable(image)}, the top layer first"))
    grid.title_justify = "left"
    grid.add_column("layer", overflow="fold")
    for column in "size", "files", "seen", "hides", "whiteouts":
        grid.add_column(column, justify="right")
    counts = library.count(found, len(stack))
    sizes = [layer.size() for layer in stack]
    for layer, size, row in zip(stack, sizes, counts, strict=True):
        numbers = map(str, (row.files, row.seen, row.hides, row.whiteouts))
        grid.add_row(Text(printable(layer.label)), decimal(size), *numbers)
    seen = sum(row.seen for row in counts)
    total = Text(f"{decimal(sum(sizes))} in total. A container sees {seen} files.")
    return Group(grid, total)


def files(
    stack: Sequence[Layer], found: Sequence[Entry], paths: Sequence[str]
) -> list[str]:
    """Returns a line for each file: its path, its layer, and the layer that hides it. If
    there are paths, only those files and the files in those directories. Raises Failure if
    no layer has any of them."""
    wanted = [os.path.normpath("/" + path.strip("/")) for path in paths]
    chosen = [
        entry
        for entry in found
        if not wanted or any(_is_below(entry.path, path) for path in wanted)
    ]
    if wanted and not chosen:
        raise Failure(f"no layer has {' or '.join(paths)}")
    lines = []
    for entry in sorted(chosen, key=lambda entry: (entry.path, entry.layer)):
        line = f"{printable(entry.path)}  {printable(stack[entry.layer].label)}"
        if entry.is_whiteout:
            line += "  whiteout: the file is gone"
        if entry.hidden_by is not None:
            line += f"  hidden by {printable(stack[entry.hidden_by].label)}"
        lines.append(line)
    return lines


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def committed(name: str, layer: Layer, below: Sequence[Layer]) -> Group:
    """Returns a table that compares the size of a new layer with that of its whole image."""
    found = [e for e in library.entries([layer, *below]) if e.layer == 0]
    gone = sum(entry.is_whiteout for entry in found)
    delta = layer.size()
    whole = delta + sum(one.size() for one in below)
    grid = Table(title=Text(f"image {name}"), title_justify="left")
    grid.add_column("")
    grid.add_column("layers", justify="right")
    grid.add_column("size", justify="right")
    grid.add_row("the new layer, the delta", "1", decimal(delta))
    grid.add_row("the whole image", str(1 + len(below)), decimal(whole))
    text = f"{layer.path}  files: {len(found) - gone}  whiteouts: {gone}"
    return Group(grid, Text(text))
