"""Asks the host and a container the same questions, and puts the answers side by side."""

from __future__ import annotations

import dataclasses

from rich.box import Box
from rich.table import Table
from rich.text import Text

from workshop import bounded
from workshop.errors import Failure
from workshop.namespaces import KINDS
from workshop.project import Step

TIMEOUT = 60  # seconds that an answer may take
QUESTIONS = """
cat /proc/sys/kernel/hostname
echo $$
echo $(ls /)
for name in {}; do readlink /proc/self/ns/$name; done
""".format(" ".join(KINDS))  # each answer is one line


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a shell says about its surroundings."""

    hostname: str
    pid: str  # the shell's own
    root: str  # the names in /
    namespaces: dict[str, str]  # by kind: the number that identifies each


def ask(command: list[str]) -> Answers:
    """Returns the answers of a shell that is started by a command line, or on the host if it
    is empty. Raises Failure if it does not answer."""
    output = bounded.run([*command, "sh", "-c", QUESTIONS], TIMEOUT)
    lines = output.out.splitlines()
    if output.status != 0 or len(lines) != 3 + len(KINDS):
        raise Failure(output.err.strip() or output.problem() or "it did not answer")
    # Such as uts:[4026531838].
    links = [line.partition(":")[2].strip("[]") for line in lines[3:]]
    namespaces = dict(zip(KINDS, links, strict=True))
    return Answers(lines[0], lines[1], lines[2], namespaces)


def ask_container(step: Step) -> Answers:
    """Returns the answers from inside a container of step 04 or later."""
    options = ["--hostname", "container", "--net", "none"]
    return ask([str(step.container), "run", *options, "debian"])


def table(title: str, host: Answers, inside: Answers, lines: Box) -> Table:
    """Returns a table of the answers, which marks those that differ. lines: its style."""
    grid = Table(title=title, title_justify="left", box=lines)
    for heading in "", "host", "container", "":
        grid.add_column(heading)

    def add(name: str, left: str, right: str, differs: bool) -> None:
        mark = Text("differs", "bold green") if differs else Text("the same", "dim")
        grid.add_row(name, Text(left), Text(right), mark)

    add("hostname", host.hostname, inside.hostname, host.hostname != inside.hostname)
    # The shell's pid is different each time, so only the pid 1 says something.
    add("pid of the command", host.pid, inside.pid, inside.pid == "1")
    add("ls /", host.root, inside.root, host.root != inside.root)
    for kind, ours in host.namespaces.items():
        theirs = inside.namespaces[kind]
        add(f"{kind} namespace", ours, theirs, ours != theirs)
    return grid
