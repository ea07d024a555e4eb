#!/usr/bin/env python3
"""Runs the whole suite, under load, and writes the page of all figures: FOLDER/PROOF.md. The
benchmark's are those in FOLDER/proof, where bench.py has put them. `./lab proof` does both.

    sudo bench/proof.py FOLDER
"""

import collections
import datetime
import json
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

from bench import page, row, table

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path.append(str(PROJECT / "tests"))
from mutants import EVERY_LINE, MUTANTS, NO_DIFFERENCE

# The benchmark has just executed them.
LESSONS = "tests/test_notebooks.py::test_executes_and_shows_what_it_promises"
GUIDE = "box classroom demo doctor guide images inspect".split()
COVERAGE = [sys.executable, "-m", "coverage"]
HEAD = """# The proof

Everything on this page was measured and written by one command, `./lab proof`, on {day}. It
is a lesson's runtime and not a security boundary: see also [what is open](attacks.md).
"""


class Case:
    """A test's result: its file, its name, whether it held, seconds, what it has recorded."""

    def __init__(self, element):
        self.file = element.get("classname").removeprefix("tests.").replace(".", "/")
        self.name, self.seconds = element.get("name"), float(element.get("time"))
        self.held = not [e for e in element if e.tag in ("failure", "error", "skipped")]
        self.told = {p.get("name"): p.get("value") for p in element.iter("property")}


def run_suite(folder):
    """Run it, that of the guide with its coverage measured: there it slows down nothing that
    is about time. Returns (its Cases, the coverage's totals)."""
    os.makedirs("/var/tmp/workshop-coverage", exist_ok=True)
    totals, cases = folder / "proof/coverage.json", []
    full = os.environ | {"WORKSHOP_FULL": "1"}
    guide = [f"tests/test_{name}.py" for name in GUIDE]
    others = ["tests", *(f"--ignore={path}" for path in guide), f"--deselect={LESSONS}"]
    for start, words in ([sys.executable], others), ([*COVERAGE, "run"], guide):
        report = folder / "suite.xml"
        words = [
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            f"--junitxml={report}",
            *words,
        ]
        subprocess.run([*start, *words], cwd=PROJECT, env=full, check=False)
        tree = xml.etree.ElementTree.parse(report)
        cases += [Case(element) for element in tree.iter("testcase")]
        report.unlink()
    subprocess.run([*COVERAGE, "combine", "-q"], cwd=PROJECT, check=False)
    subprocess.run([*COVERAGE, "json", "-q", "-o", totals], cwd=PROJECT, check=False)
    files = json.loads(totals.read_text())
    totals.unlink()
    return cases, files


def suite(cases):
    lines = ["## The suite", "", *table("file", "facts", "hold", "s")]
    by_file = collections.defaultdict(list)
    for case in cases:
        by_file[case.file].append(case)
    for file, some in sorted(by_file.items()):
        seconds = f"{sum(case.seconds for case in some):.0f}"
        lines.append(row(file, len(some), sum(case.held for case in some), seconds))
    held = sum(case.held for case in cases)
    seconds = f"{sum(case.seconds for case in cases):.0f}"
    return [*lines, row("**all**", len(cases), held, seconds)]


def named(cases, file, heading, text):
    """A section with a line for each test of a file."""
    lines = [f"## {heading}", "", *text, "", *table("what", "holds", "")]
    for case in cases:
        if case.file.endswith(file):
            what = case.name.removeprefix("test_").replace("_", " ")
            told = ", ".join(f"{name}: {value}" for name, value in case.told.items())
            lines.append(row(what, "yes" if case.held else "NO", told))
    return lines


def strength(cases, coverage):
    mutants = [case for case in cases if case.name.startswith("test_mutant_is_caught")]
    lines = ["## The tests' own strength", ""]
    lines.append(
        f"Broken copies of the steps: {sum(case.held for case in mutants)} of "
        f"{len(MUTANTS + EVERY_LINE)} "
        "are caught by the fact that is named for each in [mutants.py](../tests/mutants.py), "
        "among them one at least for every line of step 07. Without a difference:"
    )
    lines += [""] + [f"- `{line}` {why}." for line, why in NO_DIFFERENCE.items()]
    total = coverage["totals"]
    lines += [
        "",
        f"Of the guide, the suite has run {total['percent_covered']:.0f} % of the lines and "
        f"branches: {total['covered_lines']} of {total['num_statements']} lines, "
        f"{total['covered_branches']} of {total['num_branches']} branches. What runs behind "
        "the fence of a check is not counted: nothing is kept there.",
    ]
    return lines


def main():
    if len(sys.argv) != 2 or os.geteuid() != 0:
        sys.exit(
            "usage: sudo bench/proof.py FOLDER   (bench.py --out FOLDER/proof first)"
        )
    folder = pathlib.Path(sys.argv[1])
    found = json.loads((folder / "proof/bench.json").read_text())
    cases, coverage = run_suite(folder)
    day = f"{datetime.date.today():%-d %B %Y}"
    parts = [
        [HEAD.format(day=day)],
        ["## How fast, and for how many", ""],
        ["![Start to exit of /bin/true, as bars](proof/bench.svg)", ""],
        page(found),
        named(
            cases, "test_load", "Under load", ["The host has afterwards what it had."]
        ),
        named(
            cases,
            "test_faults",
            "Faults",
            ["Killed at every line, starved, with a clock that jumps."],
        ),
        named(
            cases,
            "test_hostile_input",
            "Hostile input",
            ["Hundreds of inputs each, by hypothesis: read, or refused in one line."],
        ),
        strength(cases, coverage),
        suite(cases),
    ]
    text = "\n".join("\n".join([*part, ""]) for part in parts)
    (folder / "PROOF.md").write_text(text)
    return 0 if all(case.held for case in cases) else 1


if __name__ == "__main__":
    sys.exit(main())
