#!/usr/bin/env python3
"""Runs the whole suite, under load, and writes the page of all figures: FOLDER/PROOF.md. The
benchmark's are those in FOLDER/proof, where bench.py has put them. `./lab proof` does both.

    sudo bench/proof.py FOLDER [tests/guide tests/unit | FILE...]
    bench/proof.py docs --reports .lab/log/test-1.xml .lab/log/test-2.xml

The second form runs nothing: it takes what `./lab test --all` has found, for the table of all
files. That run has fewer rounds of load, faults and mutants than the first form.

With files of the suite, such as tests/test_load.py: these anew, what is known of the others
stays, with its day. With tests/guide and tests/unit: the guide's coverage is measured too. Exit
status 0: every fact holds, and the coverage is above its floor.
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
from mutants import NO_DIFFERENCE

# The benchmark has just executed them.
LESSONS = "tests/test_notebooks.py::test_executes_and_shows_what_it_promises"
GUIDE = ["tests/guide", "tests/unit"]
COVERAGE = [sys.executable, "-m", "coverage"]
HEAD = """# The proof

Everything on this page was measured and written by `./lab proof`, on the days that it tells,
the last of it on {day}. It is a lesson's runtime and not a security boundary: see also
[what is open](attacks.md).
"""
# Files with a section of their own: its heading, and a line on what is in it.
SECTIONS = {
    "test_load": ("Under load", "The host has afterwards what it had."),
    "test_faults": (
        "Faults",
        "Killed at every line, starved, with a clock that jumps.",
    ),
    "unit/test_hostile_input": (
        "Hostile input",
        "Hundreds of inputs each, by hypothesis: read, or refused in one line.",
    ),
    "test_against_kernel": (
        "Hostile input, beside the kernel",
        "Random inputs: read and written as the kernel does.",
    ),
}


class Case:
    """A test's result: its file, its name, whether it held, seconds, what it has recorded."""

    def __init__(self, element):
        self.file = element.get("classname").removeprefix("tests.").replace(".", "/")
        self.name, self.seconds = element.get("name"), float(element.get("time"))
        self.held = not [e for e in element if e.tag in ("failure", "error", "skipped")]
        self.told = {p.get("name"): p.get("value") for p in element.iter("property")}


