"""Checks a learner's runtime against a step, prints what it finds, and saves it."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from rich.console import Console

from workshop import (
    certificates,
    diagnose,
    explanations,
    facts,
    hints,
    progress,
    sandbox,
    snapshots,
    suite_runner,
)
from workshop.errors import Failure
from workshop.facts import Check, Fact
from workshop.project import STEPS, STORY, Step
from workshop.staging import Staging
from workshop.startable import startable
from workshop.terminal import console
from workshop.workspace import Workspace


class NoFacts(Failure):
    """No fact of the step has the text of --only in its name."""


def check(
    workspace: Workspace, step: Step, only: str | None = None, alone: bool = False
) -> bool:
    """Checks the learner's runtime, prints what it finds, and saves it. `only`: a part of the
    names of the facts to check. `alone`: leave out the steps before. Returns whether all
    facts hold. Raises NoFacts if `only` is in no name, and Failure if the runtime cannot be
    started."""
    snapshots.take(workspace)
    source, out = startable(workspace), console()
    before = [] if only or alone else STEPS[: STEPS.index(step)]
    with sandbox.staged(source) as staging:
        seconds = suite_runner.first_run(staging, workspace.name)
        found = print_facts([step, *before], staging, seconds, only, workspace, out)
        if not found:
            raise NoFacts(f"no fact of step {step.number} has {only!r} in its name")
        junit = staging.junit.read_bytes()
        if wrong := facts.failed(found):
            lacks = diagnose.findings(step, staging, diagnose.start_seconds(seconds))
            if more := sum(hints.same_error(wrong[0], fact) for fact in wrong[1:]):
                out.print(explanations.same_errors(more, lacks))
            telling = hints.most_telling(wrong, lacks)
            explanations.explain(telling, lacks, workspace, out)
        untried = suite_runner.planned(staging, step)
        untried -= sum(fact.step == step.number for fact in found)
    out.print(explanations.last_line(step, found, bool(only), untried))
    if not only:
        save(workspace, step, found, source, junit)
        if not (wrong or alone) and step == STORY[-1]:
            out.print()
            out.print(certificates.congratulation(workspace), soft_wrap=False)
    return not wrong


def print_facts(
    steps: Sequence[Step],
    staging: Staging,
    first: float,
    only: str | None,
    workspace: Workspace,
    out: Console,
) -> list[Fact]:
    """Checks the facts of these steps, and prints each one, with a summary if it does not
    hold, but not those that have failed with the same error as the first one that does not
    hold. `first`: how many seconds the first run of the runtime took. Returns the facts."""
    found: list[Fact] = []
    failed: Fact | None = None  # the first one
    for fact in suite_runner.run(
        steps, staging, suite_runner.fact_seconds(first), only
    ):
        if fact.step != (found[-1].step if found else steps[0].number):
            out.print(f"Step {fact.step}", style="dim")
        found.append(fact)
        if failed and hints.same_error(failed, fact):
            continue
        out.print(explanations.line(fact))
        if not fact.holds:
            failed = failed or fact
            for line in explanations.summary(fact, workspace, out.width):
                out.print(line)
    return found


def save(
    workspace: Workspace, step: Step, found: list[Fact], source: bytes, junit: bytes
) -> None:
    """Saves what a check has found, for the report, and if all facts hold, the progress."""
    facts.save(workspace, Check.of(step, found, source), junit)
    if not facts.failed(found):
        counts = collections.Counter(fact.step for fact in found)
        progress.record(workspace, step.number, counts, source)
