"""Many containers, one after the other and at the same time. None fails, and afterwards
the host has what it had before."""

import concurrent.futures
import pathlib
import re
import shutil
import subprocess

import pytest
from runtime import (
    FULL,
    LAST,
    PROJECT,
    STEPS,
    Runtime,
    eventually,
    nothing_left_behind,
    shell,
)

LIMITS = {"memory": "64M", "pids": 32, "cpus": 1}
MB = 1 << 20
RUNS, AT_ONCE = (2000, 200) if FULL else (60, 40)


def exact_counts():
    """Returns how many things the host has of the kinds of which none may be left:
    {what: how many}."""
    groups = pathlib.Path("/sys/fs/cgroup/cgroup.stat")
    states = shell("ps -e -o stat=").out
    return {
        "mounts": len(pathlib.Path("/proc/self/mountinfo").read_text().splitlines()),
        "links": len(list(pathlib.Path("/sys/class/net").iterdir())),
        "namespaces": len(shell("lsns --noheadings --output NS").lines),
        "cgroups": int(groups.read_text().split()[1]),
        "zombies": states.count("Z"),
        "containers": len(shell("ls /var/lib/workshop/containers", check=False).lines),
    }


def memory_and_files():
    """Returns what other programs change as well: (bytes of available memory, open
    files)."""
    memory = pathlib.Path("/proc/meminfo").read_text()
    files = pathlib.Path("/proc/sys/fs/file-nr").read_text()
    available = int(re.search(r"MemAvailable:\s+(\d+)", memory)[1]) << 10
    return available, int(files.split()[0])


@pytest.fixture
def unchanged(network, record_property):
    """Checks that after the test the host's resources are what they were before."""
    Runtime(LAST).ok("true", "argument", net="bridge", **LIMITS)  # warms up
    before, (memory, files) = exact_counts(), memory_and_files()
    yield
    assert eventually(lambda: exact_counts() == before, 30), (exact_counts(), before)
    # Other programs on the machine come and go, so allow for 64 MB and 300 files.
    assert eventually(lambda: memory_and_files()[0] > memory - 64 * MB, 30), (
        memory_and_files(),
        memory,
    )
    assert eventually(lambda: memory_and_files()[1] < files + 300, 30), (
        memory_and_files(),
        files,
    )
    for name, count in before.items():
        record_property(name, count)


@pytest.mark.needs("cgroup2", "machine")
def test_many_runs_in_a_row_succeed(unchanged, record_property):
    runtime = Runtime(LAST)
    for number in range(RUNS):
        done = runtime.run("true", "argument", net="bridge", **LIMITS)
        assert (done.status, done.err) == (0, ""), (number, done)
    record_property("runs", RUNS)


@pytest.mark.needs("cgroup2", "machine")
def test_many_containers_at_once_succeed(unchanged, record_property):
    """All of them are alive before the first one ends, because each waits for a
    line."""
    argv = Runtime(LAST).argv(
        *("sh", "-c", "echo alive; read go; exit 7"), net="bridge", **LIMITS
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    boxes = [subprocess.Popen(argv, **pipes) for _ in range(AT_ONCE)]
    try:
        assert [box.stdout.readline() for box in boxes] == ["alive\n"] * AT_ONCE
        for box in boxes:
            box.stdin.write("go\n")
            box.stdin.close()
        assert [box.wait(60) for box in boxes] == [7] * AT_ONCE
    finally:
        for box in boxes:
            box.kill()
            box.wait()
            box.stdout.close()
    record_property("at once", AT_ONCE)


def test_runtimes_of_several_learners_do_not_disturb_each_other(tmp_path):
    """The runtimes of two learners, one of them at step 05, and the reference run at
    the same time."""
    runtimes = {"reference": Runtime(LAST)}
    for name, step in ("one", LAST), ("other", STEPS[5]):
        (tmp_path / name).mkdir()
        (tmp_path / "steps").exists() or (tmp_path / "steps").symlink_to(
            PROJECT / "steps"
        )
        shutil.copy(step, tmp_path / name)
        runtimes[name] = Runtime(tmp_path / name / "container.py")

    def run(name, number):
        script = (
            f"hostname; echo {name} >/tmp/mine; sleep 0.2; cat /tmp/mine; exit {number}"
        )
        return name, number, runtimes[name].run(script, hostname=f"{name}-{number}")

    with nothing_left_behind(), concurrent.futures.ThreadPoolExecutor(6) as pool:
        work = [pool.submit(run, name, n) for n in range(6) for name in runtimes]
        for done in concurrent.futures.as_completed(work):
            name, number, result = done.result()
            assert result.status == number, result
            assert result.lines == [f"{name}-{number}", name], result
