"""Faults around a runtime, and at every one of its lines.

Afterwards the host is as it was before, or the next run or `workshop clean` makes it
so. The error is one line."""

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from runtime import (
    FULL,
    LAST,
    LIMIT,
    MASKED,
    PROJECT,
    READ_ONLY,
    STEPS,
    Runtime,
    Terminal,
    assert_one_line_error,
    eventually,
    host_state,
    nothing_left_behind,
    processes_with,
    shell,
)

NETWORK = PROJECT / "steps/network.sh"

# Traces a container.py with sys.settrace(), as a debugger does. It writes each line of
# container.py and the helpers to a file before that line runs. At the target line, it kills
# the process, parent or child.
STEPPER = """
import ctypes, os, signal, sys
path, log, target = sys.argv[1:4]
HELPERS = "container.py process.py cleanup.py isolation.py command_line.py rootfs.py"
HELPERS = [*HELPERS.split(), "tools.py"]
del sys.argv[:1], sys.argv[1:3]
sys.path[0] = os.path.dirname(path)
first, log = os.getpid(), os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
def trace(frame, event, argument):
    file = os.path.basename(frame.f_code.co_filename)
    if file not in HELPERS:
        return None
    if event == "line":
        process = {first: "parent", 1: "child"}.get(os.getpid(), "guard")
        place = f"{process} {file} {frame.f_lineno}"
        if place == target:
            os.kill(os.getpid(), signal.SIGKILL)
            ctypes.string_at(0)  # PID 1 is immune, but not to a fault: pid_namespaces(7)
        try:
            os.write(log, f"{place}\\n".encode())
        except OSError:
            pass  # the log is closed just before the command starts
    return trace
code = compile(open(path).read(), path, "exec")
sys.settrace(trace)
exec(code)
"""


def stepped(target, log, *words):
    """Runs the last step with these arguments, and kills it when it reaches target.
    Returns the exit status."""
    command = [sys.executable, "-S", "-c", STEPPER, LAST, log, target, *words]
    done = subprocess.run(command, capture_output=True, timeout=LIMIT)
    return done.returncode


# The status if the parent was killed, if the child was killed and the parent reports it, or
# if the parent failed because the child was dead.
DEAD = (-signal.SIGKILL, 128 + signal.SIGSEGV, 125)


@pytest.mark.parametrize("cleaner", ["the next run", "workshop clean"])
@pytest.mark.parametrize(
    "limits",
    [
        pytest.param("", id="without limits"),
        pytest.param(
            "--memory 64M --pids 32",
            id="with limits",
            marks=pytest.mark.needs("cgroup2"),
        ),
    ],
)
def test_leftovers_of_a_runtime_killed_at_any_line_are_swept(
    network, tmp_path, cleaner, limits, record_property
):
    """kill(2): SIGKILL cannot be handled. The next run or `workshop clean` removes what
    the kernel does not remove with the last process: directories and cgroups named
    after dead PIDs."""
    # This is long enough for a guard to start, and no other process sleeps for this time.
    log, mark = tmp_path / "log", f"0.1{random.randint(10**6, 10**7)}"
    words = ["run", "--net", "bridge", *limits.split()]
    words += ["busybox", "sleep", mark]
    assert stepped("", log, *words) == 0
    # Each line counts once, when it is first reached. Each cleaner gets half of them.
    places = list(dict.fromkeys(log.read_text().splitlines()))
    assert sum("parent container.py" in place for place in places) > 40, places
    assert sum("child container.py" in place for place in places) > 25, places
    if not FULL:
        places = [place for place in places if "container.py" in place]
    before, places = host_state(), places[cleaner == "workshop clean" :: 2]
    record_property("killed at lines", len(places))
    for place in places:
        status = stepped(place, log, *words)
        # The guard only watches for the parent's death, so its own death changes nothing.
        assert status in ((0,) if place.startswith("guard") else DEAD), (place, status)
        assert eventually(lambda: not processes_with(mark)), place
        left = eventually(
            lambda: without_leftovers(host_state()) == without_leftovers(before)
        )
        assert left, (place, host_state(), before)
        log.unlink()
    if cleaner == "the next run":
        Runtime(LAST).sweep()
    else:
        command = [sys.executable, "-P", "-m", "workshop", "clean"]
        subprocess.run(
            command, check=True, env=os.environ | {"PYTHONPATH": str(PROJECT)}
        )
        shell(f"{NETWORK} on")
    assert eventually(lambda: host_state() == before), (host_state(), before)


def without_leftovers(state):
    """Returns a host's state without the entries that the kernel does not clean up by
    itself."""
    return {k: v for k, v in state.items() if k not in ("cgroups", "containers")}


