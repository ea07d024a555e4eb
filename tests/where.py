#!/usr/bin/env python3
"""Prints which fact runs where, and writes it to docs/tests.md. It needs no root,
because it does not run the facts: it collects them, as `pytest --collect-only` does.

    tests/where.py [--write]
"""

import collections
import contextlib
import io
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from ci import PHASES
from conftest import NEEDS, needs_of

PROJECT = pathlib.Path(__file__).resolve().parent.parent
PAGE = PROJECT / "docs" / "tests.md"
HEAD = """\
# Which fact runs where

A *fact* is one test with one set of parameters. CI runs these parts:

| part | where | command |
|---|---|---|
"""
NEEDED = """
The part `unit` needs no root, no VM and no network. A fact in the part `native` needs
only Linux, root, the packages that `LAB=local` installs and, if it is about images, Debian's
docker-registry, podman and skopeo. Every other fact of the suite has a marker that says what
else it needs, for example `@pytest.mark.needs("cgroup2")`:

| need | what it is | facts |
|---|---|--:|
"""
FILES = """
Some facts have two needs. `--where native` selects the facts without a marker, and `--where vm`
those with one, so together they select the whole suite. With either option, a fact that
would skip itself fails instead. Without the option, every fact runs.

| file | native | VM |
|---|--:|--:|
"""
TAIL = """
`tests/where.py --write` generates this page from the suite, and a unit test checks that
the page is up to date.
"""


class Collected:
    """A plugin for pytest that keeps the collected tests."""

    items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


def facts() -> list[tuple[str, set[str]]]:
    """Returns, for every fact, its file in tests/ and its needs."""
    os.environ.pop("WORKSHOP_FULL", None)
    os.chdir(PROJECT)
    collected, said = Collected(), io.StringIO()
    words = ["--collect-only", "-q", "-p", "no:cacheprovider", "tests"]
    with contextlib.redirect_stdout(said):
        status = pytest.main(words, plugins=[collected])
    if status != pytest.ExitCode.OK:
        sys.exit(f"{said.getvalue()}where.py: pytest could not collect the suite")
    tests = PROJECT / "tests"
    return [(str(i.path.relative_to(tests)), needs_of(i)) for i in collected.items]


def page() -> str:
    """Returns the text of docs/tests.md."""
    found = [
        (file, needs)
        for file, needs in facts()
        if not file.startswith(("unit/", "lab/"))
    ]
    native = collections.Counter(file for file, needs in found if not needs)
    vm = collections.Counter(file for file, needs in found if needs)
    by_need = collections.Counter(need for _, needs in found for need in needs)
    parts = [
        f"| {part.name} | {part.where} | `{' '.join(words)}` |\n"
        for phase in PHASES
        for lane in phase
        for part in lane
        for words in part.commands
    ]
    needs = [f"| `{need}` | {NEEDS[need]} | {by_need[need]} |\n" for need in NEEDS]
    files = sorted({file for file, _ in found})
    rows = [f"| {file} | {native[file]} | {vm[file]} |\n" for file in files]
    rows.append(f"| **all** | **{native.total()}** | **{vm.total()}** |\n")
    return (
        HEAD + "".join(parts) + NEEDED + "".join(needs) + FILES + "".join(rows) + TAIL
    )


if __name__ == "__main__":
    text = page()
    print(text, end="")
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(text)
