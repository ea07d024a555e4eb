"""The hints of a step, from its hints.md."""

import re

from workshop.project import Step


def hints_of(step: Step) -> list[str]:
    """Returns the hints in the order in which they are shown, in Markdown. Each one gives
    away more than the one before."""
    text = (step.folder / "hints.md").read_text()
    parts = re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]
    return [" ".join(part.split()) for part in parts]
