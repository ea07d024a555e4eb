"""Running other programs: their logs, their parts, and how they end. The programs here are
small and harmless."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from host.errors import LabError
from host.processes import run_logged, start_server
from host.settings import PROJECT


@pytest.fixture
def log(lab):
    return lab.log("try")


def shown(lab):
    return lab.progress.stream.getvalue()


def test_parts_that_a_script_announces_are_shown(lab, log):
    script = "echo '  image  12s  the disk'; echo noise; echo '  image 13s  done'"
    with lab.progress.stage("building") as stage:
        run_logged(stage, ["sh", "-c", script], log)
    assert "  the disk\n" in shown(lab) and "  done\n" in shown(lab)
    assert "noise" not in shown(lab) and "noise" in log.read_text()


def test_failure_shows_the_last_lines_and_where_the_log_is(lab, log):
    with pytest.raises(LabError) as error, lab.progress.stage("building") as stage:
        run_logged(stage, ["sh", "-c", "seq 100; echo why >&2; exit 3"], log)
    assert error.value.sentence == "building failed"
    assert "| why" in error.value.advice and "| 100" in error.value.advice
    assert "| 1" not in error.value.advice
    assert error.value.advice[-1] == f"The whole log is {log}"


def test_full_disk_is_named(lab, log):
    script = "echo 'tar: write: No space left on device'; exit 2"
    building = lab.progress.stage("building")
    with pytest.raises(LabError, match="the disk is full"), building as stage:
        run_logged(stage, ["sh", "-c", script], log)


def test_server_has_its_own_session_and_only_its_user_can_read_its_files(log, tmp_path):
    log.touch(mode=0o644)
    script = "echo $NAME; touch file; ps -o sid= -p $$; cat"
    words = ["sh", "-c", script]
    server = start_server(words, log, cwd=tmp_path, variables={"NAME": "a name"})
    assert server.wait(10) == 0  # its standard input is empty
    name, session = log.read_text().split("\n")[:2]
    assert name == "a name" and int(session) == server.pid
    for path in log, tmp_path / "file":
        assert path.stat().st_mode & 0o777 == 0o600, path


# Runs a script with a lifeline, in a process that can be killed.
CALLER = """
import io, sys, pathlib
sys.path.insert(0, sys.argv[1])
from host.processes import run_logged, start_server
from host.progress import Progress, Stage
stage = Stage(Progress(io.StringIO()), "building", "")
run_logged(stage, ["sh", "-c", sys.argv[3]], pathlib.Path(sys.argv[2]), lifeline=True)
"""
BUILD = "echo $$; cat >/dev/null; touch '{}'"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_lifeline_tells_a_build_that_its_caller_is_gone(tmp_path, number):
    ended = tmp_path / "ended"
    words = [str(PROJECT), tmp_path / "log", BUILD.format(ended)]
    command = [sys.executable, "-c", CALLER, *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as caller:
        wait_until(lambda: pathlib.Path(tmp_path, "log").exists())
        wait_until(lambda: pathlib.Path(tmp_path, "log").read_text())
        os.kill(caller.pid, number)
    wait_until(ended.exists)


def test_error_in_our_own_part_ends_the_program(lab, log, monkeypatch):
    class Odd(Exception):
        pass

    def note(part):
        raise Odd

    with lab.progress.stage("building") as stage:
        monkeypatch.setattr(stage, "note", note)
        script = "echo $$; echo '  image  1s  part'; exec sleep 60"
        with pytest.raises(Odd):
            run_logged(stage, ["sh", "-c", script], log)
    pid = int(log.read_text().split()[0])
    assert not pathlib.Path(f"/proc/{pid}").exists()


def wait_until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