def succeeds_or_explains(result):
    """Returns whether a run ended well and printed no error, or failed with an error of
    one line, plus one more line if it could not clean up either."""
    lines = len(re.findall("^container.py: .+$", result.err, re.MULTILINE))
    if result.status == 0:
        return result.err == ""
    all_of_them = lines == len(result.err.splitlines())
    return result.status == 125 and all_of_them and lines in (1, 2)


def sweep():
    """Runs a container, which clears away what a starved run could not."""
    Runtime(LAST).sweep()


# With 1 to 3 inodes the container's own directories do not fit; with 16 everything does.
CERTAIN = {1: 125, 2: 125, 3: 125, 16: 0}


@pytest.mark.parametrize("inodes", [*range(1, 9), 16])
def test_full_disk_gives_a_one_line_error(inodes):
    """mkdir(2), open(2): ENOSPC, in one place after the other. tmpfs(5): nr_inodes."""
    mount = f"mount -t tmpfs -o nr_inodes={inodes} full /var/lib/workshop/containers"
    full = ["unshare", "--mount", "sh", "-ec", f'{mount}; exec "$@"', "sh"]
    with nothing_left_behind():
        result = Runtime(LAST, full).run("touch /x && rm /x")
    # If overlayfs cannot create what it needs in work, the root becomes read-only.
    refusal = r"touch: /x: (No space left on device|Read-only file system)\n"
    refused = result.status == 1 and re.fullmatch(refusal, result.err)
    assert succeeds_or_explains(result) or refused, result
    assert result.status != 125 or "No space left on device" in result.err, result
    assert result.status == CERTAIN.get(inodes, result.status), result


@pytest.mark.parametrize("descriptors", [*range(4, 24), 40, 60])
def test_lack_of_descriptors_gives_a_one_line_error(descriptors):
    """getrlimit(2): RLIMIT_NOFILE is the highest descriptor plus one; EMFILE."""
    few = ["prlimit", f"--nofile={descriptors}"]
    with nothing_left_behind():
        result = Runtime(LAST, few).run("true", "argument")
        if result.status:
            sweep()
    # With fewer than that, Python may not even start.
    no_interpreter = descriptors < 6 and result.status in (1, 127) and result.err
    assert succeeds_or_explains(result) or no_interpreter, result
    # All the trees of enter_root are open at the same time, and so is that of each cover.
    covers = sum(map(os.path.exists, [*MASKED, *READ_ONLY]))
    assert result.status == 0 or descriptors < 21 + covers, result


@pytest.mark.needs("cgroup2")
@pytest.mark.parametrize("pids", range(1, 9))
def test_lack_of_processes_gives_a_one_line_error(pids):
    """cgroups(7): at a cgroup's pids.max, fork(2) fails with EAGAIN."""
    group = pathlib.Path(f"/sys/fs/cgroup/few-{os.getpid()}")
    shell(f"echo +pids >/sys/fs/cgroup/cgroup.subtree_control; mkdir {group}")
    (group / "pids.max").write_text(str(pids))
    few = ["sh", "-c", f'echo $$ >{group}/cgroup.procs; exec "$@"', "sh"]
    try:
        with nothing_left_behind():
            result = Runtime(LAST, few).run("true", "argument")
            if result.status:
                sweep()
    finally:
        assert eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()
    assert succeeds_or_explains(result), result
    assert result.status == {1: 125, 8: 0}.get(pids, result.status), result


@pytest.mark.needs("machine")
def test_lack_of_terminals_gives_a_one_line_error():
    """pty(7): /proc/sys/kernel/pty/max limits all terminals of the machine, so
    openpty(3) fails with ENOSPC."""
    most = pathlib.Path("/proc/sys/kernel/pty/max")
    before = most.read_text()
    run = " ".join(Runtime(LAST).argv("true", "argument"))
    with nothing_left_behind():
        terminal = Terminal(["/bin/sh", "-c", f"read go; exec {run}"])
        try:
            most.write_text("0")
            terminal.type("\n")
            terminal.wait_for(r"container.py: [^\n]*No space left on device\r\n$")
            assert terminal.status() == 125
        finally:
            most.write_text(before)
            terminal.close()


@pytest.mark.needs("machine")
def test_clock_that_jumps_does_not_disturb_a_container():
    """clock_settime(2): CLOCK_REALTIME can be set, CLOCK_MONOTONIC cannot."""
    with nothing_left_behind(), Runtime(LAST).running() as box:
        begin, monotonic = time.time(), time.monotonic()
        try:
            for when in ("1990-01-01", "2037-12-31"):
                shell(f"date --set {when}")
                assert box.ask("echo $$") == "1\n"
                assert Runtime(LAST).run("exit 7").status == 7
        finally:
            time.clock_settime(
                time.CLOCK_REALTIME, begin + time.monotonic() - monotonic
            )
        assert box.ask("echo $$") == "1\n"


