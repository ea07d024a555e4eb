"""Tests of the tests: each suite fails on the step before its own, and each attack
works there.

tests/test_mutants.py continues from there."""

import ast
import concurrent.futures
import pathlib
import re
import subprocess

import pytest
from pytest_inside import outcomes, run_suite
from runtime import PROJECT, STEPS, STORY

PAIRS = list(zip(STEPS, STEPS[1:], strict=False))
PAIR_IDS = [step.parent.name for _, step in PAIRS]


@pytest.fixture(scope="module")
def negatives(request):
    """The results of the chosen suites on the step before: {step: (pytest's
    CompletedProcess, {fact: whether it passed})}. Most facts that fail wait for some
    seconds first, so the suites run side by side."""

    def run(before, step):
        suite = f"tests/test_{step.parent.name}.py"
        report = pathlib.Path(f"/var/tmp/negative-{step.parent.name}.xml")
        report.unlink(missing_ok=True)
        words = ["-m", "not also_before"]
        done = run_suite(before, suite, *words, report=report, apart=True)
        return done, outcomes(report)

    chosen = {
        item.callspec.params["step"]: item.callspec.params["before"]
        for item in request.session.items
        if "negatives" in getattr(item, "fixturenames", [])
    }
    with concurrent.futures.ThreadPoolExecutor(len(chosen)) as pool:
        return dict(zip(chosen, pool.map(run, chosen.values(), chosen), strict=True))


def pairs(needs):
    """Returns the pairs of steps as parameters of a test, each with its need as a
    marker, if it has one. The quick rung leaves out the encores."""
    found = []
    for (before, step), name in zip(PAIRS, PAIR_IDS, strict=True):
        marks = [pytest.mark.needs(needs[name])] if name in needs else []
        marks += [pytest.mark.quick] if step in STORY else []
        found.append(pytest.param(before, step, marks=marks, id=name))
    return found


# Without cgroup v2 the suite of step 06 fails on every runtime.
@pytest.mark.parametrize(("before", "step"), pairs({"06_cgroup": "cgroup2"}))
def test_suite_fails_on_the_step_before(before, step, negatives):
    done, held = negatives[step]
    passed = [name for name, good in held.items() if good]
    assert done.returncode == 1 and held and not passed, (passed, done.stdout)


def has_marked_facts(step):
    """Returns whether a suite has facts with the mark `also_before`."""
    tree = ast.parse((PROJECT / f"tests/test_{step.parent.name}.py").read_text())
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    return "also_before" in names


MARKED = [(before, step) for before, step in PAIRS if has_marked_facts(step)]


@pytest.mark.parametrize(
    ("before", "step"), MARKED, ids=[step.parent.name for _, step in MARKED]
)
def test_marked_facts_hold_on_the_step_before(before, step):
    report = pathlib.Path("/var/tmp/marked.xml")
    report.unlink(missing_ok=True)
    suite = f"tests/test_{step.parent.name}.py"
    done = run_suite(before, suite, "-m", "also_before", report=report, apart=True)
    assert done.returncode == 0 and outcomes(report), done.stdout
    assert " skipped" not in done.stdout, done.stdout


KERNEL_SAYS = {
    "01_uts": "invalid id",  # EINVAL of msgctl(2)
    "02_pid": "No such process",
    "03_mnt": "No such file or directory",
    "04_net": "Connection refused",
    "05_user": "Operation not permitted",
    "06_cgroup": "(?s)Resource temporarily unavailable.*out of memory",
    "07_overlay": "No such file or directory",
    "08_image": "Permission denied",
    "09_caps": "Operation not permitted",
    "10_seccomp": "(?s)Operation not permitted.*Operation not permitted",
}


# Before step 05 the attack reads the disk, so the machine's own root must be able to.
@pytest.mark.parametrize(
    ("before", "step"), pairs({"05_user": "debian13", "06_cgroup": "cgroup2"})
)
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


# Runs the runtime under attack. A container with a raw socket takes a while to end, as it does
# on a busy machine.
SLOW = """#!/bin/sh
"{runtime}" "$@"
status=$?
case "$*" in *AF_PACKET*) sleep 3 ;; esac
exit $status
"""


def test_break_out_09_does_not_look_too_late(tmp_path):
    """Five seconds after its first answer, the gateway asks the neighbour whether it is still
    there (the kernel's networking/ip-sysctl, delay_first_probe_time), and so repairs the
    neighbour's ARP table."""
    slow = tmp_path / "container.py"
    slow.write_text(SLOW.format(runtime=STEPS[8]))
    slow.chmod(0o755)
    attack = PROJECT / "steps/09_caps/breakout.py"
    done = subprocess.run([attack, slow], capture_output=True, text=True, timeout=180)
    assert re.search("^BROKEN IN  be .* the gateway", done.stdout), done
