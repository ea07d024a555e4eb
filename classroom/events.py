"""What host/commands/seat.py reports while it starts a student's VM: a line of JSON for each event."""

from __future__ import annotations

import dataclasses
import json


@dataclasses.dataclass(frozen=True)
class Event:
    """An event while a VM starts."""

    text: str | None = None  # what happens, for the page that the student sees
    error: str | None = None  # why the VM could not be started
    ready: bool = False  # whether the notebook server starts


def parse(log: str) -> list[Event]:
    """Returns the events in a log. It ignores other lines, which other programs have written,
    and values of a wrong type."""
    found = []
    for line in log.splitlines():
        try:
            saved = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(saved, dict):
            text, error = saved.get("text"), saved.get("error")
            found.append(
                Event(
                    text if isinstance(text, str) else None,
                    error if isinstance(error, str) else None,
                    saved.get("ready") is True,
                )
            )
    return found
