"""Finds submissions, reads the grade that a VM prints for each, and writes tables of grades."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import pathlib
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping

from host.errors import LabError

STEPS = [f"{number:02}" for number in range(8)]
LONGEST = 300  # characters of an error message


@dataclasses.dataclass(frozen=True)
class Grade:
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
            # It could lead to the teacher's own files, or to one whose end never comes.
            if file != path and file.is_symlink():
                raise LabError(
                    f"{file} is a symbolic link",
                    "name the file that it leads to, if you want that to be graded",
                )
            name = submission_name(file)
            if name in found:
                raise LabError(f"{found[name]} and {file} are both called {name}")
            found[name] = file
    return found


def submission_name(path: pathlib.Path) -> str:
    """Returns a submission's name, which can also be the name of a file. macOS may write
    an umlaut as a letter and a mark, which is not a letter."""
    own = path.stem if path.name != "container.py" else path.resolve().parent.name
    own = unicodedata.normalize("NFC", own)
    return re.sub(r"[^\w.-]", "_", own)


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_grade(said: bytes, sha256: str, upto: str, otherwise: str) -> Grade:
    """Reads the grade in the last line that `workshop grade` printed. A submission can
    make it print anything, so if that is not a grade, `otherwise` says what went
    wrong."""
    try:
        values = json.loads(said.splitlines()[-1])
        steps = {
            str(step): [int(number) for number in counts]
            for step, counts in values["steps"].items()
        }
        passed = [step for step in STEPS if step in values["passed"]]
        wrong = None if values["wrong"] is None else str(values["wrong"])[:LONGEST]
    except (
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        AttributeError,
        RecursionError,
    ):
        return Grade(sha256, upto, {}, [], otherwise)
    return Grade(sha256, upto, steps, passed, wrong)


def known_grade(file: pathlib.Path, sha256: str, upto: str) -> Grade | None:
    """Returns the grade from an earlier run, if it is for the same submission."""
    try:
        grade = Grade(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return grade if grade.sha256 == sha256 and grade.upto == upto else None


def write_grade(file: pathlib.Path, grade: Grade) -> None:
    """Writes a grade, completely or not at all."""
    new = file.with_suffix(".json.new")
    new.write_text(grade.to_json())
    new.replace(file)


def printable(text: str) -> str:
    """Replaces the characters that XML or a terminal cannot show."""
    return "".join(c if c.isprintable() else "?" for c in text)


def write_csv(grades: Mapping[str, Grade], path: pathlib.Path) -> None:
    """Writes a table for a spreadsheet. Without the byte order mark that utf-8-sig writes,
    Excel takes UTF-8 for the encoding of its own country."""
    with open(path, "w", encoding="utf-8-sig", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "steps passed", *STEPS, "wrong"])
        for name, grade in sorted(grades.items()):
            # Not 5/8, which Excel would read as a date.
            counts = [
                " of ".join(map(str, grade.steps.get(step, []))) for step in STEPS
            ]
            cells = [name, str(len(grade.passed)), *counts, grade.wrong or ""]
            # A spreadsheet would read these as the beginning of a formula.
            table.writerow([re.sub(r"^([=+@\t\r-])", r"'\1", cell) for cell in cells])


def write_junit(grades: Mapping[str, Grade], path: pathlib.Path) -> None:
    """Writes JUnit's XML: a suite for each submission, a case for each step."""
    top = ElementTree.Element("testsuites")
    for name, grade in sorted(grades.items()):
        steps = STEPS[: int(grade.upto) + 1]
        suite = ElementTree.SubElement(top, "testsuite", name=name)
        for step in steps:
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=step)
            if step not in grade.passed:
                text = printable(grade.wrong or "")
                ElementTree.SubElement(case, "failure", message=text)
        suite.set("tests", str(len(steps)))
        suite.set("failures", str(len(steps) - len(grade.passed)))
    ElementTree.ElementTree(top).write(path, encoding="utf-8")
