"""Tells the user about an error: in one line on stderr, and by the exit status.

The exit statuses are those of shells and container engines: the command's own, 128 + N when
signal N killed it, and the three below.
"""

import os
import sys

OWN_ERROR, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127


class Failure(SystemExit):
    """A line for the user and an exit status. With sys.exit("a line") that status is 125."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


def complain(text: str) -> None:
    """Prints a line on stderr, with the program's name in front and control characters
    escaped."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    try:
        print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody reads stderr any more, but the clean-up must go on


def report(error: BaseException) -> int:
    """Prints an OSError or a SystemExit in one line. Returns the exit status."""
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        complain(str(error.code))
        return getattr(error, "status", OWN_ERROR)
    line = one_line(error)
    if isinstance(error, PermissionError) and os.geteuid() and not _notes(error):
        line += "; try again with sudo"
    complain(line)
    return OWN_ERROR


def one_line(error: BaseException) -> str:
    """Returns an error as one line: what failed, on which files, and what to do about it. An
    exception that is not an OSError is a mistake in container.py: its line there, its class and
    its text. Imports nothing, because after pivot_root(2) the standard library is out of
    reach."""
    if not isinstance(error, OSError):
        return f"{_place(error)}{type(error).__name__}: {error}"
    names = error.filename, error.filename2
    line = error.strerror or str(error)
    if names[0] is None and ": " not in line:  # neither a file nor a system call
        line = _place(error) + line
    line += "".join(f": {name!r}" for name in names if name is not None)
    return "; ".join([line, *_notes(error)])


def _notes(error: BaseException) -> list[str]:
    """Returns the hints of an error: PEP 678. If a directory here has the name of the image
    that does not exist, that is the only hint."""
    missing = error.filename if isinstance(error, FileNotFoundError) else None
    directory = os.path.basename(missing) if isinstance(missing, str) else ""
    if directory and missing != directory and os.path.isdir(directory):
        return [f"if you mean the directory here, type ./{directory}"]
    return list(getattr(error, "__notes__", ()))


def _place(error: BaseException) -> str:
    """Returns where in container.py an exception comes from, as "line 12: ", or ""."""
    place, frame = "", error.__traceback__
    while frame:
        if frame.tb_frame.f_code.co_filename == sys.argv[0]:
            place = f"line {frame.tb_lineno}: "
        frame = frame.tb_next
    return place
