"""The reports of a class: reads them, and makes tables of them."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from workshop.errors import UNREADABLE, Failure
from workshop.pages import day, page
from workshop.project import NUMBERS
from workshop.reports import Report
from workshop.terminal import count, printable

LARGEST = 4 << 20  # bytes of a file; a real report has a hundredth of that
LONGEST = 60  # characters of a name
COLUMNS = "name passed checked held facts hints lines when stuck".split()


@dataclasses.dataclass(frozen=True)
class Row:
    """A learner's report, for a table."""

    name: str
    report: Report

    @property
    def stuck_at(self) -> str:
        """The first fact that does not hold, with its step; "" if all hold."""
        failed = self.report.check.failed()
        return f"{failed[0].step} · {printable(failed[0].name)}" if failed else ""

    def rank(self) -> tuple[int, int, str]:
        """The key to sort rows by: who has come furthest is first."""
        return -len(self.report.passed), -self.report.check.held(), self.name.lower()


@dataclasses.dataclass(frozen=True)
class FailingFact:
    """A fact, and the learners for whom it does not hold."""

    step: str
    name: str
    learners: list[str]


def files(paths: Iterable[Path]) -> list[Path]:
    """Returns the files to read: each report.json below a directory, and every other path as
    it is. No file occurs twice, and those of a directory are in alphabetical order."""
    found: dict[Path, None] = {}
    for path in paths:
        inside = sorted(path.rglob("report.json")) if path.is_dir() else [path]
        found |= dict.fromkeys(one.absolute() for one in inside)
    return list(found)


def at_once(path: str, flags: int) -> int:
    """Opens a file for open(), but does not wait for somebody to write to it."""
    return os.open(path, flags | os.O_NONBLOCK)


def read(path: Path) -> Row:
    """Returns the report in a file. One without a learner's name gets the name of its
    directory. Raises Failure if the file contains no report, and FileNotFoundError."""
    try:
        # Nothing may keep the others waiting, such as a FIFO, or a link to /proc/kmsg.
        with open(path, "rb", opener=at_once) as file:
            data = file.read(LARGEST + 1) or b""
        if len(data) > LARGEST:
            raise ValueError("too large")
        report = Report.parse(json.loads(data))
    except FileNotFoundError:  # a mistake in the command, not in the report
        raise
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except UNREADABLE:
        raise Failure(f"{path} is not a report written by `workshop report`") from None
    name = (report.name or "").strip() or path.parent.name
    return Row(printable(name)[:LONGEST], report)


def most_failing(rows: Iterable[Row]) -> list[FailingFact]:
    """Returns the facts that do not hold for someone, the most frequent first."""
    learners = collections.defaultdict(list)
    for row in rows:
        for fact in row.report.check.failed():
            learners[fact.step, printable(fact.name)].append(row.name)
    found = [FailingFact(*fact, names) for fact, names in learners.items()]
    return sorted(found, key=lambda fact: (-len(fact.learners), fact.step, fact.name))


def learners_table(rows: Sequence[Row]) -> Table:
    """Returns a table with a row for each learner."""
    table = Table(title=count(len(rows), "report"))
    for heading in "name", "passed", "checked", "facts", "hints", "stuck at":
        table.add_column(heading, overflow="fold")
    for row in rows:
        report, check = row.report, row.report.check
        marks = "".join(n[1] if n in report.passed else "·" for n in NUMBERS)
        style = "red" if check.failed() else "green"
        table.add_row(
            Text(row.name),
            marks,
            f"{check.step}, {day(check.when)}",
            Text(f"{check.held()}/{len(check.facts)}", style),
            str(report.hints),
            Text(row.stuck_at),
        )
    return table


def facts_table(failing: Sequence[FailingFact], most: int = 10) -> Table:
    """Returns a table of the facts that fail most."""
    table = Table(title="the facts that fail most")
    for heading in "times", "step", "fact", "learners":
        table.add_column(heading, overflow="fold")
    for fact in failing[:most]:
        learners = Text(", ".join(fact.learners))
        table.add_row(str(len(fact.learners)), fact.step, Text(fact.name), learners)
    return table


def as_html(rows: Sequence[Row], failing: Sequence[FailingFact]) -> bytes:
    """Returns both tables as a page."""
    values = {"rows": rows, "failing": failing, "numbers": NUMBERS}
    return page("class.html", values)


def as_csv(rows: Iterable[Row]) -> bytes:
    """Returns the table of learners as CSV (RFC 4180), one line for each. Without the byte
    order mark, Excel takes UTF-8 for the encoding of its own country."""
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(COLUMNS)
    for row in rows:
        report, check = row.report, row.report.check
        cells: list[str | int | None] = [row.name, " ".join(report.passed), check.step]
        cells += [check.held(), len(check.facts), report.hints, report.lines]
        cells += [check.when, row.stuck_at]
        table.writerow([harmless(cell) for cell in cells])
    return file.getvalue().encode("utf-8-sig")


def harmless(cell: str | int | None) -> str:
    """Returns the text of a cell, quoted if a spreadsheet would take it for a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
