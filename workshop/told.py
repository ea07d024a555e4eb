"""Where the lessons tell what a fact demands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workshop.errors import UNREADABLE, Failure
from workshop.facts import Fact
from workshop.project import lessons


def places(fact: Fact) -> str | None:
    """Returns where the lessons tell what a fact demands: "lesson 3, under 'Build it'". Returns
    None if the fact names no cell, or none that exists."""
    found = [place for cell in (fact.told or "").split() if (place := place_of(cell))]
    return "; ".join(dict.fromkeys(found)) or None


def place_of(cell: str) -> str | None:
    """Returns the place of a cell such as "03_mnt/spec", by the nearest heading above it."""
    lesson, _, name = cell.partition("/")
    heading = ""
    try:
        [path] = lessons([lesson[:2]])
        for other in cells(path):
            inside = list(headings(other))
            if other.get("id") == name:
                # A cell can begin with its own heading.
                if inside and "".join(other["source"]).lstrip().startswith("#"):
                    heading = inside[0]
                return f"lesson {int(lesson[:2])}, under '{heading}'"
            heading = [heading, *inside][-1]
    except (Failure, OSError, *UNREADABLE):
        pass
    return None


def cells(path: Path) -> list[dict[str, Any]]:
    """Returns the cells of a notebook, which is JSON."""
    found: list[dict[str, Any]] = json.loads(path.read_bytes())["cells"]
    return found


def headings(cell: dict[str, Any]) -> Iterator[str]:
    """Yields the headings in a cell, without the marks of Markdown."""
    if cell["cell_type"] != "markdown":
        return
    text = re.sub(r"^```.*?^```", "", "".join(cell["source"]), flags=re.M | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.*\S)", text, re.MULTILINE):
        yield re.sub(r"[`*]|</?\w+>", "", heading)
