"""Tests of the tests, and of the shape of the steps: each suite fails on the step before,
each break-out works on it, each line that isolates is missed by a named fact, and the
lines of code stay within their bounds."""

import ast
import difflib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from mutants import EVERY_LINE, MUTANTS, NO_DIFFERENCE
from runtime import FULL, PROJECT, STEPS

NAMES = [step.parent.name for step in STEPS]
PAIRS = list(zip(STEPS, STEPS[1:], strict=False))
PAIR_IDS = [step.parent.name for _, step in PAIRS]

# In a mount and IPC namespace of its own, since a runtime that does not isolate would
# change the machine's; with / shared, as systemd has it.
FENCE = """
mount --make-rshared /
for place in /tmp /dev/shm; do mount -t tmpfs fence $place; done
[ ! -e /dev/mqueue ] || mount -t mqueue fence /dev/mqueue
exec "$@"
"""


def run_suite(runtime, *arguments, report=None):
    """Run pytest in a process of its own. Returns its CompletedProcess."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=line",
    ]
    words += ["--runtime", str(runtime), *arguments]
    words += [f"--junitxml={report}"] if report else []
    fence = ["unshare", "--mount", "--ipc", "sh", "-c", FENCE, "sh"]
    # A place that the fence leaves alone; and no plugins, which cost more than a fact.
    environment = os.environ | {"TMPDIR": "/var/tmp"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        [*fence, *words],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def outcomes(report):
    """{name of a fact: whether it passed} of a JUnit report."""
    cases = ElementTree.parse(report).iter("testcase")
    return {
        case.get("name"): case.find("failure") is None and case.find("error") is None
        for case in cases
    }


@pytest.mark.quick
@pytest.mark.parametrize(("before", "step"), PAIRS, ids=PAIR_IDS)
def test_suite_fails_on_the_step_before(before, step, tmp_path):
    suite, report = f"tests/test_{step.parent.name}.py", "/var/tmp/negative.xml"
    done = run_suite(before, suite, "-m", "not also_before", report=report)
    passed = [name for name, good in outcomes(report).items() if good]
    assert done.returncode == 1 and not passed, (passed, done.stdout)


@pytest.mark.parametrize(("before", "step"), PAIRS, ids=PAIR_IDS)
def test_marked_facts_hold_on_the_step_before(before, step):
    suite = f"tests/test_{step.parent.name}.py"
    if "also_before" not in (PROJECT / suite).read_text():
        return
    done = run_suite(before, suite, "-m", "also_before")
    assert done.returncode == 0, done.stdout


KERNEL_SAYS = {
    "01_uts": "invalid id",  # EINVAL of msgctl(2)
    "02_pid": "No such process",
    "03_mnt": "No such file or directory",
    "04_net": "Connection refused",
    "05_user": "Operation not permitted",
    "06_cgroup": "(?s)Resource temporarily unavailable.*out of memory",
    "07_overlay": "No such file or directory",
}


@pytest.mark.quick
@pytest.mark.parametrize(("before", "step"), PAIRS, ids=PAIR_IDS)
def test_break_out_works_before_and_fails_after(before, step):
    attack = step.parent / "breakout.py"
    results = [
        subprocess.run([attack, path], capture_output=True, text=True, timeout=180)
        for path in (before, step)
    ]
    assert [r.returncode for r in results] == [0, 1], results
    assert "stopped" not in results[0].stdout, results[0]
    assert "BROKEN IN" not in results[1].stdout, results[1]
    assert re.search(KERNEL_SAYS[step.parent.name], results[1].stdout), results[1]


CHECKED = MUTANTS + (EVERY_LINE if FULL else [])


@pytest.mark.parametrize(
    ("step", "old", "new", "fact"),
    CHECKED,
    ids=[f"{step}-{i}" for i, (step, *_) in enumerate(CHECKED)],
)
def test_mutant_is_caught(step, old, new, fact):
    place = pathlib.Path("/var/tmp/mutant")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(PROJECT / "steps", place / "steps")
    path = place / "steps" / step / "container.py"
    source = path.read_text()
    assert source.count(old) == 1, f"{step} has {source.count(old)} times {old!r}"
    path.write_text(source.replace(old, new))
    try:
        number = next(
            p for p in (PROJECT / "tests").glob("test_0*.py") if fact in p.read_text()
        )
        done = run_suite(path, str(number.relative_to(PROJECT)), "-k", fact)
        assert done.returncode == 1, (
            f"not caught by {fact}:\n{done.stdout}{done.stderr}"
        )
    finally:
        shutil.rmtree(place)


def test_every_line_that_isolates_has_a_mutant():
    """Of each step, what it adds: flags, mounts, and calls that change or clean up."""
    wanted = re.compile(
        r"CLONE_NEW|linux\.(mount|umount|pivot_root|move_mount|idmapped)\(|os\.(chdir|set)"
        r"|MOUNTS|OPTIONS|defer|temporary_directory|process\.(write|run)\("
    )
    missing = []
    for before, step in PAIRS:
        added = set(code_lines(step)) - set(code_lines(before))
        mutated = "\n".join(
            old for name, old, _, _ in MUTANTS if name == step.parent.name
        )
        missing += [
            f"{step.parent.name}: {line.strip()}"
            for line in added
            if wanted.search(line) and line.strip() not in mutated
        ]
    assert missing == []


def test_every_line_of_the_last_step_has_a_mutant_or_a_reason():
    source = STEPS[-1].read_text()
    covered = set()
    for _, old, _, _ in MUTANTS + EVERY_LINE:
        if source.count(old) == 1:
            first = source[: source.index(old)].count("\n") + 1
            covered |= set(range(first, first + len(old.splitlines())))
    lines = source.splitlines()
    missing = [
        lines[node.lineno - 1].strip()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef)
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        if node.lineno not in covered
    ]
    assert set(missing) == set(NO_DIFFERENCE)


def code_lines(path):
    """The lines of code: without blank lines, comments and docstrings."""
    source = pathlib.Path(path).read_text()
    prose = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                prose |= set(range(first.lineno, first.end_lineno + 1))
    return [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in prose
    ]


def test_last_step_has_fewer_than_100_lines_of_code():
    assert len(code_lines(STEPS[-1])) < 100


def test_readme_tells_the_true_numbers():
    readme = (PROJECT / "README.md").read_text()
    assert f"in {len(code_lines(STEPS[-1]))} lines of Python" in readme.splitlines()[0]
    for step in STEPS:
        row = rf"^\| \[{step.parent.name}\].*\| {len(code_lines(step))} \|"
        assert re.search(row, readme, re.MULTILINE), (step.parent.name, row)


@pytest.mark.parametrize(("before", "step"), PAIRS, ids=PAIR_IDS)
def test_step_adds_at_most_25_lines_and_removes_at_most_5(before, step):
    lines = list(difflib.ndiff(code_lines(before), code_lines(step)))
    added = sum(line.startswith("+ ") for line in lines)
    removed = sum(line.startswith("- ") for line in lines)
    assert added <= 25 and removed <= 5, (added, removed)


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_step_is_as_ruff_formats_it(step):
    ruff = pathlib.Path(sys.executable).parent / "ruff"
    done = subprocess.run(
        [ruff, "format", "--no-cache", "--diff", "--line-length=88", step],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_step_is_complete_and_plain(step):
    assert (step.parent / "breakout.py").exists() or step == STEPS[0]
    assert (step.parent / "hints.md").exists()
    tree = ast.parse(step.read_text())
    imported = {
        a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    }
    assert imported <= {"os", "sys", "linux", "process"}
    nodes = list(ast.walk(tree))
    assert not any(
        isinstance(n, ast.ClassDef | ast.Lambda | ast.ImportFrom) for n in nodes
    )
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef)]
    assert {"parent", "child"} <= {f.name for f in functions}
    assert all(ast.get_docstring(f) and not f.decorator_list for f in functions)
    assert ";" not in "".join(line.split("#")[0] for line in code_lines(step))
