"""Runs a command with limits on its time and on its output."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import subprocess
import time
from collections.abc import Sequence
from typing import Any

NOT_EXECUTABLE = 126  # the exit status that a shell gives for it
CHUNK = 65536  # bytes of one read


@dataclasses.dataclass(frozen=True)
class Output:
    """How a command has ended, and what it has printed."""

    status: int | None  # the exit status; None: it reached a limit, and was killed
    out: str
    err: str

    def problem(self) -> str | None:
        """Returns why the command did not succeed, in a line, or None if it did."""
        if self.status is None:
            return "it took too long, or printed too much"
        lines = self.err.strip().splitlines() or [f"exit status {self.status}"]
        return lines[0] if self.status else None

    def as_json(self) -> dict[str, Any]:
        """Returns it as a value that is fit for JSON. Output(**value) turns it back."""
        return dataclasses.asdict(self)


def run(command: Sequence[str], seconds: float, limit: int = 1 << 20) -> Output:
    """Runs a command without input. Kills it after `seconds`, or if it prints more than
    `limit` bytes. Returns its output so far."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return Output(NOT_EXECUTABLE, "", f"{error.strerror}\n")
    assert process.stdout and process.stderr  # because of PIPE
    end, status = time.monotonic() + seconds, None
    printed = {process.stdout: b"", process.stderr: b""}
    still_open = set(printed)
    with process, contextlib.suppress(subprocess.TimeoutExpired):
        try:
            while still_open and sum(map(len, printed.values())) < limit:
                left = max(end - time.monotonic(), 0)
                ready = select.select(still_open, [], [], left)[0]
                if not ready:
                    break
                for stream in ready:
                    data = os.read(stream.fileno(), CHUNK)
                    printed[stream] += data
                    if not data:
                        still_open.discard(stream)
            status = process.wait(0 if still_open else max(end - time.monotonic(), 0))
        finally:
            process.kill()  # unless it has ended
    out, err = (data.decode(errors="replace") for data in printed.values())
    return Output(status, out, err)
