"""The certificate of a learner whose runtime has passed the last step."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from rich.panel import Panel
from rich.text import Text

from workshop import diagnose, progress, sandbox
from workshop.diagnose import Isolation
from workshop.namespaces import NAMESPACES
from workshop.pages import page
from workshop.project import STORY, Step
from workshop.reports import Report, lines_of_code
from workshop.terminal import count, printable
from workshop.workspace import Workspace, shown, write

TIMEOUT = 30  # seconds that the start of a container may take


@dataclasses.dataclass(frozen=True)
class Certificate:
    """What the certificate says about a learner and their runtime."""

    name: str  # the learner's; "": they write it themselves
    when: str  # the last step passed; ISO 8601
    lines: int | None  # of code
    facts: int  # that hold
    isolated: list[Isolation]
    steps: list[Step]
    sha256: str  # of the runtime


def certificate_of(workspace: Workspace) -> Certificate:
    """Returns the certificate for the runtime that has passed the last step, even if the
    learner has changed it since."""
    known, last = progress.load(workspace), STORY[-1].number
    source = progress.passed_source(workspace, last).read_bytes()
    with sandbox.staged(source) as staging:
        isolated = diagnose.isolation(staging, TIMEOUT)
    return Certificate(
        name=printable(known.name or ""),
        when=known.passed[last].when,
        lines=lines_of_code(source),
        facts=sum(
            passed.facts for number, passed in known.passed.items() if number <= last
        ),
        isolated=isolated,
        steps=STORY,
        sha256=hashlib.sha256(source).hexdigest(),
    )


def write_certificate(workspace: Workspace) -> tuple[Certificate, Path]:
    """Writes the certificate as a page. Returns it, and the path of the page."""
    certificate = certificate_of(workspace)
    path = workspace.folder / "certificate.html"
    isolates = {namespace.kind: namespace.isolates for namespace in NAMESPACES}
    values = {"certificate": certificate, "isolates": isolates}
    write(path, page("certificate.html", values))
    return certificate, path


def why_not(report: Report) -> str:
    """Returns why a learner whose runtime has not passed the last step has no certificate,
    and what to type."""
    last = STORY[-1].number
    command = f"`workshop check {int(last)}`"
    missing = len(report.check.failed())
    if report.check.step == last and missing:
        return f"{count(missing, 'fact')} missing in the last check. Type {command}"
    missed = [step.number for step in STORY if step.number not in report.passed]
    if len(missed) > 1:
        return f"steps {', '.join(missed)} have not passed"
    return f"step {last} has not passed. Type {command}"


def congratulation(workspace: Workspace) -> Panel:
    """Writes the certificate. Returns what to print when the last step has passed."""
    certificate, path = write_certificate(workspace)
    text = Text.assemble(
        ("You have built a container.\n\n", "bold"),
        f"{certificate.lines} lines of Python, and no container engine anywhere: only the\n"
        "system calls that Docker and Kubernetes use as well. All steps have passed.\n\n",
        ("Your certificate: ", "bold"),
        f"{shown(path)}\n",
        ("Now try: ", "bold"),
        f"sudo {workspace.name} run --net none --memory 64M debian bash",
    )
    return Panel(text, border_style="green", expand=False)
