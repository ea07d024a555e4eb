"""Grades: finds submissions, reads the mark that a VM reports, and writes tables."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import pathlib
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping

from host.errors import LabError

STEPS = [f"{number:02}" for number in range(8)]
LONGEST = 300  # characters of an error message


@dataclasses.dataclass(frozen=True)
class Mark:
    """Says which steps one submission passed."""

    sha256: str  # of the submission
    upto: str  # the last step that was asked for
    steps: dict[str, list[int]]  # for each step: facts that hold, all facts
    passed: list[str]
    wrong: str | None  # the first failure

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self)) + "\n"


def submissions(paths: Iterable[pathlib.Path]) -> dict[str, pathlib.Path]:
    """Returns {name: path} of files, and of every container.py in directories. The name
    is that of the file, or for a container.py that of its directory."""
    found: dict[str, pathlib.Path] = {}
    for path in paths:
        inside = sorted(path.rglob("container.py")) if path.is_dir() else [path]
        for file in inside:
            if not file.is_file():
                raise LabError(f"there is no file {file}")
            name = submission_name(file)
            if name in found:
                raise LabError(f"{found[name]} and {file} are both called {name}")
            found[name] = file
    return found


def submission_name(path: pathlib.Path) -> str:
    """Returns a submission's name, which can also be the name of a file."""
    own = path.stem if path.name != "container.py" else path.resolve().parent.name
    return re.sub(r"[^\w.-]", "_", own)


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_mark(said: bytes, sha256: str, upto: str, otherwise: str) -> Mark:
    """Reads the mark in the last line that `workshop grade` printed. A submission can
    make it print anything, so if that is not a mark, `otherwise` says what went
    wrong."""
    try:
        told = json.loads(said.splitlines()[-1])
        steps = {
            str(step): [int(number) for number in counts]
            for step, counts in told["steps"].items()
        }
        passed = [step for step in STEPS if step in told["passed"]]
        wrong = None if told["wrong"] is None else str(told["wrong"])[:LONGEST]
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RecursionError,
    ):
        return Mark(sha256, upto, {}, [], otherwise)
    return Mark(sha256, upto, steps, passed, wrong)


def known_mark(file: pathlib.Path, sha256: str, upto: str) -> Mark | None:
    """Returns the mark from an earlier run, if it is for the same submission."""
    try:
        mark = Mark(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return mark if mark.sha256 == sha256 and mark.upto == upto else None


def write_mark(file: pathlib.Path, mark: Mark) -> None:
    """Writes a mark, completely or not at all."""
    new = file.with_suffix(".json.new")
    new.write_text(mark.to_json())
    new.replace(file)


def printable(text: str) -> str:
    """Replaces the characters that XML or a terminal cannot show."""
    return "".join(c if c.isprintable() else "?" for c in text)


def write_csv(marks: Mapping[str, Mark], path: pathlib.Path) -> None:
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "steps passed", *STEPS, "wrong"])
        for name, mark in sorted(marks.items()):
            counts = ["/".join(map(str, mark.steps.get(step, []))) for step in STEPS]
            # A spreadsheet would read these as the beginning of a formula.
            wrong = re.sub(r"^([=+@\t\r-])", r"'\1", mark.wrong or "")
            table.writerow([name, len(mark.passed), *counts, wrong])


def write_junit(marks: Mapping[str, Mark], path: pathlib.Path) -> None:
    """Writes JUnit's XML: a suite for each submission, a case for each step."""
    top = ElementTree.Element("testsuites")
    for name, mark in sorted(marks.items()):
        steps = STEPS[: int(mark.upto) + 1]
        suite = ElementTree.SubElement(top, "testsuite", name=name)
        for step in steps:
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=step)
            if step not in mark.passed:
                text = printable(mark.wrong or "")
                ElementTree.SubElement(case, "failure", message=text)
        suite.set("tests", str(len(steps)))
        suite.set("failures", str(len(steps) - len(mark.passed)))
    ElementTree.ElementTree(top).write(path, encoding="utf-8")
