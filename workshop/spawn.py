"""How `!command` is started in a notebook: in a terminal of its own, by IPython with pexpect."""

from typing import Any

import pexpect


class Spawn(pexpect.spawn):  # type: ignore[misc]
    """A command whose last words are not lost.

    IPython reads for 0.05 seconds at a time. If there was nothing, pexpect 4.9 asks whether the
    command is still running, and takes "no" for the end of the output. So it loses what a
    command prints between the two, if the command also ends there. On a busy machine, Python
    may have to wait between them.
    """

    def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> Any:
        """Reads as pexpect.spawn does, but raises EOF only if nothing is left to read."""
        try:
            return super().read_nonblocking(size, timeout)
        except pexpect.EOF:
            return super().read_nonblocking(size, 0)
