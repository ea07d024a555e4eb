"""The hints of a step, from its hints.md, and the hint about a fact that does not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workshop import symptoms
from workshop.facts import Fact
from workshop.project import Step
from workshop.refusals import (
    ENDS,
    FILTERED,
    NO_EXIT,
    PIVOT_ROOT,
    RAISES,
    why_refused,
)
from workshop.topics import Finding

OWN_ERROR = 125  # the exit status of a runtime for its own errors


def hints_of(step: Step) -> list[str]:
    """Returns the hints in the order in which they are shown, in Markdown. Each one gives
    away more than the one before."""
    text = (step.folder / "hints.md").read_text()
    parts = re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]
    return [" ".join(part.split()) for part in parts]


def ends_itself(fact: Fact) -> bool:
    """Returns whether a fact does not hold because the runtime has ended with an error of its
    own."""
    return not fact.holds and fact.status == OWN_ERROR


def most_telling(wrong: Sequence[Fact], findings: Sequence[Finding]) -> Fact:
    """Returns which of the facts that do not hold a check explains: the first one, or the first
    one with a hint if the runtime itself has not already said why that one does not hold."""
    if ends_itself(wrong[0]):
        return wrong[0]
    return next((fact for fact in wrong if best_hint(fact, findings)), wrong[0])


def starts(findings: Sequence[Finding]) -> bool:
    """Returns whether a container starts that has all options."""
    return all(finding.topic not in ("start", "options") for finding in findings)


def same_error(one: Fact, other: Fact) -> bool:
    """Returns whether two facts do not hold because the runtime has ended with the same error
    of its own, apart from numbers such as pids, or because its filter has ended the command."""
    filtered = one.status in (FILTERED, *NO_EXIT)
    if not (one.holds or other.holds) and one.status == other.status and filtered:
        return True
    errors = {re.sub(r"\d+", "N", fact.said or "") for fact in (one, other)}
    return ends_itself(one) and ends_itself(other) and len(errors) == 1


def best_hint(fact: Fact, findings: Sequence[Finding]) -> str | None:
    """Returns the sentence that is most likely to help with a fact that does not hold, or None
    if nothing that is known explains it. `findings`: what the runtime lacks, the most
    important first."""
    if cause := symptoms.cause(fact):
        return cause
    refused = why_refused(fact.said or "") if fact.status == OWN_ERROR else None
    if refused == PIVOT_ROOT:  # which has several causes
        trees = [finding.text for finding in findings if finding.topic == "tree"]
        refused = next(iter(trees), refused)
    if refused:
        return refused
    for finding in findings:
        # The check already shows why the runtime has ended.
        repeated = fact.status == OWN_ERROR and finding.text.startswith((ENDS, RAISES))
        if finding.explains(fact) and not repeated:
            return finding.text
    return symptoms.usual_cause(fact) if starts(findings) else None
