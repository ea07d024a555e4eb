"""`workshop class REPORT... [--out DIR]`: a class's reports as one table: who is where, where
people are stuck, and which facts fail most.

REPORT: a report.json of `workshop report`, or a folder with such files in it, at any depth. One
without a name gets that of its folder. --out: class.csv and class.html as well. Exit status 0;
1: a file is no report, which is told, and the others are shown; 2: wrong usage.
"""

import collections
import csv
import io
import json
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from workshop import learner
from workshop.commands import report
from workshop.command_line import FAILED, Parser
from workshop.errors import Failure
from workshop.terminal import console, printable

MOST = 4 << 20  # bytes of a file: a report has a hundredth of it
NUMBERS = [name[:2] for name in learner.STEPS]


def main(arguments):
    """Prints the tables. Returns the exit status."""
    parser = Parser(prog="workshop class")
    parser.add_argument("reports", nargs="+", metavar="REPORT", type=Path)
    parser.add_argument("--out", metavar="DIR", help="where to write CSV and HTML")
    options = parser.parse_args(arguments)
    rows, status = [], 0
    for path in files(options.reports):
        try:
            rows.append(read(path))
        except Failure as error:
            print(f"workshop: left out: {printable(str(error))}", file=sys.stderr)
            status = FAILED
    if not rows:
        raise Failure("there is no report in what was named")
    rows.sort(key=lambda row: (-len(row["passed"]), -row["held"], row["name"].lower()))
    out = console()
    out.print(people(rows), soft_wrap=False)
    if failing := most_failing(rows):
        out.print(facts(failing), soft_wrap=False)
    if options.out:
        folder = Path(options.out).absolute()
        learner.make_folder(folder)
        learner.write(folder / "class.csv", as_csv(rows))
        values = {"rows": rows, "failing": failing, "steps": NUMBERS}
        learner.write(folder / "class.html", report.page("class.html", values))
        out.print(
            f"{learner.shown(folder)}: class.csv, and class.html to read or print"
        )
    return status


def files(paths):
    """The files that are meant, each once, in the order of their names."""
    found: dict = {}
    for path in paths:
        inside = sorted(path.rglob("report.json")) if path.is_dir() else [path]
        found |= dict.fromkeys(one.absolute() for one in inside)
    return list(found)


def read(path):
    """A report, in short: {"name", "passed", "step", "held", "facts", "hints", "lines", "when",
    "wrong": [(step, fact)]}. Failure: the file is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise ValueError("too large")
        told = json.loads(data)
        found = [fact for step in told["steps"] for fact in step["facts"]]
        report.check_findings({**told, "facts": found})
        passed = [number for number in NUMBERS if number in told["passed"]]
        name, numbers = told["name"], (told["hints"], told["lines"] or 0)
        if not isinstance(name, str | None) or not all(
            isinstance(n, int) for n in numbers
        ):
            raise TypeError(name, numbers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Failure(f"{path} is no report of `workshop report`") from None
    wrong = [(fact["step"], fact["name"]) for fact in found if not fact["holds"]]
    return {
        "name": printable((name or "").strip() or path.parent.name)[:60],
        "passed": passed,
        "step": told["step"],
        "held": len(found) - len(wrong),
        "facts": len(found),
        "hints": told["hints"],
        "lines": told["lines"],
        "when": told["when"],
        "wrong": [(step, printable(fact)) for step, fact in wrong],
    }


def stuck(row):
    """Where somebody is stuck, as text: the first fact of the newest step that does not hold."""
    return "{} · {}".format(*row["wrong"][0]) if row["wrong"] else ""


def most_failing(rows):
    """[(how many it fails for, step, fact, [names])], the most frequent first."""
    names = collections.defaultdict(list)
    for row in rows:
        for fact in row["wrong"]:
            names[fact].append(row["name"])
    return sorted(
        [(len(who), *fact, who) for fact, who in names.items()],
        key=lambda entry: (-entry[0], entry[1:3]),
    )


def people(rows):
    table = Table(title=f"{len(rows)} reports")
    for heading in "who", "passed", "checked", "facts", "hints", "stuck at":
        table.add_column(heading, overflow="fold")
    for row in rows:
        marks = "".join(n[1] if n in row["passed"] else "·" for n in NUMBERS)
        held = Text(f"{row['held']}/{row['facts']}", "red" if row["wrong"] else "green")
        place = Text(stuck(row))
        checked = f"{row['step']}, {report.day(row['when'])}"
        table.add_row(Text(row["name"]), marks, checked, held, str(row["hints"]), place)
    return table


def facts(failing, most=10):
    table = Table(title="what fails most")
    for heading in "for", "step", "fact", "whose":
        table.add_column(heading, overflow="fold")
    for count, step, fact, who in failing[:most]:
        table.add_row(str(count), step, Text(fact), Text(", ".join(who)))
    return table


def as_csv(rows):
    """The first table as bytes of CSV (RFC 4180), one line for each learner."""
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow("name passed checked held facts hints lines when stuck".split())
    for row in rows:
        cells = [row["name"], " ".join(row["passed"]), row["step"], row["held"]]
        cells += [row["facts"], row["hints"], row["lines"], row["when"], stuck(row)]
        table.writerow([harmless(cell) for cell in cells])
    return file.getvalue().encode()


def harmless(cell):
    """A spreadsheet takes text with one of these in front for a formula."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
