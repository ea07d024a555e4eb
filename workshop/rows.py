"""Rows of a picture of a container: lines of text about one subject, on the host and in the
container, and the short texts that they consist of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

LINES = 8  # of any list
SHARED = "shared with the host"


@dataclasses.dataclass(frozen=True)
class Row:
    """One subject, such as a kind of namespace, with lines of text for both sides."""

    name: str
    own: bool  # whether the container has its own
    host: list[str]
    inside: list[str]


def shortened(lines: Sequence[str], most: int = LINES) -> list[str]:
    """Returns the first lines of a list, and how many more there are."""
    rest = len(lines) - most
    return [*lines[:most], f"… {rest} more"] if rest > 0 else list(lines)


def size(number: int) -> str:
    """Returns a number of bytes as the option --memory takes it: 64M."""
    if number < 1 << 20:
        return f"{number / 1024:.0f}K"
    return f"{number / 2**20:.{1 if number < 10 << 20 else 0}f}M"


def bar(use: int, limit: int | None) -> str:
    """Returns a bar of ten characters, blank if there is no limit."""
    full = min(10, round(10 * use / limit)) if limit else 0
    return "█" * full + ("░" if limit else " ") * (10 - full)
