"""The standard streams of `./lab`. Each of them can be closed, full, or a pipe that no one reads
any more, and their encoding can lack a character."""

from __future__ import annotations

import contextlib
import io
import os
import sys


def prepare() -> None:
    """Makes the standard streams take any text."""
    # A file that is opened here or in a child must not get the number of a closed stream.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0)
    sys.stdout = sys.stdout or open(1, "w")
    sys.stderr = sys.stderr or open(2, "w")
    for stream in sys.stdout, sys.stderr:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def flush() -> OSError | None:
    """Writes out what stdout has buffered. If that is not possible, returns the error, and
    from then on everything that is printed is lost."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _silence(1)
        return error
    return None


def complain(*lines: str) -> None:
    """Prints lines on stderr, if that is possible."""
    try:
        for line in lines:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        _silence(2)


def _silence(stream: int) -> None:
    """Sends a stream to the null device. Otherwise Python would report when it exits that
    it cannot write what the stream has buffered."""
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream)
        os.close(null)
