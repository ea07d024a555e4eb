"""`workshop report [--out DIR] [--name NAME]`: writes what the last check has found, as JUnit
XML, as JSON, and as a page to read or print; and after the last step a certificate. Before that,
says why there is no certificate yet.

The pages load nothing. `workshop class` makes one table of the JSON of a whole class.
"""

import json
from pathlib import Path

from workshop import certificates, facts, progress, told
from workshop.command_line import Parser
from workshop.pages import page
from workshop.project import STORY
from workshop.reports import report_of
from workshop.staging import RUNTIME
from workshop.terminal import printable
from workshop.workspace import Workspace, make_folder, shown, write


def main(arguments: list[str]) -> int:
    """Writes the files, and prints where they are. Returns the exit status."""
    workspace, parser = Workspace.current(), Parser(prog="workshop report")
    text = "where to write it; by default, my/report"
    parser.add_argument("--out", metavar="DIR", help=text)
    text = "your name, for this report and the next ones"
    parser.add_argument("--name", help=text)
    options = parser.parse_args(arguments)
    facts.load(workspace)  # if nothing has been checked, do not save the name
    if options.name is not None:
        with progress.changing(workspace) as changed:
            changed.name = printable(options.name)
    report = report_of(workspace)
    folder = workspace.folder / "report"
    if options.out:
        folder = Path(options.out).absolute()
    make_folder(folder)
    data = json.dumps(report.as_json(), indent=1).encode()
    write(folder / "report.json", data)
    write(folder / "report.xml", facts.junit_path(workspace).read_bytes())
    values = {"report": report, "shown_runtime": str(RUNTIME), "places": told.places}
    write(folder / "report.html", page("report.html", values))
    print(f"{shown(folder)}: report.html to read, report.json, report.xml (JUnit)")
    if STORY[-1].number in report.passed:
        _, path = certificates.write_certificate(workspace)
        print(f"{shown(path)}: your certificate")
    else:
        print(f"no certificate yet: {certificates.why_not(report)}")
    return 0
