"""`workshop image ls` and `workshop image layers NAME [PATH...] [--files]`: what images are
made of, read from the directories that step 07 mounts."""

import os
from collections import Counter

from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from workshop import images
from workshop.command_line import Parser
from workshop.errors import Failure
from workshop.terminal import console, printable


def main(arguments):
    """Prints what is asked for. Returns the exit status."""
    parser = Parser(prog="workshop image")
    words = parser.add_subparsers(dest="word", required=True, metavar="ls|layers")
    words.add_parser("ls", help="the images, their sizes, and what they share")
    layers = words.add_parser("layers", help="which file comes from which layer")
    layers.add_argument("image", metavar="NAME", help="an image, or a directory's path")
    layers.add_argument(
        "paths", metavar="PATH", nargs="*", help="only these files, or what is below"
    )
    layers.add_argument("--files", action="store_true", help="every file by name")
    options = parser.parse_args(arguments)
    if options.word == "ls":
        return list_images()
    stack = images.layers_of(options.image)
    images.check_layers(stack)
    found = list(images.entries(stack))
    if options.paths or options.files:
        return list_files(stack, found, options.paths)
    return list_layers(options.image, stack, found)


def list_images():
    """A row for each image. Status 1 if one of them is broken: its row says why."""
    stacks, broken = {}, {}
    for name in images.names():
        stacks[name] = images.layers_of(name)
        try:
            images.check_layers(stacks[name])
        except Failure as error:
            broken[name] = str(error)
    users = Counter(layer for stack in stacks.values() for layer in set(stack))
    sizes = {layer: images.size(layer) for layer in users if layer.is_dir()}
    grid = Table()
    grid.add_column("image", overflow="fold")
    grid.add_column("layers, the top one first", overflow="fold")
    grid.add_column("size", justify="right")
    grid.add_column("shared", justify="right")
    for name, stack in stacks.items():
        whole = sum(sizes.get(layer, 0) for layer in stack)
        shared = sum(sizes.get(layer, 0) for layer in stack if users[layer] > 1)
        labels = Text(" ".join(printable(images.label(layer)) for layer in stack))
        grid.add_row(
            Text(name), labels, decimal(whole), decimal(shared) if shared else "-"
        )
    out = console()
    out.print(grid)
    counted = sum(sizes[layer] * users[layer] for layer in sizes)
    out.print(
        f"on disk {decimal(sum(sizes.values()))}: each layer is stored once; "
        f"with a copy for every image it would be {decimal(counted)}"
    )
    for name, why in broken.items():
        out.print(Text(f"{name} is broken: {printable(why)}", "red"))
    return 1 if broken else 0


def list_layers(image, stack, found):
    """A row for each layer: its size, its files, and what it takes from those below."""
    rows: list[Counter[str]] = [Counter() for _ in stack]
    for entry in found:
        if entry.whiteout:
            rows[entry.layer]["whiteouts"] += 1
            continue
        rows[entry.layer]["files"] += 1
        if entry.hidden is None:
            rows[entry.layer]["seen"] += 1
        else:
            rows[entry.hidden]["hides"] += 1
    grid = Table(title=Text(f"{printable(image)}, the top layer first"))
    grid.title_justify = "left"
    grid.add_column("layer", overflow="fold")
    for column in "size", "files", "seen", "hides", "whiteouts":
        grid.add_column(column, justify="right")
    sizes = [images.size(layer) for layer in stack]
    for layer, size, row in zip(stack, sizes, rows, strict=True):
        counts = [str(row[c]) for c in ("files", "seen", "hides", "whiteouts")]
        grid.add_row(Text(printable(images.label(layer))), decimal(size), *counts)
    seen = sum(row["seen"] for row in rows)
    out = console()
    out.print(grid)
    out.print(
        f"the whole: {decimal(sum(sizes))}, of which a container sees {seen} files"
    )
    return 0


def list_files(stack, found, paths):
    """A line for each file: its path, its layer, and what hides it. With paths, for those
    files and for what is below those directories. Failure: no layer has any."""
    wanted = [os.path.normpath("/" + path.strip("/")) for path in paths]
    lines = []
    for entry in found:
        if wanted and not any(
            entry.path == path or entry.path.startswith(path.rstrip("/") + "/")
            for path in wanted
        ):
            continue
        line = f"{printable(entry.path)}  {printable(images.label(stack[entry.layer]))}"
        if entry.whiteout:
            line += "  whiteout: it is gone"
        if entry.hidden is not None:
            line += f"  hidden by {printable(images.label(stack[entry.hidden]))}"
        lines.append((entry.path, entry.layer, line))
    if wanted and not lines:
        raise Failure(f"no layer has {' or '.join(paths)}")
    print(*(line for _, _, line in sorted(lines)), sep="\n", flush=True)
    return 0
