"""What the guide's commands have in common: a command line, keys that count at once, and
errors in one line."""

import argparse
import contextlib
import sys
import termios
import tty

from rich.console import Console

FAILED, MISUSED = 1, 2  # exit statuses


class Failure(Exception):
    """It cannot be done; the text is one line that says why."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose complaint is one line."""

    def error(self, message):
        """Says what is wrong with the command line. Never returns."""
        usage = " ".join(self.format_usage().split())
        self.exit(MISUSED, f"{self.prog}: {printable(message)}; {usage}\n")


def call(function, arguments):
    """Returns the exit status of function(arguments), a command. What goes wrong in it
    becomes one line on stderr and a status of FAILED."""
    try:
        return function(arguments)
    except Failure as error:
        line = str(error)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        return FAILED
    except OSError as error:
        line = ": ".join(str(x) for x in (error.filename, error.strerror or error) if x)
    except KeyboardInterrupt:
        return 130
    print(f"workshop: {printable(line)}", file=sys.stderr)
    return FAILED


def console():
    """Where commands print: a terminal with its colours, or a pipe without."""
    return Console(highlight=False, soft_wrap=True)


def printable(text):
    """A name as one line can show it: control characters and such escaped."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


@contextlib.contextmanager
def keys_one_by_one():
    """A terminal that hands over each key at once, in the block."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
