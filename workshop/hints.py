"""The hints of a step, from its hints.md, and the hint about a fact that does not hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from workshop.facts import Fact
from workshop.project import Step
from workshop.refusals import ENDS, why_refused

OWN_ERROR = 125  # the exit status of a runtime for its own errors


def hints_of(step: Step) -> list[str]:
    """Returns the hints in the order in which they are shown, in Markdown. Each one gives
    away more than the one before."""
    text = (step.folder / "hints.md").read_text()
    parts = re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]
    return [" ".join(part.split()) for part in parts]


def best_hint(fact: Fact, findings: Sequence[str]) -> str | None:
    """Returns the sentence that is most likely to help with a fact that does not hold, or None
    if there is none. `findings`: what the runtime lacks, the most important first."""
    if refused := why_refused(fact.said or ""):
        return refused
    if fact.status == OWN_ERROR:  # the check already shows why the runtime has ended
        findings = [text for text in findings if not text.startswith(ENDS)]
    return findings[0] if findings else None
