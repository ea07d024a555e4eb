"""The scenes of a talk. They are in the metadata of the notebooks' cells, under "demo": a
title, the minutes in each cut of the talk, what to say, and perhaps commands to run."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from typing import Any

from workshop.project import lessons

CUTS = ["20", "45", "90"]  # the lengths that a talk can have, in minutes


@dataclasses.dataclass(frozen=True)
class Command:
    """A shell command of a scene, and a regular expression that its output must match."""

    line: str
    pattern: str

    def accepts(self, output: str) -> bool:
        return re.search(self.pattern, output, re.MULTILINE) is not None


@dataclasses.dataclass(frozen=True)
class Scene:
    """A part of a talk."""

    lesson: str  # two digits
    title: str
    minutes: float  # in the cut that is played
    say: str  # for the speaker
    commands: tuple[Command, ...] = ()
    # Shell commands around each of the others, which the audience does not see.
    before: str | None = None
    after: str | None = None


def parse(demo: dict[str, Any], lesson: str, minutes: float) -> Scene:
    """Returns the scene in a cell's metadata."""
    return Scene(
        lesson,
        demo["title"],
        minutes,
        demo["say"],
        tuple(Command(line, pattern) for line, pattern in demo.get("run", [])),
        demo.get("before"),
        demo.get("after"),
    )


def scenes(cut: str, numbers: Iterable[str] = ()) -> list[Scene]:
    """Returns the scenes of a cut, in order: those of the lessons with these numbers, or of
    all lessons. Raises Failure if there is no lesson with one of the numbers."""
    found = []
    for path in lessons(numbers):
        for cell in json.loads(path.read_text())["cells"]:
            demo = cell["metadata"].get("demo")
            if demo and cut in demo["minutes"]:
                found.append(parse(demo, path.name[:2], demo["minutes"][cut]))
    return found


def outline(parts: list[Scene], cut: str) -> str:
    """Returns a table in Markdown: when each scene begins, and how long it takes."""
    lines, begins = [f"| at | min | {cut} minutes |", "| --: | --: | --- |"], 0.0
    for scene in parts:
        clock = f"{int(begins)}:{begins % 1 * 60:02.0f}"
        lines.append(f"| {clock} | {scene.minutes:g} | {scene.title} |")
        begins += scene.minutes
    return "\n".join(lines)
