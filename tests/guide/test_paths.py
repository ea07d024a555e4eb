"""The paths of docs/teaching.md: a learner who takes one has, at its end, what the page
promises. Other tests run the lessons (tests/test_notebooks.py) and the demo (test_demo.py)."""

import json
import os
import pathlib
import tempfile

import pytest
from lesson_times import PATHS
from runtime import STORY
from test_guide import Learner

from workshop import progress
from workshop.workspace import Workspace

SOURCES = {step.parent.name[:2]: step.read_text() for step in STORY}
STOPPED, WORKED = 0, 1  # the exit statuses of `workshop breakout`
# These attacks need the limits of cgroup v2, or the disk of a booted machine. In the VM,
# tests/test_suite.py tries them before and after their steps.
IN_VM = {"05", "06"}


@pytest.fixture
def learner():
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)  # some facts are about ordinary users
        yield Learner(pathlib.Path(name) / "my")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_path_leads_to_what_the_page_promises(path, learner):
    for part in path.parts():
        PLAY[part.action](learner, part)
    for number in [*SOURCES][1 : int(path.passes) + 1]:
        assert number in IN_VM or stopped(learner, number)
    report = json.loads((learner.my / "report/report.json").read_text())
    assert report["passed"] == [*SOURCES][: int(path.passes) + 1]
    assert (learner.my / "certificate.html").exists() == (path.passes == "07")


def write(learner: Learner, part):
    """The section "Build it" of lesson 1 starts the runtime. Each lesson but the first has
    an attack that works before the learner writes the step, and fails afterwards."""
    for number in set(part.lessons) - {"00"}:
        if number == "01":
            assert learner.type("start").returncode == 0
        tried = number not in IN_VM
        if tried:
            assert not stopped(learner, number), f"the attack of {number} fails already"
        learner.has(SOURCES[number])
        assert not tried or stopped(learner, number)


def stopped(learner, number):
    """Returns whether the attack of a step fails on the learner's runtime."""
    done = learner.type(f"breakout {number}")
    assert done.returncode in (STOPPED, WORKED), done
    return done.returncode == STOPPED


def show(learner, part):
    """The learner only watches."""


def solve(learner, part):
    """The learner takes over a step that has not passed, and so must ask twice."""
    [command] = part.commands()
    words = command.removeprefix("workshop ")
    assert learner.type(words).returncode == 1
    assert learner.type(words).returncode == 0
    assert learner.path.read_text() == SOURCES[part.lessons[0]]


def report(learner, part):
    """The learner checks all steps so far, and writes a report. Step 06 needs the VM, so
    only step 07 is checked at the end, and the suites check that its runtime passes the
    earlier steps, too."""
    check, write_report = part.commands()
    if part.lessons == ("07",):
        earlier = dict.fromkeys([*SOURCES][:-1], 1)
        workspace = Workspace(learner.my)
        progress.record(workspace, "06", earlier, workspace.source())
        check += " --alone"
    for command in check, write_report:
        done = learner.type(command.removeprefix("workshop "), seconds=900)
        assert done.returncode == 0, done.stdout


PLAY = {
    "read": write,
    "write": write,
    "show": show,
    "solve": solve,
    "report": report,
    "pause": show,
}
