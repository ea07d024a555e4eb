"""The lessons that slides and the web site share. Here no lesson runs."""

import contextlib

import pytest

from host import lessons
from host.errors import LabError, UsageError
from host.guest import Guest
from host.providers import choose
from host.settings import PROJECT

NAMES = sorted(path.stem for path in (PROJECT / "notebooks").glob("*.ipynb"))


class Machine(Guest):
    """A VM that writes a notebook for each lesson, and notes the commands that it gets."""

    name = "qemu"

    def __init__(self, status=0, lost=()):
        self.status, self.lost, self.commands = status, lost, []

    @contextlib.contextmanager
    def throwaway(self, memory=None):
        yield self

    def argv(self, command, terminal):
        self.commands.append(command)
        failed = self.status and "pytest" in command
        return [
            "sh",
            "-c",
            f"echo {'FAILED' if failed else 'fine'}; exit {int(failed)}",
        ]

    shell_argv = argv

    def fetch(self, source, target):
        if source == f"{lessons.IN_VM}/notebooks":
            for name in {*NAMES} - {*self.lost}:
                (target / f"{name}.ipynb").write_text("{}")


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(choose, "provider", lambda lab: machine)
    return machine


def test_lessons_run_once_as_long_as_nothing_changes(lab, machine, monkeypatch):
    first = lessons.run(lab)
    assert first.passed and len(machine.commands) == 3
    assert f"--keep-lessons {lessons.IN_VM}/notebooks" in machine.commands[1]
    assert "workshop slides" in machine.commands[2]
    assert lessons.run(lab) == first
    assert len(machine.commands) == 3
    monkeypatch.setattr(lessons, "digest", lambda project, words: "another")
    lessons.run(lab)
    assert len(machine.commands) == 6


def test_other_lessons_run_by_themselves(lab, machine):
    lessons.run(lab)
    lessons.run(lab, ["1", "02"])
    assert "-k '01_uts or 02_pid'" in machine.commands[4]
    assert machine.commands[5].endswith("01 02")


def test_lesson_that_breaks_a_promise_is_written_but_not_kept(lab, machine):
    machine.status = 1
    ran = lessons.run(lab)
    assert not ran.passed and (ran.notebooks / f"{NAMES[0]}.ipynb").exists()
    assert "FAILED" in (lab.settings.state / "log/lessons.log").read_text()
    lessons.run(lab)
    assert len(machine.commands) == 6


def test_lesson_that_did_not_run_is_an_error(lab, machine):
    machine.lost = NAMES[:1]
    with pytest.raises(LabError, match=f"did not run to their end: {NAMES[0]}$"):
        lessons.run(lab)
    machine.lost = ()
    assert lessons.run(lab).passed


def test_number_without_a_lesson_is_an_error(lab, machine):
    with pytest.raises(UsageError, match="no lesson with one of the numbers 1 99"):
        lessons.run(lab, ["1", "99"])
    assert not machine.commands


def test_hash_changes_with_every_input_and_with_nothing_else(tmp_path):
    for name in "steps/a.py", "notebooks/b.ipynb", "tests/test_x.py", "docs/c.md":
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text("1")
    before = lessons.digest(tmp_path, ["qemu"])
    assert lessons.digest(tmp_path, ["vagrant"]) != before
    for name in "docs/c.md", "tests/lab/test_y.py", "steps/__pycache__/a", "steps/.x/a":
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("2")
    assert lessons.digest(tmp_path, ["qemu"]) == before
    for name in "steps/a.py", "notebooks/b.ipynb", "tests/test_x.py":
        (tmp_path / name).write_text("2")
        after = lessons.digest(tmp_path, ["qemu"])
        assert after != before
        before = after
