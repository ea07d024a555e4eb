"""`workshop grade`: which facts it checks, and the grade that comes of them. What pytest finds is
made up here; tests/guide and tests/lab grade real runtimes."""

import contextlib
import io
import json
import re
import sys
import tempfile

import pytest
from runtime import STEPS

from workshop import grades, suite_runner, sandbox
from workshop.commands import grade as command
from workshop.errors import Failure
from workshop.facts import Fact

SOURCE = STEPS[1].read_bytes()


class Suites:
    """Suites of three facts each. `red`: {(step, number of the fact): how often it fails}."""

    def __init__(self, red=(), late=()):
        self.red, self.late = dict(red), set(late)
        self.runs = []  # (the steps of a run, its `only`)

    def run(self, steps, staging, seconds, only=None, in_turn=False):
        self.runs.append(([step.number for step in steps], only))
        for step in steps:
            holds = True
            for number in range(3):
                if only in (None, f"fact {number}"):
                    fact = self.check(step.number, number)
                    holds = holds and fact.holds
                    yield fact
                    if fact.late:
                        return
            if not holds:
                return

    def check(self, step, number):
        left = self.red.get((step, number), 0)
        self.red[step, number] = left - 1
        late = (step, number) in self.late
        self.late.discard((step, number))
        return Fact(
            *(step, f"fact {number}", left <= 0 and not late, "", f"{step}::{number}"),
            late=late,
            happened=f"it was {number}",
        )


@pytest.fixture
def grade(monkeypatch, capsys):
    """A function that returns the grade that `workshop grade --upto 3` prints."""

    def grade(suites, source=SOURCE):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(source)))
        monkeypatch.setattr(sandbox, "staged", contextlib.nullcontext)
        monkeypatch.setattr(suite_runner, "first_run", lambda *_: 0.1)
        monkeypatch.setattr(suite_runner, "run", suites.run)
        assert command.main(["--upto", "3"]) == 0
        return json.loads(capsys.readouterr().out)

    return grade


def test_runtime_without_a_mistake_passes_in_one_run(grade):
    suites = Suites()
    found = grade(suites)
    numbers = ["00", "01", "02", "03"]
    assert found["steps"] == {number: [3, 3] for number in numbers}
    assert found["passed"] == numbers and found["wrong"] is None
    assert suites.runs == [(numbers, None)]


def test_grade_ends_at_the_first_step_that_does_not_hold(grade):
    found = grade(Suites({("01", 1): 9}))
    assert found["steps"] == {"00": [3, 3], "01": [2, 3]}
    assert found["passed"] == ["00"] and found["wrong"] == "fact 1: it was 1"


def test_fact_that_holds_when_it_is_checked_alone_counts_as_held(grade):
    suites = Suites({("01", 1): 1})
    found = grade(suites)
    assert found["passed"] == ["00", "01", "02", "03"] and found["wrong"] is None
    assert (["01"], "fact 1") in suites.runs and suites.runs[-1] == (["02", "03"], None)


def test_many_facts_that_do_not_hold_are_not_checked_again(grade, monkeypatch):
    monkeypatch.setattr(grades, "BAD_LUCK", 2)
    suites = Suites({("00", number): 1 for number in range(3)})
    found = grade(suites)
    assert found["steps"] == {"00": [0, 3]} and len(suites.runs) == 1


def test_step_with_a_late_fact_is_checked_again(grade):
    suites = Suites(late=[("01", 0)])
    found = grade(suites)
    assert found["passed"] == ["00", "01", "02", "03"]
    assert (["01"], None) in suites.runs


def test_steps_so_far_count_when_pytest_fails(grade, monkeypatch):
    suites = Suites({("01", 0): 9})
    check = suites.run

    def run(steps, *arguments, **options):
        if len(steps) == 1:  # a fact once more
            raise Failure("the check itself has failed: x")
        yield from check(steps, *arguments, **options)

    monkeypatch.setattr(suites, "run", run)
    found = grade(suites)
    assert found["steps"] == {"00": [3, 3]} and found["passed"] == ["00"]
    assert found["wrong"] == "the check itself has failed: x"


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        (b"", "names no interpreter"),
        (SOURCE + b"#" * (1 << 20), "larger than a megabyte"),
        (SOURCE.replace(b"\n", b"\r\n"), "CRLF"),
        (SOURCE + b"(\n", "container.py, line .*: '\\(' was never closed"),
    ],
)
def test_file_that_cannot_be_started_has_no_steps(grade, source, wrong):
    found = grade(Suites(), source)
    assert found["steps"] == {} and found["passed"] == []
    assert re.search(wrong, found["wrong"]), found
    assert tempfile.gettempdir() not in found["wrong"]
