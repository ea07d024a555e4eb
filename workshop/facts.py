"""What a check has found: facts, as they travel from pytest to the guide and as they are saved,
in my/.workshop/last.json."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from workshop import progress
from workshop.errors import UNREADABLE, Failure
from workshop.progress import Progress
from workshop.project import NUMBERS, Step, find_step
from workshop.workspace import Workspace, make_folder, shown, write


@dataclasses.dataclass(frozen=True)
class Fact:
    """A fact about a runtime, and whether it holds. None: there is nothing to report."""

    step: str  # the number of its step, two digits
    name: str  # its test's name in plain words: "root is the image (debian)"
    holds: bool
    why: str  # what explains it, from the docstring of its test
    test: str = ""  # its test, as pytest calls it: "tests/test_03_mnt.py::test_…"
    seconds: float = 0.0
    late: bool = False  # whether its check took too long
    # The cells of lessons that tell what it demands: "03_mnt/spec 02_pid/spec-flags"
    told: str | None = None
    # Of a fact that does not hold:
    expected: str | None = None
    happened: str | None = None
    command: str | None = None  # the last one of the runtime that the test has run
    status: int | None = None  # its exit status; None: it was still running
    said: str | None = None  # its output, or the first and the last line of a long one
    assertion: str | None = None  # the statement of the test that has failed
    where: str | None = None  # its file and line

    def as_json(self) -> dict[str, Any]:
        """Returns the fact as a value that is fit for JSON, without what is None."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def parse(cls, data: Any) -> Fact:
        """Returns the fact in a value that as_json() has returned. Raises one of
        UNREADABLE if it is something else."""
        types = typing.get_type_hints(cls)
        values = {name: data[name] for name in types if name in data}
        for name, value in values.items():
            if not isinstance(value, types[name]):
                raise TypeError(f"{name}: {value!r}")
        fact = cls(**values)
        if fact.step not in NUMBERS:
            raise ValueError(f"step: {fact.step!r}")
        return fact


@dataclasses.dataclass(frozen=True)
class Check:
    """What one check of a runtime has found."""

    when: str  # ISO 8601, with a time zone
    step: str  # the number of the step that was checked
    facts: tuple[Fact, ...]  # also those of the steps before; at least one
    sha256: str  # of the runtime

    @classmethod
    def of(cls, step: Step, facts: Iterable[Fact], source: bytes) -> Check:
        """Returns a check that has just found these facts."""
        checksum = hashlib.sha256(source).hexdigest()
        return cls(progress.now(), step.number, tuple(facts), checksum)

    def failed(self) -> list[Fact]:
        """Returns the facts that do not hold."""
        return failed(self.facts)

    def held(self) -> int:
        """Returns the number of facts that hold."""
        return len(self.facts) - len(self.failed())

    def as_json(self) -> dict[str, Any]:
        """Returns the check as a value that is fit for JSON."""
        facts = [fact.as_json() for fact in self.facts]
        return {
            "when": self.when,
            "step": self.step,
            "facts": facts,
            "sha256": self.sha256,
        }

    @classmethod
    def parse(cls, data: Any) -> Check:
        """Returns the check in a value that as_json() has returned. Raises one of UNREADABLE
        if it is something else."""
        datetime.datetime.fromisoformat(data["when"])
        facts = tuple(Fact.parse(fact) for fact in data["facts"])
        if data["step"] not in NUMBERS or not facts:
            raise ValueError(data["step"])
        if not isinstance(data["sha256"], str):
            raise TypeError(data["sha256"])
        return cls(data["when"], data["step"], facts, data["sha256"])


def failed(facts: Sequence[Fact]) -> list[Fact]:
    """Returns those of the facts that do not hold."""
    return [fact for fact in facts if not fact.holds]


# ---- the last check, in the learner's directory


def junit_path(workspace: Workspace) -> Path:
    """Returns the path of the last check as JUnit XML."""
    return workspace.state / "last.xml"


def save(workspace: Workspace, check: Check, junit: bytes) -> None:
    """Saves what a check has found, as JSON and as JUnit XML."""
    make_folder(workspace.state)
    data = json.dumps(check.as_json(), indent=1).encode()
    write(workspace.state / "last.json", data)
    write(junit_path(workspace), junit)


def load(workspace: Workspace) -> Check:
    """Returns what the last check has found. Raises Failure if there was none, or if its
    file cannot be read."""
    path = workspace.state / "last.json"
    try:
        return Check.parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise Failure("nothing has been checked yet: type `workshop check`") from None
    except UNREADABLE:
        raise Failure(
            f"{shown(path)} could not be read: `workshop check` writes a new one"
        ) from None


def current_step(workspace: Workspace, known: Progress) -> Step:
    """Returns the step that a learner works on: the one of the last check, unless it has
    passed, and otherwise the next one."""
    with contextlib.suppress(Failure):
        checked = find_step(load(workspace).step)
        if checked.number not in known.passed:
            return checked
    return known.next_step()
