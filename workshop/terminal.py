"""What all subcommands do with the terminal: print to it, and read single keys from it."""

import contextlib
import sys
import termios
import tty
from collections.abc import Iterator

from rich.console import Console


def console() -> Console:
    """Returns where subcommands print: in colour on a terminal, without on a pipe."""
    return Console(highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Returns a text for one line, in which control characters are escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


@contextlib.contextmanager
def keys_one_by_one() -> Iterator[None]:
    """Makes the terminal pass on each key at once in the block, without waiting for Enter."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
