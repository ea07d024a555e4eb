#!/usr/bin/env python3
"""Reads catalogue.py. As a program: writes docs/attacks.md."""

import inspect
import pathlib
import re

import catalogue

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
ROW = re.compile(
    r"(?P<title>.*): (?P<reference>[^:]*\)[^:]*|CVE[^:]*)\n"
    r'(Step (?P<step>\d\d): (?P<by>[^"]*)|Open( to root)?)( ?"(?P<says>[^"]*)")?\n'
    r"Engines: (?P<engines>.*)"
)
HEAD = """\
# Attacks on the container

What the literature knows, against what the steps add. At every change each row is run in
the lab's VM against the finished container, by root inside and by an ordinary user inside.
What a step stops is refused there in the kernel's own words, and has to work on the step
before, against something harmless. What step 00 and `linux.py` stop, has to work on a copy
without the line that stops it. What is **open** has to work on the finished container, so
that this page cannot claim too much.

It is made from the list with the attacks' code,
[tests/attacks/catalogue.py](../tests/attacks/catalogue.py), by
`python3 tests/attacks/table.py`.

| attack | reference | stopped by | by what | a real engine |
|---|---|---|---|---|
"""
TAIL = """
A real engine is one such as runc, crun, Docker or Podman, as it is set up by default; "the
same" is what the step does. Started by an ordinary user of the host, root inside is that
user outside: then step 05 holds back what this user may not do, and no more. What belongs
to the user, a Python or a cgroup of their own, is root's inside.
"""


class Attack:
    """A row: what the docstring says, and what catalogue.py knows besides."""

    # The groups of ROW.
    title: str
    reference: str
    step: str | None
    by: str | None
    says: str | None
    engines: str

    def __init__(self, function):
        text = inspect.getdoc(function) or ""
        match = ROW.fullmatch(text)
        assert match, f"{function.__name__} does not fit: {text}"
        self.__dict__.update(match.groupdict())
        self.name = function.__name__
        self.stopped_by = int(self.step) if self.step else None
        self.targets = list(inspect.signature(function).parameters)
        self.needs = catalogue.NEEDS.get(self.name)
        self.without = catalogue.WITHOUT.get(self.name)

    def row(self):
        step = self.step or "**open**"
        by = (self.by or "").strip() or (
            "an ordinary user inside is refused" if self.says else ""
        )
        cells = [self.title, self.reference, step, by, self.engines]
        return f"| {' | '.join(cells)} |\n"


ATTACKS = {
    name: Attack(value)
    for name, value in vars(catalogue).items()
    if "\nEngines: " in (inspect.getdoc(value) or "") and inspect.isfunction(value)
}


def page():
    return HEAD + "".join(attack.row() for attack in ATTACKS.values()) + TAIL


if __name__ == "__main__":
    PAGE.write_text(page())
