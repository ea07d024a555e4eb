"""The hints of a step, from its hints.md, and the hint about a fact that does not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workshop import symptoms
from workshop.facts import Fact
from workshop.project import Step
from workshop.refusals import ENDS, PIVOT_ROOT, RAISES, why_refused
from workshop.topics import Finding

OWN_ERROR = 125  # the exit status of a runtime for its own errors


def hints_of(step: Step) -> list[str]:
    """Returns the hints in the order in which they are shown, in Markdown. Each one gives
    away more than the one before."""
    text = (step.folder / "hints.md").read_text()
    parts = re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]
    return [" ".join(part.split()) for part in parts]


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
    starts = all(finding.topic != "start" for finding in findings)
    return symptoms.usual_cause(fact) if starts else None
