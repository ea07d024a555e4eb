#!/usr/bin/env python3
"""Runs the whole suite, with all its rounds of load and faults, and writes the page of all
figures, FOLDER/PROOF.md. It reads the benchmark's figures from FOLDER/proof, where bench.py
writes them. `./lab proof` runs both programs.

    sudo bench/proof.py FOLDER [tests/guide tests/unit | FILE...]
    bench/proof.py docs --reports .lab/log/test-1.xml .lab/log/test-2.xml
    bench/proof.py docs --page

If you name files of the suite, such as tests/test_load.py, it runs only these; the results of
the other files stay, with their dates. If you name tests/guide and tests/unit, it measures the
guide's coverage as well. Exit status 0: every fact passes, and the coverage is high enough.

The second form runs nothing. It reads the results of `./lab test --all` for the table of all
files. That run has fewer rounds of load, faults and mutants than the first form.

The third form only writes the page again. It has a section about step 11 if
`tests/oci/judge.py SUITE --record FOLDER/proof/oci.json` has recorded results: no other
program changes that file.
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

# Not run here, because bench.py executes the lessons.
LESSONS = "tests/test_notebooks.py::test_executes_and_shows_what_it_promises"
GUIDE = ["tests/guide", "tests/unit"]
COVERAGE = [sys.executable, "-m", "coverage"]
HEAD = """# The proof

