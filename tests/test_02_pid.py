"""Step 02: the container has its own processes, and the command is PID 1.
pid_namespaces(7)."""

import os
import random
import re
import signal
import subprocess

import pytest
from runtime import eventually, namespace, processes_with, shell


@pytest.fixture
def victim():
    """A process on the host."""
    process = subprocess.Popen(["sleep", f"1000.{random.randint(10**6, 10**7)}"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.told("spec")
def test_command_is_pid_1(runtime):
    """pid_namespaces(7): the first process of a new namespace has PID 1 in it."""
    assert runtime.ok("echo $$") == "1\n"
    with runtime.running() as box:
        assert box.ask("echo $$") == "1\n"
        assert box.pid > 1 and os.path.exists(f"/proc/{box.pid}")


@pytest.mark.told("spec")
def test_pids_inside_start_again_at_1(runtime):
    """pid_namespaces(7): PIDs are unique within a namespace, and each namespace counts
    them from 1."""
    # It need not be 2, because a runtime may have used a few PIDs before.
    assert 1 < int(runtime.ok("sh -c 'echo $$'; true")) < 10


@pytest.mark.told("spec", "two-pids-why")
def test_one_process_has_two_pids(runtime):
    """pid_namespaces(7): a process has a PID in its own namespace and another one in
    each namespace above. NSpid in /proc/PID/status lists them."""
    with runtime.running() as box:
        status = open(f"/proc/{box.pid}/status").read()
        assert re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)[1].split() == [
            str(box.pid),
            "1",
        ]


@pytest.mark.told("spec")
def test_pid_namespace_is_new(runtime):
    """pid_namespaces(7): CLONE_NEWPID makes the child the first process of a new
    namespace."""
    with runtime.running() as box:
        inside = namespace("pid", box.pid)
        assert inside != namespace("pid")
        assert shell(f"lsns -n -t pid -o NS,PID -p {box.pid}").out.split() == [
            inside,
            str(box.pid),
        ]


@pytest.mark.told("spec", "esrch-why")
def test_process_of_the_host_cannot_be_killed(runtime, victim):
    """pid_namespaces(7): a process without a PID in a namespace cannot be named there,
    so kill(2) fails with ESRCH."""
    result = runtime.run(f"kill -9 {victim.pid}")
    assert result.status != 0 and "o such process" in result.err, result
    assert victim.poll() is None


@pytest.mark.told("spec")
def test_killing_every_visible_process_spares_the_host(runtime, victim, seconds):
    """kill(2): -1 stands for every process that the caller can see and may signal."""
    # kill(2) with -1 does not signal the caller itself, nor PID 1. On the step before it
    # would end the machine's processes, so there the script stops first.
    script = f"test $$ = 1 || exit 99; sleep {seconds} & kill -9 -1; wait; echo alone"
    assert runtime.ok(script) == "alone\n"
    assert victim.poll() is None


@pytest.mark.told("spec", "two-pids-why")
def test_host_can_see_and_kill_processes_of_the_container(runtime, seconds):
    """pid_namespaces(7): a process is visible in its own namespace and in all
    namespaces above."""
    with runtime.running() as box:
        box.ask(f"sleep {seconds} & :")
        assert 1 < int(box.ask("echo $!")) < 10
        [outside] = eventually(lambda: processes_with(seconds))  # the sleep runs
        os.kill(outside, signal.SIGKILL)
        assert eventually(lambda: processes_with(seconds) == [])


def sleep_in_own_session(seconds):
    """Returns a command that leaves a process in a session of its own, setsid(2), so
    that it survives the end of the terminal. The shell waits for the end of the
    command's output, so the process is in its session by then."""
    return f": $(setsid sh -c 'exec sleep {seconds} >/dev/null 2>&1' &)"


@pytest.mark.told("spec")
def test_death_of_pid_1_ends_all_processes_of_the_container(runtime, seconds):
    """pid_namespaces(7): when process 1 ends, the kernel kills all other processes in
    the namespace."""
    with runtime.running() as box:
        box.ask(sleep_in_own_session(seconds))
        assert eventually(lambda: processes_with(seconds))
    assert box.process.returncode == 0  # the shell reached the end of its input
    assert eventually(lambda: processes_with(seconds) == [])


@pytest.mark.told("spec")
def test_death_of_the_runtime_ends_all_processes_of_the_container(runtime, seconds):
    """prctl(2): the command dies with its runtime. The command is PID 1, so the kernel
    then kills all other processes as well: pid_namespaces(7)."""
    with runtime.running() as box:
        box.ask(sleep_in_own_session(seconds))
        assert eventually(lambda: processes_with(seconds))
        box.kill(signal.SIGKILL)
        assert eventually(lambda: processes_with(seconds) == [])
    runtime.sweep()


@pytest.mark.told("spec", "immune-why")
def test_pid_1_is_immune_to_signals_that_it_does_not_handle(runtime):
    """pid_namespaces(7): from inside, process 1 receives only the signals that it has a
    handler for."""
    assert runtime.ok("kill -TERM $$; echo alive") == "alive\n"


@pytest.mark.told("spec", "host-term-why", given=["parent 1\nme 1"])
def test_orphan_gets_pid_1_as_its_parent(runtime):
    """pid_namespaces(7): an orphan's new parent is process 1 of its namespace, not of
    the host."""
    script = "sh -c '(sleep 0.3; exec sh -c \"echo parent \\$PPID\") & '; sleep 1; echo me $$"
    assert runtime.ok(script) == "parent 1\nme 1\n"


@pytest.mark.told("spec", "esrch-why", given=["alive"])
def test_two_containers_do_not_see_each_other(runtime):
    """pid_namespaces(7): a process in one container has no PID in the other."""
    with runtime.running() as one, runtime.running() as two:
        assert one.ask("echo $$") == two.ask("echo $$") == "1\n"
        assert namespace("pid", one.pid) != namespace("pid", two.pid)
        result = two.ask(f"kill -9 {one.pid}")
        assert "o such process" in result, result
        assert one.ask("echo alive") == "alive\n"


@pytest.mark.told("spec", "nsenter-why")
def test_nsenter_on_the_host_can_join_the_pid_namespace(runtime):
    """nsenter(1) joins a namespace with setns(2), and its child gets a PID there."""
    with runtime.running() as box:
        out = shell(f"nsenter -t {box.pid} -p sh -c 'echo $$'").out
        assert 1 < int(out) < 20, out
