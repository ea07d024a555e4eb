"""`workshop commit CONTAINER NAME`: saves what a container has written as a layer, on top of
the layers of its image. Together they are the image NAME."""

import signal
import sys

from workshop import commits, containers, images
from workshop.command_line import Parser
from workshop.terminal import console
from workshop.views import stacks


def main(arguments: list[str]) -> int:
    """Creates the image, and prints its size. Returns the exit status."""
    parser = Parser(prog="workshop commit")
    text = "the pid of the runtime or of a process in the container, or the host name"
    parser.add_argument("container", metavar="CONTAINER", help=text)
    parser.add_argument("name", metavar="NAME", help="the name of the new image")
    options = parser.parse_args(arguments)
    commits.check_unused(options.name)
    container = containers.find(options.container)
    commits.upper_of(container)
    image = containers.image_of(container.runtime)
    below = images.layers_of(image)
    images.check_layers(below)
    # After these signals, too, the commit must remove what it has not finished.
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    layer = commits.commit(container, options.name, below, image)
    console().print(stacks.committed(options.name, layer, below))
    return 0
