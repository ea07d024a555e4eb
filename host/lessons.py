"""The lessons with their output, for slides and for the web site.

A lesson takes one or two minutes in an emulated VM, so what has run is kept, and the lessons run
again only when something that they depend on has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
import shutil
from collections.abc import Iterator, Sequence

from host import locks, sums
from host.commands import test
from host.errors import LabError, UsageError
from host.guest import Guest
from host.lab import Lab
from host.processes import quote
from host.providers import choose
from host.providers.base import Provider
from host.providers.local import Local

IN_VM = "/var/tmp/lessons"
# A lesson shows the steps and the guide, and its checks run the suites.
INPUTS = ("notebooks", "steps", "tests", "vagrant", "workshop")
NO_INPUTS = ("tests/lab", "tests/unit")
TEST = "tests/test_notebooks.py"


@dataclasses.dataclass(frozen=True)
class Ran:
    """Lessons that have run."""

    folder: pathlib.Path
    passed: bool  # whether every cell printed what it promises

    @property
    def notebooks(self) -> pathlib.Path:
        return self.folder / "notebooks"

    @property
    def slides(self) -> pathlib.Path:
        return self.folder / "slides"


def run(lab: Lab, numbers: Sequence[str] = ()) -> Ran:
    """Runs lessons in a VM that is thrown away, unless they have run there as they are. The
    test of the lessons runs them, and so checks them. numbers: of the lessons; all of them, and
    the appendices, unless there are numbers. Raises LabError if a lesson does not run to its
    end."""
    names = chosen(lab.settings.project / "notebooks", numbers)
    provider = choose.provider(lab)
    folder = lab.settings.state / "lessons"
    made_from = digest(lab.settings.project, [provider.name, *names])
    done = folder / "inputs"

    def waiting() -> None:
        lab.say("waiting for another ./lab that runs the lessons")

    lab.prepare_state()
    with locks.exclusive(lab.settings.state / "lessons.lock", waiting):
        if done.exists() and done.read_text() == made_from:
            lab.say("the lessons have not changed since they ran last")
            return Ran(folder, passed=True)
        shutil.rmtree(folder, ignore_errors=True)
        ran = Ran(folder, run_in(lab, provider, names, folder))
        if ran.passed:
            done.write_text(made_from)
    return ran


def run_in(
    lab: Lab, provider: Provider, names: Sequence[str], folder: pathlib.Path
) -> bool:
    """Runs these lessons and makes their slides, all in a new VM, and copies both to a
    directory. Returns whether every cell printed what it promises."""
    log = lab.log("lessons")
    root = "" if isinstance(provider, Local) else "sudo "
    with provider.throwaway() as guest, test.recorded(lab, guest):
        notebooks, slides = f"{IN_VM}/notebooks", f"{IN_VM}/slides"
        guest.check(f"{root}rm -rf {IN_VM} && {root}mkdir -p {notebooks}")
        words = [
            TEST,
            "-v",
            "--no-header",
            "--keep-lessons",
            notebooks,
            "-k",
            " or ".join(names),
        ]
        usual = "one or two minutes each if the VM is emulated"
        with lab.progress.stage("running the lessons", usual) as stage:
            command = test.command(lab, guest, words)
            passed = guest.run_in_stage(stage, command, log) == 0
        fetch(guest, notebooks, folder / "notebooks")
        found = {path.stem for path in (folder / "notebooks").glob("*.ipynb")}
        if missing := [name for name in names if name not in found]:
            raise LabError(
                f"these lessons did not run to their end: {' '.join(missing)}",
                f"The whole log is {log}",
            )
        numbers = [name[:2] for name in names if name[0].isdigit()]
        command = f"workshop slides --ran {notebooks} {slides} {quote(numbers)}"
        with lab.progress.stage("making slides of them", "30 s") as stage:
            if guest.run_in_stage(stage, command, log) != 0:
                raise LabError("the slides cannot be made", f"The whole log is {log}")
        fetch(guest, slides, folder / "slides")
    if not passed:
        lab.say(f"a lesson does not do what it promises: {log} says which cell")
    return passed


def fetch(guest: Guest, source: str, target: pathlib.Path) -> None:
    target.mkdir(parents=True)
    guest.fetch(source, target)


def chosen(folder: pathlib.Path, numbers: Sequence[str]) -> list[str]:
    """Returns the names of the lessons with these numbers, or of all notebooks. Raises
    UsageError if there is no lesson with one of the numbers."""
    names = sorted(path.stem for path in folder.glob("*.ipynb"))
    if not numbers:
        return names
    wanted = {number.zfill(2) for number in numbers}
    found = [name for name in names if name[:2] in wanted]
    if len(found) < len(wanted):
        raise UsageError(
            f"there is no lesson with one of the numbers {' '.join(numbers)}",
            f"The lessons are {' '.join(names)}.",
        )
    return found


def digest(project: pathlib.Path, words: Sequence[str]) -> str:
    """Returns a hash of everything that the lessons' output depends on."""
    total = hashlib.sha256(f"{' '.join(words)}\n".encode())
    for path in inputs(project):
        name = path.relative_to(project).as_posix()
        total.update(f"{sums.sha256(path)}  {name}\n".encode())
    return total.hexdigest()


def inputs(project: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields the files that the lessons' output depends on, in order, without what programs
    leave in directories such as .ipynb_checkpoints."""
    for folder in INPUTS:
        for path in sorted((project / folder).rglob("*")):
            name = path.relative_to(project)
            left = any(part.startswith((".", "__pycache__")) for part in name.parts)
            if path.is_file() and not (left or name.as_posix().startswith(NO_INPUTS)):
                yield path
