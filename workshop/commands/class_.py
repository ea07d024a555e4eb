"""`workshop class REPORT... [--out DIR]`: makes one table of the reports of a class: where
everyone is, where they are stuck, and which facts fail most.

REPORT: a report.json of `workshop report`, or a directory with such files in it, at any depth.
A report without a name gets the name of its directory. --out: also write class.csv and class.html.
Exit status: 0; 1 if a file is not a report: it is named, and the others are shown; 2 for wrong
usage.
"""

import sys
from pathlib import Path

from workshop import class_reports
from workshop.command_line import FAILED, Parser
from workshop.errors import Failure
from workshop.terminal import console, printable
from workshop.workspace import make_folder, shown, write


def main(arguments: list[str]) -> int:
    """Prints the tables. Returns the exit status."""
    parser = Parser(prog="workshop class")
    parser.add_argument("reports", nargs="+", metavar="REPORT", type=Path)
    parser.add_argument("--out", metavar="DIR", help="where to write CSV and HTML")
    options = parser.parse_args(arguments)
    rows, status, out = [], 0, console()
    for path in class_reports.files(options.reports):
        try:
            rows.append(class_reports.read(path))
        except Failure as error:
            print(f"workshop: left out: {printable(str(error))}", file=sys.stderr)
            status = FAILED
    if not rows:
        raise Failure("there is no report in these files and directories")
    rows.sort(key=class_reports.Row.rank)
    failing = class_reports.most_failing(rows)
    out.print(class_reports.learners_table(rows), soft_wrap=False)
    if failing:
        out.print(class_reports.facts_table(failing), soft_wrap=False)
    if options.out:
        folder = Path(options.out).absolute()
        make_folder(folder)
        write(folder / "class.csv", class_reports.as_csv(rows))
        write(folder / "class.html", class_reports.as_html(rows, failing))
        out.print(f"{shown(folder)}: class.csv, and class.html to read or print")
    return status
