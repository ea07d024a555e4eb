"""Runs the mutants: copies of the steps with one thing broken. In each of them, the
fact that the mutant names must fail.

tests/unit/test_steps.py checks that each line that isolates has a mutant."""

import pathlib
import re
import shutil

import pytest
from pytest_inside import run_suite
from mutants import EVERY_LINE, MUTANTS
from runtime import FULL, PROJECT

CHECKED = MUTANTS + (EVERY_LINE if FULL else [])


def needs_of(fact):
    """Returns the markers of a fact that say what it needs. Its mutants need the same,
    or they would seem to be caught."""
    marker = rf'^@pytest\.mark\.needs\("(\w+)"\)\n(?:[@ )].*\n)*def {fact}'
    suites = [path.read_text() for path in (PROJECT / "tests").glob("test_[0-9]*.py")]
    found = [re.search(marker, suite, re.MULTILINE) for suite in suites]
    return [pytest.mark.needs(match[1]) for match in found if match]


@pytest.mark.parametrize(
    ("step", "old", "new", "fact"),
    [
        pytest.param(*mutant, marks=needs_of(mutant[3]), id=f"{mutant[0]}-{i}")
        for i, mutant in enumerate(CHECKED)
    ],
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
            p
            for p in (PROJECT / "tests").glob("test_[0-9]*.py")
            if fact in p.read_text()
        )
        done = run_suite(path, str(number.relative_to(PROJECT)), "-k", fact)
        assert done.returncode == 1, (
            f"not caught by {fact}:\n{done.stdout}{done.stderr}"
        )
    finally:
        shutil.rmtree(place)