def run_suite(folder, files):
    """Run it, or these files of it; that of the guide with its coverage measured: there it
    slows down nothing that is about time. Returns (its Cases, the coverage's totals or None
    if not all of the guide was run)."""
    os.makedirs("/var/tmp/workshop-coverage", exist_ok=True)
    os.chmod("/var/tmp/workshop-coverage", 0o1777)  # not only root runs the guide
    cases = []
    full = os.environ | {"WORKSHOP_FULL": "1"}
    guide, others = GUIDE, ["tests", f"--deselect={LESSONS}"]
    others += [f"--ignore={path}" for path in GUIDE]
    if files:
        guide = [path for path in files if path.startswith(tuple(GUIDE))]
        others = [path for path in files if path not in guide]
    for start, words in ([sys.executable], others), ([*COVERAGE, "run"], guide):
        report = folder / "suite.xml"
        options = ["-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
        if words:
            command = [*start, *options, *words]
            subprocess.run(command, cwd=PROJECT, env=full, check=False)
            tree = xml.etree.ElementTree.parse(report)
            cases += [Case(element) for element in tree.iter("testcase")]
            report.unlink()
    if guide != GUIDE:
        return cases, None
    totals = folder / "proof/coverage.json"
    subprocess.run([*COVERAGE, "combine", "-q"], cwd=PROJECT, check=False)
    # Its exit status says whether it is above the floor, fail_under in pyproject.toml.
    words = [*COVERAGE, "json", "-q", "-o", totals]
    floor = subprocess.run(words, cwd=PROJECT, check=False).returncode == 0
    coverage = json.loads(totals.read_text())["totals"] | {"floor": floor}
    totals.unlink()
    return cases, coverage


def remember(path, cases, coverage):
    """Bring what is known of each file up to date, in suite.json. Returns all that is known."""
    known = json.loads(path.read_text()) if path.exists() else {"files": {}}
    by_file = collections.defaultdict(list)
    for case in cases:
        by_file[case.file].append(case)
    for file, some in by_file.items():
        mutants = [c.held for c in some if c.name.startswith("test_mutant_is_caught")]
        known["files"][file] = {
            "when": datetime.date.today().isoformat(),
            "facts": len(some),
            "hold": sum(case.held for case in some),
            "seconds": sum(case.seconds for case in some),
        }
        if file in SECTIONS:
            tests = {case.name: [case.held, case.told] for case in some}
            known["files"][file]["tests"] = tests
        if mutants:
            known["files"][file]["mutants"] = [sum(mutants), len(mutants)]
    if coverage:
        known["coverage"] = coverage
    path.write_text(json.dumps(known, indent=1) + "\n")
    return known


def remember_all(path, reports):
    """Keeps what `./lab test --all` has found, from its JUnit reports, in suite.json. Returns
    all that is known."""
    known = json.loads(path.read_text())
    known["all"] = {
        "when": datetime.date.today().isoformat(),
        "files": {},
        "halves": [],
    }
    for report in reports:
        tree = xml.etree.ElementTree.parse(report)
        cases = [Case(element) for element in tree.iter("testcase")]
        known["all"]["halves"].append(float(next(tree.iter("testsuite")).get("time")))
        for case in cases:
            empty = {"facts": 0, "hold": 0, "seconds": 0}
            file = known["all"]["files"].setdefault(case.file, empty)
            file["facts"] += 1
            file["hold"] += case.held
            file["seconds"] = round(file["seconds"] + case.seconds, 1)
    path.write_text(json.dumps(known, indent=1) + "\n")
    return known


def suite(whole):
    """The table of all files."""
    minutes = " and ".join(f"{seconds / 60:.0f}" for seconds in whole["halves"])
    lines = ["## The suite", ""]
    lines += [
        f"`./lab test --all` on {whole['when']}, in emulated VMs with one processor"
    ]
    lines += [f"each; the two halves took {minutes} minutes.", ""]
    lines += table("file", "facts", "hold", "s")
    files = whole["files"]
    for file, t in sorted(files.items()):
        lines.append(row(file, t["facts"], t["hold"], f"{t['seconds']:.0f}"))
    facts, hold = (sum(t[what] for t in files.values()) for what in ("facts", "hold"))
    seconds = f"{sum(t['seconds'] for t in files.values()):.0f}"
    return [*lines, row("**all**", facts, hold, seconds)]


def named(files, file, heading, text):
    """A section with a line for each test of a file."""
    lines = [f"## {heading}", "", text, "", *table("what", "holds", "")]
    for name, (held, told) in files[file]["tests"].items():
        what = name.removeprefix("test_").replace("_", " ")
        told = ", ".join(f"{name}: {value}" for name, value in told.items())
        lines.append(row(what, "yes" if held else "NO", told))
    return lines


def strength(mutants, when, total):
    held, count = mutants
    lines = ["## The tests' own strength", ""]
    lines.append(
        f"Broken copies of the steps, on {when}: {held} of {count} "
        "are caught by the fact that is named for each in [mutants.py](../tests/mutants.py), "
        "among them one at least for every line of step 07. Without a difference:"
    )
    lines += [""] + [f"- `{line}` {why}." for line, why in NO_DIFFERENCE.items()]
    lines += [
        "",
        f"Of the guide, the suite has run {total['percent_covered']:.0f} % of the lines and "
        f"branches: {total['covered_lines']} of {total['num_statements']} lines, "
        f"{total['covered_branches']} of {total['num_branches']} branches. What runs behind "
        "the fence of a check is not counted: nothing is kept there.",
    ]
    return lines


def write_page(folder, known):
    """Writes FOLDER/PROOF.md from all that is known."""
    found = json.loads((folder / "proof/bench.json").read_text())
    files = known["files"]
    mutants = next(t for t in files.values() if "mutants" in t)
    days = [t["when"] for t in files.values()] + [known.get("all", {}).get("when", "")]
    last = datetime.date.fromisoformat(max(days))
    parts = [
        [HEAD.format(day=f"{last:%-d %B %Y}")],
        ["## How fast, and for how many", ""],
        ["![Start to exit of /bin/true, as bars](proof/bench.svg)", ""],
        page(found),
        *(
            named(files, file, *words)
            for file, words in SECTIONS.items()
            if file in files
        ),
        strength(mutants["mutants"], mutants["when"], known["coverage"]),
        *([suite(known["all"])] if "all" in known else []),
    ]
    text = "\n".join("\n".join([*part, ""]) for part in parts)
    (folder / "PROOF.md").write_text(text)


def main():
    if sys.argv[2:3] == ["--reports"]:
        folder = pathlib.Path(sys.argv[1])
        write_page(folder, remember_all(folder / "proof/suite.json", sys.argv[3:]))
        return 0
    if len(sys.argv) < 2 or os.geteuid() != 0:
        sys.exit(
            "usage: sudo bench/proof.py FOLDER [FILE...]   (bench.py --out FOLDER/proof first)"
        )
    folder, chosen = pathlib.Path(sys.argv[1]), sys.argv[2:]
    path = folder / "proof/suite.json"
    if not chosen:
        path.unlink(missing_ok=True)
    known = remember(path, *run_suite(folder, chosen))
    write_page(folder, known)
    files = known["files"]
    hold = all(t["hold"] == t["facts"] for t in files.values())
    return 0 if hold and known["coverage"]["floor"] else 1


if __name__ == "__main__":
    sys.exit(main())
