"""`workshop image`: lists images and their layers, as read from the directories that step 07
mounts; brings images in from registries and archives, sends them out, and removes them."""

import argparse
import signal
import sys
from pathlib import Path

from workshop import garbage, images, layers, oci, transfers
from workshop.command_line import FAILED, Parser
from workshop.terminal import console, count
from workshop.views import stacks
from workshop.views.transfers import arrived, bars

KINDS = {"oci": "oci-archive", "docker": "docker-archive"}


def main(arguments: list[str]) -> int:
    """Does what the first argument says. Returns the exit status."""
    parser = Parser(prog="workshop image")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("ls", help="list images, their sizes, and what they share")
    one = verbs.add_parser("layers", help="show which file comes from which layer")
    one.add_argument("image", metavar="NAME", help="an image, or a directory's path")
    text = "only this file, or the files in this directory"
    one.add_argument("paths", metavar="PATH", nargs="*", help=text)
    one.add_argument("--files", action="store_true", help="list every file")
    one = verbs.add_parser("pull", help="fetch an image from a registry")
    text = "such as alpine:3.22 or quay.io/fedora/fedora"
    one.add_argument("reference", metavar="REF", help=text)
    add_arrival_options(one)
    one = verbs.add_parser("import", help="unpack an image from a file")
    text = "an OCI archive, or what docker save writes"
    one.add_argument("file", metavar="FILE", type=Path, help=text)
    add_arrival_options(one)
    one = verbs.add_parser("export", help="write an image to a file")
    one.add_argument("image", metavar="NAME", help="an image")
    one.add_argument("file", metavar="FILE", type=Path, help="a new archive")
    text = "what podman loads, or what any Docker loads (default: oci)"
    one.add_argument("--format", choices=list(KINDS), default="oci", help=text)
    one = verbs.add_parser("push", help="send an image to a registry")
    one.add_argument("image", metavar="NAME", help="an image")
    one.add_argument("reference", metavar="REF", help="its name in the registry")
    one = verbs.add_parser("rm", help="remove an image, and layers only it uses")
    one.add_argument("image", metavar="NAME", help="an image")
    options = parser.parse_args(arguments)
    # After these signals, too, what is not finished must be removed.
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    return VERBS[options.verb](options)


def add_arrival_options(parser: argparse.ArgumentParser) -> None:
    """Adds what pull and import have in common."""
    text = "what to call it here (default: the last word, without the tag)"
    parser.add_argument("--name", metavar="NAME", help=text)
    text = f"such as linux/arm64 (default: {oci.own_platform()})"
    platform = oci.own_platform()
    parser.add_argument(
        "--platform", default=str(platform), metavar="OS/CPU", help=text
    )


def list_images(options: argparse.Namespace) -> int:
    """Prints the images. Returns FAILED if one is broken."""
    table, is_broken = stacks.overview()
    console().print(table)
    return FAILED if is_broken else 0


def list_layers(options: argparse.Namespace) -> int:
    """Prints the layers or files of an image."""
    stack = images.layers_of(options.image)
    images.check_layers(stack)
    found = list(layers.entries(stack))
    if options.paths or options.files:
        lines = stacks.files(stack, found, options.paths)
        print(*lines, sep="\n", flush=True)
    else:
        console().print(stacks.layers(options.image, stack, found))
    return 0


def bring_in(options: argparse.Namespace) -> int:
    """Pulls or imports an image."""
    platform = oci.parse_platform(options.platform)
    with bars(console()) as report:
        if options.verb == "pull":
            name = options.name or transfers.default_name(options.reference)
            arrival = transfers.pull(options.reference, name, platform, report)
        else:
            name = options.name or options.file.name.partition(".")[0]
            arrival = transfers.import_(options.file, name, platform, report)
    console().print(arrived(name, arrival))
    return 0


def send_out(options: argparse.Namespace) -> int:
    """Pushes or exports an image."""
    with bars(console()) as report:
        if options.verb == "push":
            target = options.reference
            digest = transfers.push(options.image, target, report)
        else:
            target, kind = options.file, KINDS[options.format]
            digest = transfers.export(options.image, target, kind, report)
    console().print(f"image {options.image}: in {target} as {digest}")
    return 0


def remove(options: argparse.Namespace) -> int:
    """Removes an image, and what only it has needed."""
    garbage.remove_image(options.image)
    gone = list(garbage.remove_unlisted())
    parts = " and ".join(
        count(sum(path.is_relative_to(place) for path in gone), thing)
        for place, thing in ((layers.LAYERS, "layer"), (oci.BLOBS, "blob"))
    )
    print(f"removed the image {options.image}, and {parts} that no image uses now")
    return 0


VERBS = {
    "ls": list_images,
    "layers": list_layers,
    "pull": bring_in,
    "import": bring_in,
    "export": send_out,
    "push": send_out,
    "rm": remove,
}
