"""What is seen of a fact that does not hold, and its usual cause: for mistakes that the container
of diagnose.py does not show, because it is started by root, from an image with a name, and only
for a moment."""

from __future__ import annotations

import dataclasses
import re

from workshop.facts import Fact


@dataclasses.dataclass(frozen=True)
class Symptom:
    """A symptom of a mistake."""

    fact: str  # a part of the fact's name
    seen: str  # a pattern for what has happened, or what the runtime has printed
    cause: str


SYMPTOMS: list[Symptom] = []


def cause(fact: Fact) -> str | None:
    """Returns the usual cause of what is seen of a fact, or None if it is not a known one."""
    seen = f"{fact.happened or ''}\n{fact.said or ''}"
    for symptom in SYMPTOMS:
        if symptom.fact in fact.name and re.search(symptom.seen, seen):
            return symptom.cause
    return None
