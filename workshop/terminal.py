"""What all subcommands do with the terminal: they print to it, and read single keys from it."""

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator

from rich.console import Console

QUIT = {"q", "Q", "\x03", "\x04", ""}  # q, Ctrl-C, Ctrl-D, the end of the input


def console() -> Console:
    """Returns where subcommands print: in colour on a terminal, without on a pipe."""
    return Console(highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Returns a text for one line, in which control characters are escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def count(number: int, thing: str) -> str:
    """Returns a number of things: 2 processes."""
    plural = thing + ("es" if thing.endswith("s") else "s")
    return f"{number} {thing if number == 1 else plural}"


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


def next_key(seconds: float | None = None) -> str | None:
    """Waits for a key, at most for so many seconds. Returns what the terminal sends for it: a
    letter, or an escape sequence; "" at the end of the input; None if no key was pressed."""
    if not select.select([0], [], [], seconds)[0]:
        return None
    key = data = os.read(0, 1)
    while data and key.startswith(b"\x1b") and select.select([0], [], [], 0.05)[0]:
        data = os.read(0, 1)
        key += data
    return key.decode(errors="replace")
