"""The standard streams of `workshop`. Each of them can be closed, full, or a pipe that no one reads
any more, and their encoding can lack the characters that the guide prints."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys

# What to print in an encoding that lacks the character, such as Latin-1.
LOOKALIKES = {"✓": "+", "✗": "-", "·": ".", "…": "...", "–": "-", "→": "->", "▸": ">"}
LOOKALIKES |= {"█": "#", "░": ".", "─": "-", "━": "-", "│": "|", "┃": "|"}


def prepare() -> None:
    """Makes the standard streams take any text."""
    # A file that is opened here or in a child must not get the number of a closed stream.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0)
    sys.stdout = sys.stdout or open(1, "w")
    sys.stderr = sys.stderr or open(2, "w")
    codecs.register_error("lookalike", _lookalike)
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lookalike")


def _lookalike(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(LOOKALIKES.get(c, "?") for c in missing), error.end


def flush() -> OSError | None:
    """Writes out what stdout has buffered. If that is not possible, returns the error, and
    from then on everything that is printed is lost."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence(1)
        return error
    return None


def unwritten(error: OSError) -> str:
    """Returns a line about an error of flush()."""
    return f"the output cannot be written: {error.strerror}"


def complain(line: str) -> None:
    """Prints a line on stderr, if that is possible."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _silence(2)


def _silence(stream: int) -> None:
    """Sends a stream to /dev/null. Otherwise Python would report when it exits that it
    cannot write what the stream has buffered."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream)
        os.close(null)