`./lab proof` measured and wrote what is on this page, most recently on {day}. Only
the table of the suite comes from `./lab test --all`, and that of OCI runtimes from
`tests/oci/judge.py`. The runtime is made for a lesson, and it is not a security boundary: see also
[what is open](attacks.md).
"""
# The files that get a section of their own: its heading, and a sentence about what it shows.
SECTIONS = {
    "test_load": ("Under load", "Afterwards the host has exactly what it had before."),
    "test_faults": (
        "Faults",
        "The runtime is killed at every line, starved of disk space, descriptors and processes, "
        "and run while the clock jumps.",
    ),
    "unit/test_hostile_input": (
        "Hostile input",
        "Each test tries hundreds of inputs, made by hypothesis: the program must read an input, "
        "or refuse it in one line.",
    ),
    "test_against_kernel": (
        "Hostile input, compared with the kernel",
        "Random inputs must be read and written as the kernel does it.",
    ),
}


class Case:
    """The result of a test: its file, its name, whether it passed, how many seconds it took, and
    the properties that it recorded."""

    def __init__(self, element):
        self.file = element.get("classname").removeprefix("tests.").replace(".", "/")
        self.name, self.seconds = element.get("name"), float(element.get("time"))
        bad = ("failure", "error", "skipped")
        self.passed = not [e for e in element if e.tag in bad]
        self.recorded = {
            p.get("name"): p.get("value") for p in element.iter("property")
        }


def run_suite(folder, files):
    """Runs the suite, or only these files of it. Measures coverage only while the guide's tests
    run, because there it slows down no test that measures time. Returns (the Cases, the totals
    of the coverage, or None if not all of the guide's tests ran)."""
    os.makedirs("/var/tmp/workshop-coverage", exist_ok=True)
    os.chmod("/var/tmp/workshop-coverage", 0o1777)  # some tests run the guide as a user
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
    # The exit status says whether the coverage is above fail_under in pyproject.toml.
    words = [*COVERAGE, "json", "-q", "-o", totals]
    floor = subprocess.run(words, cwd=PROJECT, check=False).returncode == 0
    coverage = json.loads(totals.read_text())["totals"] | {"floor": floor}
    totals.unlink()
    return cases, coverage


def update_results(path, cases, coverage):
    """Updates the results of the files that ran, in suite.json. Returns the results of all
    files."""
    results = json.loads(path.read_text()) if path.exists() else {"files": {}}
    by_file = collections.defaultdict(list)
    for case in cases:
        by_file[case.file].append(case)
    for file, its_cases in by_file.items():
        mutants = [
            c.passed for c in its_cases if c.name.startswith("test_mutant_is_caught")
        ]
        results["files"][file] = {
            "when": datetime.date.today().isoformat(),
            "facts": len(its_cases),
            "hold": sum(case.passed for case in its_cases),
            "seconds": sum(case.seconds for case in its_cases),
        }
        if file in SECTIONS:
            tests = {case.name: [case.passed, case.recorded] for case in its_cases}
            results["files"][file]["tests"] = tests
        if mutants:
            results["files"][file]["mutants"] = [sum(mutants), len(mutants)]
    if coverage:
        results["coverage"] = coverage
    path.write_text(json.dumps(results, indent=1) + "\n")
    return results


def add_full_run(path, reports):
    """Copies the results of `./lab test --all` from its JUnit reports to suite.json. Returns all
    results."""
    results = json.loads(path.read_text())
    results["all"] = {
        "when": datetime.date.today().isoformat(),
        "files": {},
        "halves": [],
    }
    for report in reports:
        tree = xml.etree.ElementTree.parse(report)
        cases = [Case(element) for element in tree.iter("testcase")]
        results["all"]["halves"].append(float(next(tree.iter("testsuite")).get("time")))
        for case in cases:
            empty = {"facts": 0, "hold": 0, "seconds": 0}
            file = results["all"]["files"].setdefault(case.file, empty)
            file["facts"] += 1
            file["hold"] += case.passed
            file["seconds"] = round(file["seconds"] + case.seconds, 1)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return results


def suite_section(full_run):
    """Returns the section with a table of all files, as lines of Markdown."""
    minutes = " and ".join(f"{seconds / 60:.0f}" for seconds in full_run["halves"])
    lines = ["## The suite", ""]
    lines += [
        f"`./lab test --all` on {full_run['when']}, in emulated VMs with one processor"
    ]
    lines += [f"each; the two halves took {minutes} minutes.", ""]
    lines += table("file", "facts", "pass", "s")
    files = full_run["files"]
    for file, counts in sorted(files.items()):
        lines.append(
            row(file, counts["facts"], counts["hold"], f"{counts['seconds']:.0f}")
        )
    facts, hold = (
        sum(counts[key] for counts in files.values()) for key in ("facts", "hold")
    )
    seconds = f"{sum(counts['seconds'] for counts in files.values()):.0f}"
    return [*lines, row("**all**", facts, hold, seconds)]


def file_section(files, file, heading, text):
    """Returns a section with a line for each test of a file, as lines of Markdown."""
    lines = [f"## {heading}", "", text, "", *table("fact", "passes", "recorded")]
    for name, (passed, recorded) in files[file]["tests"].items():
        fact = name.removeprefix("test_").replace("_", " ")
        recorded = ", ".join(f"{name}: {value}" for name, value in recorded.items())
        lines.append(row(fact, "yes" if passed else "NO", recorded))
    return lines


def oci_section(recorded):
    """Returns the section about step 11 and other OCI runtimes, as lines of Markdown."""
    suites = {name: value for name, value in recorded.items() if name != "speed"}
    results = [result for runtimes in suites.values() for result in runtimes.values()]
    last = max(result["when"] for result in results)
    lines = ["## Step 11 beside runc and crun", ""]
    lines += [
        "`tests/oci/judge.py SUITE --record docs/proof/oci.json`, most recently on "
        f"{last}: `podman` is what podman's users do with a runtime, `validation` the programs "
        "of opencontainers/runtime-tools, and `crun` the tests of crun's makers. "
        "[known.txt](../tests/oci/known.txt) has the reason for each case that step 11 fails.",
        "",
    ]
    names = "runtime", "Linux", "ok", "not ok", "skipped", "single checks ok"
    lines += table("suite", *names)
    for suite, runtimes in suites.items():
        for version, result in runtimes.items():
            counts = [result[word] for word in ("ok", "not ok", "skip")]
            checks = result["checks"] or ""
            without = result.get("without")
            name = f"{suite} without `{without}`" if without else suite
            lines.append(row(name, version, result["linux"], *counts, checks))
    speed = recorded["speed"]
    lines += [
        "",
        f"`tests/oci/speed.py` on {speed['when']}, Linux {speed['linux']}:",
        "",
    ]
    lines += table("start to exit of `true`", "median ms", "ratio to runc")
    for name, median in speed["medians"].items():
        how = name.split(",")[0]
        runc = speed["medians"].get(f"{how}, runc")
        lines.append(row(name, f"{median:.0f}", f"{median / runc:.2f}" if runc else ""))
    lines += [
        "",
        "podman starts the runtime three times for a container, and `create` starts Python "
        "once more, to hide its program.",
    ]
    return lines


def strength_section(mutants, when, total):
    """Returns the section about mutants and coverage, as lines of Markdown."""
    caught, count = mutants
    lines = ["## The tests' own strength", ""]
    lines.append(
        "[mutants.py](../tests/mutants.py) lists broken copies of the steps, and names for each "
        f"one the fact that must fail. On {when} that fact caught {caught} of {count} broken "
        "copies, and at least one for every line of step 07, except for the lines that make no "
        "difference:"
    )
    lines += [""] + [f"- `{line}`: {why}." for line, why in NO_DIFFERENCE.items()]
    lines += [
        "",
        f"The suite ran {total['percent_covered']:.0f} % of the guide's lines and branches: "
        f"{total['covered_lines']} of {total['num_statements']} lines, "
        f"{total['covered_branches']} of {total['num_branches']} branches. Lines that run in "
        "the sandbox of a check are not counted, because nothing written there is kept.",
    ]
    return lines


def write_page(folder, results):
    """Writes FOLDER/PROOF.md from the results in suite.json and bench.json."""
    figures = json.loads((folder / "proof/bench.json").read_text())
    files, oci = results["files"], folder / "proof/oci.json"
    mutants = next(t for t in files.values() if "mutants" in t)
    days = [t["when"] for t in files.values()] + [
        results.get("all", {}).get("when", "")
    ]
    last = datetime.date.fromisoformat(max(days))
    parts = [
        [HEAD.format(day=f"{last:%-d %B %Y}")],
        ["## How fast, and for how many", ""],
        ["![Start to exit of /bin/true, as bars](proof/bench.svg)", ""],
        page(figures),
        *(
            file_section(files, file, *words)
            for file, words in SECTIONS.items()
            if file in files
        ),
        strength_section(mutants["mutants"], mutants["when"], results["coverage"]),
        *([oci_section(json.loads(oci.read_text()))] if oci.exists() else []),
        *([suite_section(results["all"])] if "all" in results else []),
    ]
    text = "\n".join("\n".join([*part, ""]) for part in parts)
    (folder / "PROOF.md").write_text(text)


def main():
    if sys.argv[2:] == ["--page"]:
        folder = pathlib.Path(sys.argv[1])
        write_page(folder, json.loads((folder / "proof/suite.json").read_text()))
        return 0
    if sys.argv[2:3] == ["--reports"]:
        folder = pathlib.Path(sys.argv[1])
        write_page(folder, add_full_run(folder / "proof/suite.json", sys.argv[3:]))
        return 0
    if len(sys.argv) < 2 or os.geteuid() != 0:
        sys.exit(
            "usage: sudo bench/proof.py FOLDER [FILE...]   (after bench.py --out FOLDER/proof)"
        )
    folder, chosen = pathlib.Path(sys.argv[1]), sys.argv[2:]
    path = folder / "proof/suite.json"
    if not chosen:
        path.unlink(missing_ok=True)
    results = update_results(path, *run_suite(folder, chosen))
    write_page(folder, results)
    files = results["files"]
    hold = all(t["hold"] == t["facts"] for t in files.values())
    return 0 if hold and results["coverage"]["floor"] else 1


if __name__ == "__main__":
    sys.exit(main())
