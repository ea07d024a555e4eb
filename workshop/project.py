"""The project's own files, its steps and its lessons, and where its runtimes keep theirs."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterable
from pathlib import Path

from workshop.errors import Failure

PROJECT = Path(__file__).resolve().parent.parent
STATE = Path("/var/lib/workshop")  # root filesystems, layers, images and containers


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of the workshop, such as steps/03_mnt."""

    name: str  # 03_mnt

    @property
    def number(self) -> str:
        """Two digits: 03."""
        return self.name[:2]

    @property
    def folder(self) -> Path:
        return PROJECT / "steps" / self.name

    @property
    def container(self) -> Path:
        """The runtime as it stands after this step."""
        return self.folder / "container.py"

    @property
    def breakout(self) -> Path:
        """The attack that this step stops. Step 00 has none."""
        return self.folder / "breakout.py"

    @property
    def suite(self) -> str:
        """The specification, as a path below PROJECT."""
        return f"tests/test_{self.name}.py"

    @property
    def previous(self) -> Step | None:
        index = STEPS.index(self)
        return STEPS[index - 1] if index else None

    def adds(self) -> str:
        """Returns what the step adds, from the first line of its runtime's docstring."""
        source = self.container.read_text()
        first, _, _ = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
        return first.partition(": ")[2].partition(". ")[0]


# Those that learners write: the others, such as 11_oci, have no hints.
STEPS = [
    Step(path.parent.name) for path in sorted(PROJECT.glob("steps/[0-9]*/hints.md"))
]
NUMBERS = [step.number for step in STEPS]
# The steps up to the runtime in fewer than 100 lines. Those after it are encores.
STORY = [step for step in STEPS if step.number <= "07"]


def find_step(number: str) -> Step:
    """Returns the step with a number as a learner types it: 3 or 03.
    Raises Failure if there is none."""
    for step in STEPS:
        if number.isascii() and number.isdigit() and number.zfill(2) == step.number:
            return step
    raise Failure(
        f"there is no step {number}: the steps are 0 to {int(STEPS[-1].number)}"
    )


def lessons(numbers: Iterable[str] = ()) -> list[Path]:
    """Returns the notebooks of the lessons with these numbers, or of all of them, in order: none
    where there are no notebooks, as in the browser tab's machine. Raises Failure if there is no
    lesson with one of the numbers."""
    found = sorted(PROJECT.glob("notebooks/[0-9][0-9]_*.ipynb"))
    known = {*NUMBERS, *(path.name[:2] for path in found)}
    chosen = {number.zfill(2): number for number in numbers}
    for wanted, number in chosen.items():
        if wanted not in known:
            last = int(max(known))
            raise Failure(f"there is no lesson {number}: the lessons are 0 to {last}")
    return [path for path in found if not chosen or path.name[:2] in chosen]
