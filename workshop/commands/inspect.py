"""`workshop inspect [CONTAINER]`: shows a container and its host side by side, as the kernel
sees them.

CONTAINER is the pid of a runtime or of a process in its container, or the container's host
name. Without it, the command shows the only container that is running. It works for the
containers of any container.py, finished or not, and for any other process, given by its pid.
At a terminal the picture is live. With --once, or on a pipe, there is one picture. In a
notebook, use `%inspect PID` or `%inspect BOX`.
"""

import os
import sys

from rich.console import Console
from rich.live import Live
from rich.text import Text

from workshop import containers
from workshop.command_line import Parser
from workshop.containers import Container
from workshop.errors import Failure
from workshop.inspection import Ended, look
from workshop.terminal import QUIT, keys_one_by_one, next_key
from workshop.views.text import WIDTH, drawing, listing

REFRESH = 1.0  # seconds from one live picture to the next


def main(arguments: list[str]) -> int:
    """Shows the picture. Returns the exit status."""
    parser = Parser(prog="workshop inspect")
    parser.add_argument("--once", action="store_true", help="one picture, not live")
    parser.add_argument("container", nargs="?", help="a pid, or a host name")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise Failure(
            "inspect reads other users' processes, and that needs root: "
            "type sudo workshop inspect"
        )
    if options.container is None:
        container = containers.only()
    else:
        container = containers.find(options.container)
    # `!workshop inspect` in a notebook's cell has a terminal, but no one types there.
    live = sys.stdin.isatty() and sys.stdout.isatty()
    live = live and "JPY_PARENT_PID" not in os.environ
    console = Console(highlight=False, width=None if live else WIDTH)
    if container is None:
        console.print(listing())
    elif live and not console.is_dumb_terminal and not options.once:
        watch(container, console)
    else:
        console.print(drawing(look(container)))
    return 0


def watch(container: Container, console: Console) -> None:
    """Refreshes the picture every second, until the container ends or someone types q."""
    hint = " (q quits)"
    picture = drawing(look(container), hint)
    try:
        with (
            keys_one_by_one(),
            Live(picture, console=console, auto_refresh=False) as live,
        ):
            while next_key(REFRESH) not in QUIT:
                live.update(drawing(look(container), hint), refresh=True)
    except KeyboardInterrupt:
        pass
    except Ended as error:
        console.print(Text(f"{error}. This was the last picture."))
