"""`workshop image ls` and `workshop image layers NAME [PATH...] [--files]`: show which layers
images consist of, as read from the directories that step 07 mounts."""

from workshop import images, layers
from workshop.command_line import FAILED, Parser
from workshop.terminal import console
from workshop.views import stacks


def main(arguments: list[str]) -> int:
    """Prints the images, or the layers or files of one. Returns the exit status, FAILED if an
    image is broken."""
    parser = Parser(prog="workshop image")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|layers")
    verbs.add_parser("ls", help="list images, their sizes, and what they share")
    one = verbs.add_parser("layers", help="show which file comes from which layer")
    one.add_argument("image", metavar="NAME", help="an image, or a directory's path")
    text = "only this file, or the files in this directory"
    one.add_argument("paths", metavar="PATH", nargs="*", help=text)
    one.add_argument("--files", action="store_true", help="list every file")
    options = parser.parse_args(arguments)
    if options.verb == "ls":
        table, is_broken = stacks.overview()
        console().print(table)
        return FAILED if is_broken else 0
    stack = images.layers_of(options.image)
    images.check_layers(stack)
    found = list(layers.entries(stack))
    if options.paths or options.files:
        lines = stacks.files(stack, found, options.paths)
        print(*lines, sep="\n", flush=True)
    else:
        console().print(stacks.layers(options.image, stack, found))
    return 0