@pytest.mark.needs("machine")
def test_watch_works_without_inotify(tmp_path):
    """inotify(7) does not see changes that the other machine makes in a shared
    directory. So watch looks at the file itself, and works even where there is no
    inotify at all."""
    most = pathlib.Path("/proc/sys/fs/inotify/max_user_instances")
    before = most.read_text()
    (tmp_path / "container.py").write_text("(\n")
    (tmp_path / "container.py").chmod(0o755)
    command = ["/usr/bin/env", f"WORKSHOP_MY={tmp_path}", f"PYTHONPATH={PROJECT}"]
    most.write_text("0")
    try:
        terminal = Terminal([*command, sys.executable, "-m", "workshop", "watch", "0"])
        try:
            terminal.wait_for("line 1: .*never closed")
            (tmp_path / "container.py").write_text("\n)\n")
            terminal.wait_for("line 2: unmatched")
            terminal.type("q")
            assert terminal.status() == 0
        finally:
            terminal.close()
    finally:
        most.write_text(before)


def test_next_run_ends_what_still_runs_in_the_cgroup_of_a_dead_runtime(seconds):
    """cgroups(7), cgroup.kill: a process that outlived its runtime loses its files, so it must
    end before. This needs no controllers, so any cgroup2 mount will do."""
    cgroup2 = shell("findmnt -n -t cgroup2 -o TARGET | tail -1").out.strip()
    dead = subprocess.Popen(["true"])
    dead.wait()
    group = pathlib.Path(cgroup2, "workshop", str(dead.pid))
    box = pathlib.Path(f"/var/lib/workshop/containers/{dead.pid}")
    group.mkdir(parents=True)
    box.mkdir(parents=True)
    script = f'mount --bind {cgroup2} /sys/fs/cgroup; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    left = subprocess.Popen(["sleep", seconds])
    try:
        (group / "cgroup.procs").write_text(str(left.pid))
        result = Runtime(LAST, prefix).run("true", "argument")
        assert (result.status, result.err) == (0, ""), result
        assert left.wait(LIMIT) == -signal.SIGKILL and not box.exists()
    finally:
        left.kill()
        left.wait()
        group.rmdir()
        with contextlib.suppress(OSError):  # others may use it
            group.parent.rmdir()


def test_error_of_a_dead_child_is_reported_and_not_its_consequence(tmp_path):
    """When the parent wants to lay a cable, or write a map, it may find the child
    dead."""
    script = tmp_path / "container.py"
    script.write_text(
        "#!/usr/bin/python3 -S\n"
        f"import sys, time; sys.path.append({str(PROJECT / 'steps')!r})\n"
        "import process\n"
        "def child(args): raise SystemExit('the cause')\n"
        "def parent(args):\n"
        "    process.start(child, args)\n"
        "    time.sleep(0.5)\n"
        "    raise SystemExit('what came of it')\n"
        "process.main(parent, 'run COMMAND...')\n"
    )
    script.chmod(0o755)
    result = Runtime(script).run("run", "true", raw=True)
    assert (result.status, result.err) == (125, "container.py: the cause\n"), result


@pytest.mark.parametrize("step", STEPS[3:], ids=lambda step: step.parent.name)
@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ("os.symlink(", "os.symlinkk(", "AttributeError: module 'os' has no attribute"),
        ("attach(tree, path)", "attach(path, tree)", "TypeError: "),
    ],
    ids=["misspelt name", "swapped arguments"],
)
def test_mistake_after_pivot_root_names_its_line(tmp_path, step, right, wrong, error):
    """pivot_root(2) takes Python's standard library out of reach, so nothing can be imported
    for the error. The second exception is raised in a helper, but the line is the
    learner's."""
    (tmp_path / "my").mkdir()
    (tmp_path / "steps").symlink_to(PROJECT / "steps")
    mine = pathlib.Path(shutil.copy(step, tmp_path / "my"))
    text = step.read_text()
    before, found, _ = text.partition(right)
    assert found
    mine.write_text(text.replace(right, wrong, 1))
    line = before.count("\n") + 1
    said = assert_one_line_error(Runtime(mine).run("true", "argument"), error)
    assert said.startswith(f"line {line}: "), said


def test_help_that_cannot_be_written_gives_an_error():
    """write(2), ENOSPC: the runtime writes everything that it prints before it ends."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [LAST, "run", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 125 and "No space left on device\n" in done.stderr, done


def test_unfinished_line_of_the_parent_is_printed():
    """A learner may print something without a line end, to find a mistake."""
    script = "import sys; sys.path[:0] = sys.argv.pop(1).split(); import process;"
    script += "process.main(lambda args: print(1, end='') or 0, 'run COMMAND...')"
    words = ["/usr/bin/python3", "-c", script, PROJECT / "steps", "run", "true"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1", ""), done
