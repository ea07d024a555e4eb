"""Step 02: processes of its own; the command is PID 1. pid_namespaces(7)."""

import os
import random
import re
import signal
import subprocess

import pytest
from runtime import eventually, namespace, processes_with, shell


@pytest.fixture
def victim():
    """A process of the host's."""
    process = subprocess.Popen(["sleep", f"1000.{random.randint(10**6, 10**7)}"])
    yield process
    process.kill()
    process.wait()


def test_command_is_pid_1(runtime):
    """pid_namespaces(7): the first process of a new namespace has the PID 1 in it."""
    assert runtime.ok("echo $$") == "1\n"
    with runtime.running() as box:
        assert box.ask("echo $$") == "1\n"
        assert box.pid > 1 and os.path.exists(f"/proc/{box.pid}")


def test_pids_inside_start_again_at_1(runtime):
    """pid_namespaces(7): PIDs are unique in a namespace, and in each of them they start
    at 1."""
    # Not always 2: a runtime may have used a few before it became the command.
    assert 1 < int(runtime.ok("sh -c 'echo $$'; true")) < 10


def test_one_process_has_two_pids(runtime):
    """pid_namespaces(7): a process has a PID in its namespace, and one in each that is
    above: NSpid in /proc/PID/status."""
    with runtime.running() as box:
        status = open(f"/proc/{box.pid}/status").read()
        assert re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)[1].split() == [
            str(box.pid),
            "1",
        ]


def test_pid_namespace_is_new(runtime):
    """pid_namespaces(7): CLONE_NEWPID makes the child the first process of a new
    one."""
    with runtime.running() as box:
        inside = namespace("pid", box.pid)
        assert inside != namespace("pid")
        assert shell(f"lsns -n -t pid -o NS,PID -p {box.pid}").out.split() == [
            inside,
            str(box.pid),
        ]


def test_process_of_the_host_cannot_be_killed(runtime, victim):
    """pid_namespaces(7): who has no PID in a namespace cannot be named there: kill(2)
    says ESRCH."""
    result = runtime.run(f"kill -9 {victim.pid}")
    assert result.status != 0 and "o such process" in result.err, result
    assert victim.poll() is None


def test_killing_every_visible_process_spares_the_host(runtime, victim, seconds):
    """kill(2): -1 is every process that the caller may signal, and can name."""
    # kill(2) with -1: every process that the caller may signal, but not itself and PID 1.
    # The step before would end the machine's processes: there it is held off.
    script = f"test $$ = 1 || exit 99; sleep {seconds} & kill -9 -1; wait; echo alone"
    assert runtime.ok(script) == "alone\n"
    assert victim.poll() is None


def test_host_can_see_and_kill_processes_of_the_container(runtime, seconds):
    """pid_namespaces(7): a process is visible in its namespace, and in all above."""
    with runtime.running() as box:
        box.ask(f"sleep {seconds} & :")
        assert 1 < int(box.ask("echo $!")) < 10
        [outside] = eventually(lambda: processes_with(seconds))  # once it is executed
        os.kill(outside, signal.SIGKILL)
        assert eventually(lambda: processes_with(seconds) == [])


def of_its_own(seconds):
    """A command that leaves a process which no terminal's end reaches: setsid(2). The shell
    waits for the end of its output, and so until it is in its session."""
    return f": $(setsid sh -c 'exec sleep {seconds} >/dev/null 2>&1' &)"


def test_death_of_pid_1_ends_all_processes_of_the_container(runtime, seconds):
    """pid_namespaces(7): when process 1 ends, the kernel kills all others of the
    namespace."""
    with runtime.running() as box:
        box.ask(of_its_own(seconds))
        assert eventually(lambda: processes_with(seconds))
    assert box.process.returncode == 0  # its shell found the end of its input
    assert eventually(lambda: processes_with(seconds) == [])


def test_death_of_the_runtime_ends_all_processes_of_the_container(runtime, seconds):
    """prctl(2): the command dies with its runtime, and as PID 1 takes all others with
    it: pid_namespaces(7)."""
    with runtime.running() as box:
        box.ask(of_its_own(seconds))
        assert eventually(lambda: processes_with(seconds))
        box.kill(signal.SIGKILL)
        assert eventually(lambda: processes_with(seconds) == [])
    runtime.sweep()


def test_pid_1_is_immune_to_signals_that_it_does_not_handle(runtime):
    """pid_namespaces(7): from inside, process 1 gets only the signals that it has a
    handler for."""
    assert runtime.ok("kill -TERM $$; echo alive") == "alive\n"


def test_orphan_gets_pid_1_as_its_parent(runtime):
    """pid_namespaces(7): an orphan's new parent is process 1 of its namespace, not of
    the host."""
    script = "sh -c '(sleep 0.3; exec sh -c \"echo parent \\$PPID\") & '; sleep 1; echo me $$"
    assert runtime.ok(script) == "parent 1\nme 1\n"


def test_two_containers_do_not_see_each_other(runtime):
    """pid_namespaces(7): neighbours have no PID for each other."""
    with runtime.running() as one, runtime.running() as two:
        assert one.ask("echo $$") == two.ask("echo $$") == "1\n"
        assert namespace("pid", one.pid) != namespace("pid", two.pid)
        result = two.ask(f"kill -9 {one.pid}")
        assert "o such process" in result, result
        assert one.ask("echo alive") == "alive\n"


def test_nsenter_on_the_host_can_join_the_pid_namespace(runtime):
    """nsenter(1) joins a namespace with setns(2); its child has a PID there."""
    with runtime.running() as box:
        out = shell(f"nsenter -t {box.pid} -p sh -c 'echo $$'").out
        assert 1 < int(out) < 20, out
