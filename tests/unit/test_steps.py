"""The shape of the steps: they stay within their limits, and each line that isolates
has a mutant, a broken copy that tests/test_mutants.py runs."""

import ast
import difflib
import os
import re
import subprocess
import sys

import process
import pytest
from mutants import EVERY_LINE, MUTANTS, NO_DIFFERENCE
from runtime import FINISHED, PROJECT, STEPS, STORY
from source import code_lines

NAMES = [step.parent.name for step in STEPS]
PAIRS = list(zip(STEPS, STEPS[1:], strict=False))
PAIR_IDS = [step.parent.name for _, step in PAIRS]


def test_every_line_that_isolates_has_a_mutant():
    """Checks what each step adds: flags, mounts, and calls that change or clean up
    something."""
    wanted = re.compile(
        r"CLONE_NEW|linux\.(\w*mount|pivot_root|idmapped|prctl|capset|seccomp)\("
        r"|os\.(chdir|set)"
        r"|MOUNTS|OPTIONS|defer|temporary_directory|process\.(write|run|attach)\("
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
    source = FINISHED.read_text()
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


def test_last_step_has_fewer_than_100_lines_of_code():
    assert FINISHED.parent.name == "07_overlay"
    assert len(code_lines(FINISHED)) < 100


def test_readme_states_the_true_numbers():
    readme = (PROJECT / "README.md").read_text()
    assert f"in {len(code_lines(FINISHED))} lines of Python" in readme.splitlines()[0]
    for step in STEPS:
        row = rf"^\| \[{step.parent.name}\].*\| {len(code_lines(step))} \|"
        assert re.search(row, readme, re.MULTILINE), (step.parent.name, row)


@pytest.mark.parametrize(("before", "step"), PAIRS, ids=PAIR_IDS)
def test_step_adds_at_most_25_lines_and_removes_at_most_5(before, step):
    """An encore, for those who want more, adds at most 30."""
    lines = list(difflib.ndiff(code_lines(before), code_lines(step)))
    added = sum(line.startswith("+ ") for line in lines)
    removed = sum(line.startswith("- ") for line in lines)
    assert added <= (25 if step in STORY else 30) and removed <= 5, (added, removed)


@pytest.mark.parametrize("step", STEPS, ids=NAMES)
def test_step_is_as_ruff_formats_it(step):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "format",
            "--no-cache",
            "--diff",
            "--line-length=88",
            step,
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


HELPERS = sorted((PROJECT / "steps").glob("*.py"))


@pytest.mark.parametrize("helper", HELPERS, ids=[path.stem for path in HELPERS])
def test_importing_a_helper_does_nothing(helper):
    done = imported(helper.stem)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done


def test_runtime_imports_nothing_slow():
    """These modules take 1.4 (ctypes) to 8 ms (typing), of 17 ms for a start."""
    slow = {"ctypes", "enum", "re", "signal", "socket", "subprocess", "typing"}
    done = imported("sys, linux, process; print(*sys.modules)")
    modules = done.stdout.split()
    assert "process" in modules and not slow & {*modules}, done


def imported(modules):
    """Runs a Python that imports modules of steps/, as a container.py would."""
    return subprocess.run(
        ["/usr/bin/python3", "-S", "-c", f"import {modules}"],
        cwd=PROJECT / "steps",
        capture_output=True,
        text=True,
    )


BREAKOUTS = sorted((PROJECT / "steps").glob("*/breakout.py"))


@pytest.mark.parametrize("script", BREAKOUTS, ids=[p.parent.name for p in BREAKOUTS])
def test_module_of_the_caller_does_not_replace_that_of_a_breakout(script, tmp_path):
    (tmp_path / "attack.py").write_text("raise SystemExit('the wrong module')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([script], env=environment, capture_output=True, text=True)
    assert "usage: " in done.stderr and "wrong" not in done.stderr, done


def test_process_offers_what_the_steps_call():
    calls = {
        name
        for step in STEPS
        for name in re.findall(r"\bprocess\.(\w+)", "\n".join(code_lines(step)))
    }
    assert calls <= {*process.__all__} <= {*vars(process)}


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


@pytest.mark.parametrize(
    ("step", "old", "new", "fact"),
    MUTANTS + EVERY_LINE,
    ids=[f"{step}-{i}" for i, (step, *_) in enumerate(MUTANTS + EVERY_LINE)],
)
def test_mutant_breaks_one_place_and_names_one_fact(step, old, new, fact):
    path = PROJECT / "steps" / step / "container.py"
    source = path.read_text()
    assert source.count(old) == 1 and old != new
    # A mutant that is not valid Python would fail every fact.
    compile(source.replace(old, new), path, "exec")
    # The fact is of this step or of an earlier one, because later suites do not run on it.
    suites = [
        p
        for p in (PROJECT / "tests").glob("test_[0-9]*.py")
        if p.name[5:] <= step[:2] + "~"
    ]
    facts = re.findall(r"^def (test_\w+)", "".join(p.read_text() for p in suites), re.M)
    assert facts.count(fact) == 1
