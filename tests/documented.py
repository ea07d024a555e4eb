#!/usr/bin/env python3
"""Checks that every command in the README, the docs and the lessons was really run.

    tests/documented.py LOG...

LOG: a file that LAB_COMMANDS named while the tests ran. `./lab` appends its command line to
that file when it starts, `workshop` when it has succeeded, and
tests/lab/test_vagrant.py before each `vagrant`. Exit status: 0 if every documented
command is in a LOG, or is in NOT_RUN with the reason; 1 if some are not, which are then
listed. tests/test_docs.py runs the commands that begin with steps/ or diff, one by one.
"""

import os
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import NamedTuple

from pages import NOTEBOOKS, PAGES, PROJECT, commands

sys.path.append(str(PROJECT))
from host.dispatch import COMMANDS, FOR_OTHERS

# The documented commands that no test runs, and why.
NOT_RUN = {
    "vagrant rsync": "for the providers without a shared folder, which no test has",
    "./lab proof": "takes three hours on a machine that does nothing else",
    "./lab test --all": "CI runs its facts natively, by `./lab test`, and with --where vm",
}
# Subcommands of ./lab whose next word is a subcommand as well.
FAMILIES = ("classroom", "kernel")


def words_of_lab() -> set[str]:
    """Returns the subcommands of ./lab itself: all others are the guide's."""
    return {*COMMANDS, *FOR_OTHERS, "help", "--version"}


class Shape(NamedTuple):
    """A command without the words that differ from run to run: file names, numbers, and
    everything after `--`."""

    way: str  # LAB=local or LAB=vagrant in front of ./lab; "" if the command names no way
    program: str
    word: str
    options: frozenset[str]

    def covers(self, documented: "Shape") -> bool:
        """Returns whether this command, which ran, shows that a documented one
        works."""
        same = (self.program, self.word) == (documented.program, documented.word)
        # A command that names no way means a VM: LAB=local proves nothing about it.
        way = self.way == documented.way if documented.way else self.way != "LAB=local"
        return same and way and documented.options <= self.options


def shape(command: str) -> Shape:
    """Returns the Shape of one command line."""
    way, _, rest = (
        command.partition(" ") if command[:4] == "LAB=" else ("", "", command)
    )
    # The log has the words of a command without their quotes.
    program, *words = rest.split() or [""]
    words = words[: words.index("--")] if "--" in words else words
    plain = [word for word in words if not word.startswith("-")]
    family = program == "./lab" and plain[:1] and plain[0] in FAMILIES
    word = " ".join(plain[: 2 if family or program == "vagrant" else 1])
    if program == "vagrant":  # `vagrant box add FILE`, but `vagrant up`
        word = word if plain[:1] == ["box"] else "".join(plain[:1])
    options = frozenset(w.partition("=")[0] for w in words if re.match("--[a-z]", w))
    return Shape(way, program, word, options)


def wanted(command: str) -> list[Shape]:
    """Returns what must have been run for a documented command line. `./lab WORD`, where WORD
    is the guide's, runs the guide in the VM, so both must have been run: any such
    `./lab WORD`, and `workshop WORD` with these options."""
    found = []
    for part in command.split(" && "):
        one = shape(part)
        if one.program == "./lab" and one.word.split()[0] not in words_of_lab():
            found += [one._replace(options=frozenset())]
            one = one._replace(program="workshop", way="")
        found.append(one)
    return found


def documented() -> dict[str, list[str]]:
    """Returns {documented command: the names of the pages that show it}."""
    found: dict[str, list[str]] = {}
    for page in PAGES + NOTEBOOKS:
        if page.name == "tests.md":
            continue  # the list of what CI runs
        for command in commands(page):
            if command.startswith(("./lab", "LAB=", "vagrant", "workshop")):
                found.setdefault(command, []).append(
                    os.fspath(page.relative_to(PROJECT))
                )
    return found


def not_run(shown: Iterable[str], log: Iterable[str]) -> list[str]:
    """Returns the documented commands that neither the log nor NOT_RUN has."""
    ran = {shape(line) for line in log if line.strip()}
    excused = [shape(command) for command in NOT_RUN]
    return [
        command
        for command in shown
        for one in wanted(command)
        if not any(each.covers(one) for each in ran) and one not in excused
    ]


def main(paths: list[str]) -> int:
    """Prints the commands that were not run. Returns the exit status."""
    if not paths:
        print(f"usage: {sys.argv[0]} LOG...", file=sys.stderr)
        return 2
    shown = documented()
    log = [
        line for path in paths for line in pathlib.Path(path).read_text().splitlines()
    ]
    missing = not_run(shown, log)
    for command in dict.fromkeys(missing):
        pages = ", ".join(dict.fromkeys(shown[command]))
        print(f"not run by any test: {command}  ({pages})")
    for command, why in NOT_RUN.items():
        print(f"never run: {command}: {why}")
    print(f"{len(shown)} documented commands, {len(set(missing))} of them not run")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
