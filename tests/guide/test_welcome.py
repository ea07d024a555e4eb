"""`workshop welcome`: the end of ./lab up."""

import os
import re
import subprocess
import sys

from runtime import FINISHED, PROJECT, namespace, nothing_left_behind

from workshop import comparison, project
from workshop.commands import welcome as welcome_command
from workshop.namespaces import KINDS


def welcome():
    return subprocess.run(
        [sys.executable, "-P", "-m", "workshop", "welcome"],
        env=os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT}/steps", "COLUMNS": "400"},
        capture_output=True,
        text=True,
    )


def test_welcome_shows_that_the_container_has_its_own_everything():
    with nothing_left_behind():
        done = welcome()
    assert done.returncode == 0, done
    rows = [line for line in done.stdout.splitlines() if line.startswith("│")]
    assert len(rows) == 3 + len(KINDS), done.stdout
    rows = [row for row in rows if not row.startswith("│ ls /")]  # can be the same
    assert all("differs" in row for row in rows), done.stdout
    assert re.search(rf"│ hostname +│ {os.uname().nodename} +│ container ", rows[0]), (
        rows
    )


def test_host_answers_with_its_own_namespaces():
    answers = comparison.ask([])
    assert answers.hostname == os.uname().nodename
    ours = {kind: re.sub(r"\D", "", namespace(kind)) for kind in KINDS}
    assert answers.namespaces == ours


def test_runtime_that_fails_is_reported_with_its_own_words(
    tmp_path, monkeypatch, capsys
):
    broken = tmp_path / "steps" / FINISHED.parent.name / "container.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\necho no such image >&2\nexit 125\n")
    broken.chmod(0o755)
    monkeypatch.setattr(project, "PROJECT", tmp_path)
    assert welcome_command.main([]) == 1
    assert "no such image" in capsys.readouterr().out
