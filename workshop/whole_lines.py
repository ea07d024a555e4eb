"""Output in whole lines. A program writes its errors in pieces, and where stdout and stderr are
shown in one place, a piece of the one could come between two pieces of the other."""

from __future__ import annotations

import codecs
import time

MOMENT = 0.3  # seconds that the beginning of a line waits for the rest
LONGEST = 65536  # characters that wait at most


class WholeLines:
    """Takes what arrives from a pipe, and returns what can be shown by now."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held, self._since = "", 0.0

    @property
    def waiting(self) -> bool:
        """Whether the beginning of a line waits: rest() must be called after a MOMENT."""
        return bool(self._held)

    def add(self, data: bytes) -> str:
        """Takes what has arrived. Returns the lines that have ended, and the line that has not
        if it is long or has waited for a MOMENT."""
        now = time.monotonic()
        if not self._held:
            self._since = now
        text = self._held + self._decoder.decode(data)
        end = len(text)
        if end <= LONGEST and now - self._since < MOMENT:
            end = text.rfind("\n") + 1
        if end:
            self._since = now
        self._held = text[end:]
        return text[:end]

    def rest(self) -> str:
        """Returns what has waited."""
        text, self._held = self._held, ""
        return text
