"""Commands that the guide runs with limits on their time and on their output."""

import pytest

from workshop import bounded

TOO_MUCH = "it took too long, or printed too much"


@pytest.mark.parametrize(
    ("script", "status", "problem"),
    [
        ("echo fine", 0, None),
        ("echo wrong >&2; echo more >&2; exit 3", 3, "wrong"),
        ("exit 3", 3, "exit status 3"),
        ("kill -9 $$", -9, "exit status -9"),
        ("exec sleep 60", None, TOO_MUCH),
        ("exec yes", None, TOO_MUCH),
    ],
)
def test_command_is_bounded_and_its_problem_is_one_line(script, status, problem):
    output = bounded.run(["sh", "-c", script], 0.5, 100_000)
    assert (output.status, output.problem()) == (status, problem)
    assert len(output.out) < 200_000


def test_command_that_does_not_exist_has_a_status_as_in_a_shell():
    output = bounded.run(["/no/such/command"], 1)
    assert output.status == 126 and output.problem() == "No such file or directory"


def test_command_is_killed_when_the_wait_for_it_is_interrupted(monkeypatch):
    started = []

    def interrupt(*_):
        raise KeyboardInterrupt

    class Popen(bounded.subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(bounded.subprocess, "Popen", Popen)
    monkeypatch.setattr(bounded.select, "select", interrupt)
    with pytest.raises(KeyboardInterrupt):
        bounded.run(["sleep", "60"], 60)
    assert started[0].wait(1) == -9
