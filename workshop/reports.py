"""A learner's report: what their last check has found, their progress, and the size of their
runtime. `workshop report` writes it, `workshop class` reads it."""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import io
import tokenize
from typing import Any

from workshop import facts, progress
from workshop.facts import Check, Fact
from workshop.project import NUMBERS, find_step
from workshop.workspace import Workspace

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclasses.dataclass(frozen=True)
class StepReport:
    """The facts of one step."""

    name: str  # 03_mnt
    adds: str  # what the step adds to the runtime
    facts: tuple[Fact, ...]

    def held(self) -> int:
        """Returns the number of facts that hold."""
        return sum(fact.holds for fact in self.facts)

    def as_json(self) -> dict[str, Any]:
        """Returns it as it is in report.json."""
        return {
            "name": self.name,
            "adds": self.adds,
            "held": self.held(),
            "facts": [fact.as_json() for fact in self.facts],
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """A learner's report."""

    name: str | None  # the learner's
    passed: tuple[str, ...]  # the numbers of the steps that have passed so far
    hints: int  # how many hints the learner has seen
    check: Check  # the last one
    runtime: str  # as the guide calls it: my/container.py
    lines: int | None  # of code in the runtime; None: it is not valid Python
    changed_since: bool  # whether the runtime has changed after the check

    def steps(self) -> list[StepReport]:
        """Returns the steps that were checked, the last one first."""
        found = []
        for number in sorted({fact.step for fact in self.check.facts}, reverse=True):
            step = find_step(number)
            own = tuple(fact for fact in self.check.facts if fact.step == number)
            found.append(StepReport(step.name, step.adds(), own))
        return found

    def as_json(self) -> dict[str, Any]:
        """Returns it as it is in report.json."""
        return {
            "name": self.name,
            "passed": list(self.passed),
            "hints": self.hints,
            "when": self.check.when,
            "step": self.check.step,
            "runtime": self.runtime,
            "lines": self.lines,
            "sha256": self.check.sha256,
            "changed_since": self.changed_since,
            "held": self.check.held(),
            "facts": len(self.check.facts),
            "steps": [step.as_json() for step in self.steps()],
        }

    @classmethod
    def parse(cls, data: Any) -> Report:
        """Returns the report in a value that as_json() has returned. Raises one of
        errors.UNREADABLE if it is something else."""
        found = [fact for step in data["steps"] for fact in step["facts"]]
        check = Check.parse({**data, "facts": found})
        name, hints, lines = data["name"], data["hints"], data["lines"]
        for value, kind in (name, str | None), (hints, int), (lines, int | None):
            if not isinstance(value, kind):
                raise TypeError(value)
        passed = tuple(number for number in NUMBERS if number in data["passed"])
        runtime = str(data.get("runtime"))
        changed = bool(data.get("changed_since"))
        return cls(name, passed, hints, check, runtime, lines, changed)


def report_of(workspace: Workspace) -> Report:
    """Returns a learner's report. Raises Failure if nothing has been checked, or if there is
    no runtime."""
    check, source = facts.load(workspace), workspace.source()
    known = progress.load(workspace)
    return Report(
        name=known.name,
        passed=tuple(sorted(known.passed)),
        hints=sum(known.hints.values()),
        check=check,
        runtime=workspace.name,
        lines=lines_of_code(source),
        changed_since=hashlib.sha256(source).hexdigest() != check.sha256,
    )


def lines_of_code(source: bytes) -> int | None:
    """Returns the number of lines that are code: without blank lines, comments and
    docstrings. Returns None if the source is not valid Python."""
    try:
        tree = ast.parse(source)
        tokens = list(tokenize.tokenize(io.BytesIO(source).readline))[1:]
    except (SyntaxError, ValueError, tokenize.TokenError):
        return None
    lines: set[int] = set()
    for token in tokens:
        if token.type not in NOT_CODE:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(tree):
        kinds = ast.Module | ast.FunctionDef | ast.ClassDef
        if isinstance(node, kinds) and ast.get_docstring(node) is not None:
            first = node.body[0]
            lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return len(lines)
