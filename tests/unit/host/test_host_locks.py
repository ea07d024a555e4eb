"""Locks, between real processes."""

import subprocess
import sys
import time

import pytest

from host import locks
from host.errors import LabError
from host.settings import PROJECT

# Takes the lock, says so, and keeps it until its input ends.
HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from host import locks
with locks.exclusive(sys.argv[2], lambda: print("waiting", flush=True)):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Starts a process that holds the lock; the caller must end it."""
    started = []

    def start():
        command = [sys.executable, "-c", HOLDER, str(PROJECT), tmp_path / "lock"]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_second_process_waits_and_says_so(holder):
    first, second = holder(), None
    assert first.stdout.readline() == "locked\n"
    second = holder()
    assert second.stdout.readline() == "waiting\n"
    first.stdin.close()
    assert second.stdout.readline() == "locked\n"


def test_killed_process_releases_its_lock(holder):
    first = holder()
    assert first.stdout.readline() == "locked\n"
    first.kill()
    first.wait()
    assert holder().stdout.readline() == "locked\n"


def test_waiting_ends_at_the_limit(holder, tmp_path):
    first = holder()
    assert first.stdout.readline() == "locked\n"
    begin, calls = time.monotonic(), []
    lock = locks.exclusive(tmp_path / "lock", lambda: calls.append(1), limit=0.3)
    with pytest.raises(LabError, match="still running"), lock:
        pass
    assert calls == [1] and time.monotonic() - begin < 5


def test_take_does_not_wait(holder, tmp_path):
    first = holder()
    assert first.stdout.readline() == "locked\n"
    assert locks.take(tmp_path / "lock") is None


def test_program_that_outlives_us_does_not_keep_the_lock(tmp_path):
    script = HOLDER.replace(
        "sys.stdin.read()",
        "import subprocess as s; print(s.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)",
    )
    command = [sys.executable, "-c", script, str(PROJECT), tmp_path / "lock"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    try:
        assert locks.take(tmp_path / "lock") is not None
    finally:
        subprocess.run(["kill", said.split()[1]], check=True)
