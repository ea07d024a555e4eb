"""Grades a runtime: checks step after step until one does not hold."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from workshop import facts, sandbox, suite_runner
from workshop.errors import Failure
from workshop.explanations import readable, what_happened
from workshop.facts import Fact
from workshop.project import Step
from workshop.staging import Staging
from workshop.startable import startable
from workshop.workspace import Workspace

LARGEST = 1 << 20  # bytes of a runtime
# If more facts of a step than this do not hold, the reason is not bad luck.
BAD_LUCK = 3


@dataclasses.dataclass(frozen=True)
class StepGrade:
    """How many facts of a step hold, of how many, and the first one that does not."""

    number: str
    held: int
    facts: int
    wrong: Fact | None

    def passed(self) -> bool:
        """Returns whether all facts hold. A step without facts has not passed."""
        return 0 < self.facts == self.held


@dataclasses.dataclass(frozen=True)
class Grade:
    """The grade of a runtime."""

    sha256: str  # of the runtime
    steps: tuple[StepGrade, ...]  # those that were checked
    wrong: str | None  # what does not hold, or why nothing could be checked

    def as_json(self) -> dict[str, Any]:
        """Returns the grade as `workshop grade` prints it."""
        return {
            "sha256": self.sha256,
            "steps": {step.number: [step.held, step.facts] for step in self.steps},
            "passed": [step.number for step in self.steps if step.passed()],
            "wrong": self.wrong,
        }


def grade(source: bytes, steps: Sequence[Step]) -> Grade:
    """Grades a runtime with these contents on these steps."""
    found: list[StepGrade] = []
    wrong: str | None = None
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        workspace = Workspace(Path(folder))
        workspace.container.write_bytes(source)
        workspace.container.chmod(0o755)
        try:
            if len(source) > LARGEST:
                raise Failure("it is larger than a megabyte")
            with sandbox.staged(startable(workspace)) as staging:
                first = suite_runner.first_run(staging, workspace.name)
                seconds = suite_runner.fact_seconds(first)
                for step in grade_steps(steps, staging, seconds):
                    found.append(step)
            if found and not found[-1].passed():
                wrong = reason(found[-1], workspace.name)
        except Failure as error:
            wrong = str(error)
    wrong = wrong and wrong.replace(f"{folder}/", "")
    return Grade(hashlib.sha256(source).hexdigest(), tuple(found), wrong)


def grade_steps(
    steps: Sequence[Step], staging: Staging, seconds: float
) -> Iterator[StepGrade]:
    """Checks the facts of these steps, up to a step that does not hold. Yields the grade of
    each step. `seconds`: how long one fact may take."""
    rest, good = list(steps), True
    while rest and good:
        # All that are left at once, because pytest takes its time to start.
        found = list(suite_runner.run(rest, staging, seconds, in_turn=True))
        checked = {rest[0].number} | {fact.step for fact in found}
        while rest and rest[0].number in checked:
            step = rest.pop(0)
            own = [fact for fact in found if fact.step == step.number]
            result = grade_step(step, own, staging, seconds)
            good = good and result.passed()
            yield result


def grade_step(
    step: Step, found: list[Fact], staging: Staging, seconds: float
) -> StepGrade:
    """Grades a step whose facts were checked. A few facts that do not hold are checked once
    more, each alone: bad luck on a busy machine does not count, so a runtime always gets the
    same grade."""
    if any(fact.late for fact in found):  # so the rest was not checked
        found = list(suite_runner.run([step], staging, seconds))
    late = any(fact.late for fact in found)
    if len(facts.failed(found)) <= BAD_LUCK and not late:
        found = [
            fact if fact.holds else once_more(step, fact, staging, seconds)
            for fact in found
        ]
    wrong = facts.failed(found)
    held = len(found) - len(wrong)
    return StepGrade(step.number, held, len(found), wrong[0] if wrong else None)


def once_more(step: Step, fact: Fact, staging: Staging, seconds: float) -> Fact:
    """Checks a fact again, alone. Returns it, with whether it holds now."""
    # The names of other facts may contain this one's.
    again = suite_runner.run([step], staging, seconds, fact.name)
    holds = any(other.holds for other in again if other.test == fact.test)
    return dataclasses.replace(fact, holds=holds)


def reason(step: StepGrade, name: str) -> str:
    """Returns what does not hold in a step that has not passed, in one line. `name`: the
    runtime's."""
    if step.wrong is None:
        return "no facts"
    happened = what_happened(step.wrong) or ""
    return f"{step.wrong.name}: {readable(happened, name, 1)}"
