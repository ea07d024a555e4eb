"""A learner's progress: which steps have passed, and how many hints they have seen.

It is saved as JSON in my/.workshop/progress.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workshop.errors import UNREADABLE
from workshop.project import NUMBERS, STEPS, STORY, Step
from workshop.workspace import Workspace, make_folder, shown, write

VERSION = 1  # of the file
# Not in my/: a directory that is shared with another machine may have no locks.
LOCK = Path("/run/workshop-guide.lock")


@dataclasses.dataclass(frozen=True)
class Pass:
    """When a step has passed, and with how many facts."""

    when: str  # ISO 8601, with a time zone
    facts: int


@dataclasses.dataclass
class Progress:
    """A learner's progress. Steps are given by their numbers, two digits."""

    passed: dict[str, Pass] = dataclasses.field(default_factory=dict)
    hints: dict[str, int] = dataclasses.field(default_factory=dict)  # shown so far
    # Steps whose solution the learner has asked for before the step had passed.
    asked: list[str] = dataclasses.field(default_factory=list)
    at: str | None = None  # the snapshot that undo has gone back to
    name: str | None = None  # the learner's, for the report and the certificate

    def next_step(self) -> Step:
        """Returns the first step that has not passed after those that have, or, if there is
        none, the first one that was left out, then the encores, or the last one of them if
        all have passed."""
        left = [step for step in STEPS if step.number not in self.passed]
        story = [step for step in left if step in STORY]
        after = [step for step in story if step.number > (self.last_passed() or "")]
        return [*after, *story, *left, STEPS[-1]][0]

    def last_passed(self) -> str | None:
        """Returns the number of the highest step that has passed."""
        return max(self.passed, default=None)

    def finished(self) -> bool:
        """Returns whether all steps but the encores have passed."""
        return all(step.number in self.passed for step in STORY)

    def as_json(self) -> bytes:
        data = {"version": VERSION, **dataclasses.asdict(self)}
        return json.dumps(data, indent=1).encode() + b"\n"


def parse(data: bytes) -> Progress:
    """Returns the progress in the contents of progress.json. Raises one of UNREADABLE
    if that is not what as_json() writes."""
    saved: dict[str, Any] = json.loads(data)
    if saved["version"] != VERSION:
        raise ValueError(saved["version"])
    passed = {
        number: Pass(known["when"], known["facts"])
        for number, known in saved["passed"].items()
    }
    hints, asked = saved["hints"], saved["asked"]
    at, name = saved.get("at"), saved.get("name")
    if not {*NUMBERS}.issuperset([*passed, *hints, *asked]):
        raise ValueError("unknown step")
    for known in passed.values():
        datetime.datetime.fromisoformat(known.when)
    for count in [*(known.facts for known in passed.values()), *hints.values()]:
        if not isinstance(count, int) or count < 0:
            raise TypeError(count)
    if not isinstance(hints, dict) or not isinstance(asked, list):
        raise TypeError(asked)
    if not all(isinstance(text, str | None) for text in (at, name)):
        raise TypeError(name)
    return Progress(passed, hints, asked, at, name)


def path(workspace: Workspace) -> Path:
    return workspace.state / "progress.json"


def load(workspace: Workspace) -> Progress:
    """Returns the saved progress. An unreadable file is moved aside and reported."""
    file = path(workspace)
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return Progress()
    try:
        return parse(data)
    except UNREADABLE:
        aside = workspace.unused("progress-unreadable", ".json")
        file.rename(aside)
        print(
            f"workshop: {shown(file)} could not be read. It was renamed to {aside.name}, "
            "and your progress starts from the beginning.",
            file=sys.stderr,
        )
        return Progress()


@contextlib.contextmanager
def changing(workspace: Workspace) -> Iterator[Progress]:
    """Gives the block the progress, and saves it afterwards. No other process changes it
    in the meantime."""
    make_folder(workspace.state)
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        progress = load(workspace)
        yield progress
        write(path(workspace), progress.as_json())


def now() -> str:
    """Returns the time as ISO 8601, with a time zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def passed_source(workspace: Workspace, number: str | None) -> Path:
    """Returns the path of the runtime that a step has passed with."""
    return workspace.state / f"passed-{number}.py"


def record(
    workspace: Workspace, number: str, facts: dict[str, int], source: bytes
) -> None:
    """Saves that a step has passed with a runtime. `facts` has the number of facts for this
    step, and for those before it, which have passed as well."""
    with changing(workspace) as progress:
        for step, count in facts.items():
            if step == number or step not in progress.passed:
                progress.passed[step] = Pass(now(), count)
        write(passed_source(workspace, number), source)


def has_tried(workspace: Workspace, progress: Progress) -> bool:
    """Returns whether the learner has changed the runtime since a step passed."""
    passed = passed_source(workspace, progress.last_passed())
    before = passed if passed.exists() else STEPS[0].container
    return before.read_bytes() != workspace.container.read_bytes()
