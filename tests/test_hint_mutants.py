"""Hints: for each likely mistake of a learner, the fact that fails first gets the hint that
helps, or none if there is none that does. This is what `workshop check` does with one fact."""

import re

import pytest
from hint_mutants import MISTAKES
from runtime import PROJECT

from workshop import diagnose, facts, sandbox, suite_runner
from workshop.hints import best_hint
from workshop.project import STEPS, find_step


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(
            mistake,
            marks=[pytest.mark.needs("cgroup2")] if mistake.step == "06_cgroup" else [],
            id=f"{mistake.step}-{number}",
        )
        for number, mistake in enumerate(MISTAKES)
    ],
)
def test_hint_fits_the_mistake(mistake):
    step = find_step(mistake.step[:2])
    source = step.container.read_text()
    for old, new in (mistake.old, mistake.new), mistake.second:
        assert source.count(old) == 1 or not old, f"{source.count(old)} times {old!r}"
        source = source.replace(old, new) if old else source
    suites = [
        s for s in STEPS if mistake.fact.partition(" (")[0] in names(PROJECT / s.suite)
    ]
    with sandbox.staged(source.encode()) as staging:
        first = suite_runner.first_run(staging, "container.py")
        seconds = suite_runner.fact_seconds(first)
        found = list(suite_runner.run(suites, staging, seconds, mistake.fact))
        wrong = facts.failed(found)
        assert wrong, f"{mistake.fact}: all of {len(found)} facts hold"
        lacks = diagnose.findings(step, staging, diagnose.start_seconds(first))
    hint = best_hint(wrong[0], lacks)
    print(f"hint: {hint}", wrong[0], *lacks, sep="\n")
    assert not (mistake.hint is None and hint), hint
    assert mistake.hint is None or re.search(mistake.hint, hint or ""), hint


def names(suite):
    """Returns the names of a suite's facts in plain words, without their parameters."""
    text = " ".join(re.findall(r"^def test_(\w+)", suite.read_text(), re.MULTILINE))
    return text.replace("_", " ")
