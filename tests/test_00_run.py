"""Step 00: the runtime starts, watches and ends a program as a shell or an engine does.

process.py and isolation.py keep these promises for every step."""

import contextlib
import fcntl
import os
import pathlib
import random
import re
import shlex
import signal
import struct
import subprocess
import termios
import time

import pytest
from runtime import (
    LIMIT,
    PROJECT,
    Runtime,
    Terminal,
    assert_one_line_error,
    children,
    eventually,
    processes_with,
    shell,
)

IGNORED = {"SIGPIPE": signal.SIGPIPE, "SIGXFSZ": signal.SIGXFSZ}


@pytest.mark.told("spec")
def test_command_runs_with_its_arguments(runtime):
    """execve(2): the command gets its arguments unchanged, because no shell interprets
    them."""
    words = ["a b", "", "$HOME", "ä", "-x", "--"]
    out = runtime.ok("sh", "-c", 'printf "<%s>\\n" "$@"', "sh", *words)
    assert out.splitlines() == [f"<{word}>" for word in words]


@pytest.mark.told("spec-gets")
def test_stdin_reaches_the_command(runtime):
    """fork(2): a child inherits its parent's open files, and standard input is one of
    them."""
    text = f"{random.random()}\n" * 1000
    assert runtime.ok("cat", input=text) == text


@pytest.mark.told("spec-gets")
def test_stdout_and_stderr_stay_apart(runtime):
    """fork(2): a child inherits its parent's open files; 1 and 2 are two of them."""
    result = runtime.run("echo out; echo err >&2")
    assert (result.out, result.err) == ("out\n", "err\n"), result


@pytest.mark.told("spec", "spec-status")
@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_runtime_exits_with_the_status_of_its_command(runtime, status):
    """wait(2): a parent gets its child's exit status, and the function parent returns
    it."""
    result = runtime.run(f"exit {status}")
    assert result.status == status, result


@pytest.mark.told("hands-status-why", "spec-status")
def test_death_by_a_signal_gives_status_128_plus_its_number(runtime):
    """wait(2): the status distinguishes a death by signal from an exit. Shells and engines show
    the first as 128 + N."""
    # The host sends the signal, because PID 1 is immune to signals from inside.
    with runtime.running() as box:
        os.kill(box.pid, signal.SIGKILL)
        box.process.wait(20)
        assert box.process.returncode == 137, box.argv


@pytest.mark.told("spec-status")
def test_missing_command_gives_status_127(runtime):
    """execve(2): ENOENT, so nothing ran. Shells and engines report this as 127:
    sh(1)."""
    name = f"missing-{random.random()}"
    assert_one_line_error(runtime.run(name, "argument"), name, status=127)


@pytest.mark.told("spec-status")
def test_command_that_cannot_be_executed_gives_status_126(runtime):
    """execve(2): EACCES for a file that is not executable. Shells report this as 126:
    sh(1)."""
    result = runtime.run("/etc/passwd", "argument")
    assert_one_line_error(result, "Permission denied", "/etc/passwd", status=126)


@pytest.mark.told("spec", "spec-status")
@pytest.mark.parametrize(
    "words",
    [[], ["run"], ["rum", "true"], ["run", "--unknown", "x", "true"]],
    ids=["no arguments", "no command", "unknown subcommand", "unknown option"],
)
def test_bad_command_line_gives_status_125_and_a_one_line_error(runtime, words):
    """exit(3): 125 means that the runtime itself failed, so it is not mistaken for the
    command's status. The error shows USAGE."""
    result = runtime.run(*words, raw=True)
    assert_one_line_error(result)
    assert "usage: container.py run " in result.err, result


@pytest.mark.told("spec")
def test_help_prints_the_usage(runtime):
    """process.main reads the command line as USAGE describes it, and --help prints
    USAGE, as is the custom: getopt(1)."""
    result = runtime.run("--help", raw=True)
    assert result.status == 0 and result.out.startswith("usage: "), result


@pytest.mark.told("spec-end")
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
    ids=lambda number: number.name,
)
def test_signal_to_the_runtime_reaches_the_command(runtime, number):
    """signal(7): to end a container, you send a signal to its runtime. process.wait
    passes it on."""
    script = f"trap 'echo caught; exit 3' {number.name[3:]}; echo ready; while :; do sleep 0.1; done"
    argv = runtime.argv("sh", "-c", script)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "caught\n"
    assert process.returncode == 3


@pytest.mark.told("spec-end")
def test_command_dies_with_its_runtime(runtime):
    """prctl(2): with PR_SET_PDEATHSIG the kernel sends the child a signal when its
    parent dies. process.start asks for it."""
    with runtime.running() as box:
        pid = box.pid
        box.kill(signal.SIGKILL)
        box.process.wait(10)
        assert eventually(lambda: not os.path.exists(f"/proc/{pid}")), box.argv
    runtime.sweep()


@pytest.mark.told("spec-end")
def test_command_that_changed_its_user_dies_with_its_runtime(runtime, seconds):
    """prctl(2): a change of user cancels PR_SET_PDEATHSIG, so one more process guards
    the command."""
    command = ["setpriv", "--reuid=65534", "--clear-groups", "sleep", seconds]
    argv = runtime.argv(*command, image="debian")
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
    try:
        sleeps = f"pgrep -fx 'sleep {seconds}'"
        assert eventually(lambda: shell(sleeps, check=False).out), argv
        time.sleep(0.3)  # the runtime must die after it has run for a while
    finally:
        process.kill()
        process.wait(10)
    assert eventually(lambda: not processes_with(seconds)), argv
    runtime.sweep()


@pytest.mark.told("spec-gets")
def test_command_inherits_only_stdin_stdout_and_stderr(runtime):
    """close_range(2): an open file is a way out of every container, so process.execute
    closes all descriptors except 0, 1 and 2."""
    with open("/etc/passwd") as file:
        os.set_inheritable(file.fileno(), True)
        out = runtime.ok("ls", "/proc/self/fd", popen={"close_fds": False})
    assert out.split() == ["0", "1", "2", "3"], out  # 3 is ls reading the directory


@pytest.mark.told("spec-gets")
@pytest.mark.parametrize("name", IGNORED)
def test_signals_that_python_ignores_are_restored(runtime, name):
    """signal(7): an ignored signal stays ignored across execve(2), and Python ignores
    these two."""
    out = runtime.ok("grep", "SigIgn", "/proc/self/status")
    mask = int(out.split()[1], 16)
    assert not mask >> (IGNORED[name] - 1) & 1, out


@pytest.mark.told("spec-gets")
def test_no_signal_is_blocked(runtime):
    """sigprocmask(2): the signal mask survives execve(2) as well, so process.execute
    restores it."""
    out = runtime.ok("grep", "SigBlk", "/proc/self/status")
    assert int(out.split()[1], 16) == 0, out


@pytest.mark.told("spec-gets")
def test_signal_that_the_caller_ignores_stays_ignored(runtime):
    """nohup(1) makes its command ignore SIGHUP. The caller wants that, so the runtime
    must not undo it."""
    out = subprocess.run(
        ["nohup", *runtime.argv("grep", "SigIgn", "/proc/self/status")],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    ).stdout
    assert int(out.split()[1], 16) >> (signal.SIGHUP - 1) & 1, out


@pytest.mark.told("spec-gets")
def test_environment_of_the_host_does_not_reach_the_command(runtime):
    """environ(7): the environment may contain passwords and tokens, so process.execute
    passes on only PATH, HOME, LANG and TERM."""
    secret = f"secret-{random.random()}"
    out = runtime.ok("env", popen={"env": {**os.environ, "PASSWORD": secret}})
    assert secret not in out and "PATH=" in out, out


@pytest.mark.told("spec-gets")
def test_broken_pipe_ends_the_command_quietly(runtime):
    """pipe(7): a process that writes to a pipe without a reader gets SIGPIPE, which a
    shell reports as 141."""
    argv = runtime.argv("sh", "-c", "yes; echo $? >&2")
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read().split()[-1] == b"141"


@pytest.mark.told("spec-end")
def test_container_has_its_own_terminal(runtime):
    """pty(7): a container that is started at a terminal gets a new one, and only the
    runtime keeps the host's."""
    with runtime.terminal("sh", image="debian") as terminal:
        terminal.type("stty -echo; stat -Lc 'inside %d:%i.' /proc/self/fd/0\n")
        inside = terminal.wait_for(r"inside (\d+:\d+)\.")[1]
        host = os.stat(f"/proc/{terminal.pid}/fd/0")  # the runtime's terminal
        assert inside != f"{host.st_dev}:{host.st_ino}"
        # If the terminal only echoed the line, it would not show the 3.
        terminal.type("test -t 0 && test -t 1 && test -t 2 && echo all $((1 + 2))\n")
        terminal.wait_for("all 3")
        # Its size follows the size of the user's terminal.
        fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
        terminal.type("stty size\n")
        terminal.wait_for("33 111")
        terminal.type("exit 5\n")
        assert terminal.status() == 5


@pytest.mark.told("spec-end")
def test_ctrl_c_ends_only_the_foreground_command(runtime):
    """termios(3): the terminal turns Ctrl-C into a signal for its foreground processes.
    This needs a session for the container, setsid(2)."""
    with runtime.terminal("bash", "--norc", image="debian") as terminal:
        terminal.wait_for("# ")
        terminal.type("stty -echo\n")
        terminal.wait_for("# ")
        seconds = f"1000.{random.randint(10**6, 10**7)}"
        terminal.type(f"sleep {seconds}\n")
        assert eventually(lambda: processes_with(seconds))  # the sleep runs
        terminal.type("\x03")
        terminal.type("echo status $?\n")
        terminal.wait_for("status 130")
        assert processes_with(seconds) == []
        terminal.type("sleep 1000 & jobs; kill %1; wait; echo done\n")
        terminal.wait_for("Running.*sleep 1000")
        terminal.wait_for("done")
        terminal.type("exit\n")
        assert terminal.status() == 0


@pytest.mark.told("spec-end")
def test_runtime_ends_with_its_command_even_if_another_process_holds_the_terminal(
    runtime, seconds
):
    """pty(7): a background process can keep the terminal open, so the runtime has to
    watch for the end of the command instead."""
    script = f"trap '' HUP; sleep {seconds} & read go; exit 3"
    with runtime.terminal("sh", "-c", script, image="debian") as terminal:
        assert eventually(lambda: processes_with(seconds))
        terminal.type("go\n")
        assert terminal.status(10) == 3


@pytest.mark.told("spec-end")
def test_terminal_shows_output_even_if_the_command_reads_no_input(runtime):
    """pty(7): each direction has a buffer, and a full one must not stop the other
    direction."""
    script = "stty raw; while :; do echo tick; sleep 0.05; done"
    with runtime.terminal("sh", "-c", script, image="debian") as terminal:
        terminal.wait_for("tick")
        for _ in range(20):  # pasted by mistake, and more than a terminal can buffer
            terminal.type("x" * 1000)
        terminal.seen = ""
        for _ in range(3):
            terminal.wait_for("tick")
        os.kill(terminal.pid, signal.SIGKILL)
        terminal.status()
    runtime.sweep()


@pytest.mark.told("spec-end")
def test_terminal_settings_are_restored(runtime):
    """termios(3): settings belong to the terminal, so they outlive the program that
    changed them."""
    with runtime.terminal("stty", "raw", "-echo", image="debian") as terminal:
        assert terminal.status() == 0  # it found a terminal and changed it
        assert termios.tcgetattr(terminal.fd) == terminal.before


@pytest.mark.told("spec-end")
@pytest.mark.parametrize("words", ["echo up", "while echo up; do :; done"])
def test_closing_the_terminal_ends_the_container(runtime, words, seconds):
    """pty(7): closing a terminal sends SIGHUP. A command may ignore it, so its runtime
    ends it."""
    script = f"trap '' HUP; {words}; exec sleep {seconds}"
    with runtime.terminal("sh", "-c", script) as terminal:
        terminal.wait_for("up")
        command = children(terminal.pid)[0]
        pid, terminal.pid = terminal.pid, None
    assert eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
    assert eventually(lambda: not os.path.exists(f"/proc/{command}"))


@pytest.mark.told("spec-end")
def test_exit_status_survives_signals_at_the_end_of_the_command(runtime):
    """signal(7): a signal can arrive at any time, even between the end of the child and
    wait(2)."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    for _ in range(3):
        argv = runtime.argv("sh", "-c", "trap : TERM; echo set; sleep 0.1; exit 3")
        with subprocess.Popen(argv, **pipes) as process:
            # Before the trap is set, a signal may end the command, which is not tested here.
            assert process.stdout.readline() == "set\n"
            end, sent = time.monotonic() + LIMIT, 0
            while process.poll() is None and time.monotonic() < end:
                process.send_signal(signal.SIGTERM)
                sent += 1
                time.sleep(0.002)
            errors = process.stderr.read()
        assert (process.returncode, errors) == (3, "") and sent, (errors, sent)


@pytest.mark.told("spec-gets")
@pytest.mark.parametrize(
    "closed",
    ["<&-", ">&-", "<&- >&-"],
    ids=["stdin", "stdout", "stdin and stdout"],
)
def test_command_runs_even_if_stdin_or_stdout_is_closed(runtime, closed):
    """open(2) returns the lowest free number. If 0 is closed, that is 0."""
    argv = " ".join(runtime.argv("sh", "-c", "'exit 7'"))
    result = shell(f"{argv} {closed}", check=False)
    assert result.status == 7 and result.err == "", result


@pytest.mark.told("spec-gets")
def test_umask_of_the_caller_does_not_reach_the_container(runtime):
    """umask(2): the mask removes permissions from every new file, and so from the
    container's root directory as well."""
    argv = " ".join(runtime.argv("sh", "-c", "'umask; stat -c %a / /dev/null'"))
    assert shell(f"umask 077; {argv}").out.split() == ["0022", "755", "666"]


@pytest.mark.told("spec-end")
def test_no_process_is_left_behind(runtime):
    """wait(2): a runtime ends after its command, never before it. The process that
    guards the command ends as well."""
    number = f"0.5{random.randint(10**6, 10**7)}"
    words = runtime.argv("sh", "-c", f"sleep {number}; exit 3")
    with subprocess.Popen(words) as process:
        assert eventually(lambda: processes_with(number))
        process.wait(LIMIT)
        assert process.returncode == 3 and processes_with(number) == []
    # The runtime, its guard and the shell share the last argument.
    assert eventually(lambda: processes_with(words[-1]) == [], 2)


# ---- commands that exist and do not start


@pytest.fixture
def place(runtime, image):
    """A directory for programs: (its path on the host, its path for the command)."""
    inside = "" if "IMAGE" in runtime.usage else str(image)
    return image, inside


@pytest.mark.told("spec-status")
@pytest.mark.parametrize(
    ("name", "script", "says"),
    [
        ("old", "#!/usr/bin/python2\n", "interpreter /usr/bin/python2 is missing"),
        ("option", "#! /opt/none -x\nx", "interpreter /opt/none is missing"),
        ("dos", "#!/bin/sh\r\necho\r\n", "its first line ends with CR LF"),
    ],
    ids=["python2", "with an option", "CR LF"],
)
def test_script_without_its_interpreter_gives_status_127_and_says_which(
    runtime, place, image, name, script, says
):
    """execve(2): ENOENT can mean that the script's interpreter is missing."""
    path, inside = place
    (path / name).write_text(script, newline="")
    (path / name).chmod(0o755)
    result = runtime.run(f"{inside}/{name}", "argument", image=image)
    assert_one_line_error(result, f"{inside}/{name}", says, status=127)


@pytest.mark.told("spec-status")
def test_program_without_its_loader_gives_status_127_and_says_which(
    runtime, place, image
):
    """execve(2), ld.so(8): ENOENT can mean that the program's loader is missing, as when a
    program of another system was copied. The loader's path is in the file: elf(5)."""
    path, inside = place
    program = pathlib.Path("/bin/bash").read_bytes()
    loader = re.search(rb"/lib[^\0]*/ld-linux[^\0]*", program)[0]
    missing = loader.replace(b"ld-linux", b"no-linux")
    (path / "bash").write_bytes(program.replace(loader, missing))
    (path / "script").write_text(f"#!{inside}/bash\n")
    for name in "bash", "script":
        (path / name).chmod(0o755)
        result = runtime.run(f"{inside}/{name}", "argument", image=image)
        says = f"its loader {os.fsdecode(missing)} is missing"
        assert_one_line_error(result, f"{inside}/{name}: ", says, status=127)


@pytest.mark.told("spec-status")
def test_damaged_program_gives_a_one_line_error(runtime, place, image):
    """execve(2): ENOEXEC. What the file says of itself is not to be trusted."""
    path, inside = place
    head = pathlib.Path("/bin/bash").read_bytes()[:64]
    for number, content in enumerate([b"\x7fELF", head, b"#!", b"", b"\0" * 99]):
        (path / f"bad{number}").write_bytes(content)
        (path / f"bad{number}").chmod(0o755)
        result = runtime.run(f"{inside}/bad{number}", "argument", image=image)
        line = assert_one_line_error(result, f"bad{number}: ", status=126)
        if content != b"#!":  # the kernel has another answer to that
            assert "neither a program for this machine nor a script" in line, line


# ---- the caller's modules and terminal


@pytest.mark.told("spec")
@pytest.mark.parametrize("where", ["beside it", "PYTHONPATH"])
def test_modules_of_the_caller_do_not_replace_ours(runtime, tmp_path, where):
    """python3(1): Python looks for modules beside the program first, and then in
    PYTHONPATH."""
    for name in "my", "other":
        (tmp_path / name).mkdir()
    (tmp_path / "steps").symlink_to(PROJECT / "steps")
    copy = tmp_path / "my" / "container.py"
    copy.write_bytes(runtime.path.read_bytes())
    copy.chmod(0o755)
    bad = tmp_path / ("my" if where == "beside it" else "other")
    for module in (PROJECT / "steps").glob("*.py"):
        (bad / module.name).write_text("raise SystemExit('the wrong module')\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "other")}
    result = Runtime(copy).run("echo ours", popen={"env": environment})
    assert (result.status, result.out) == (0, "ours\n"), result


@contextlib.contextmanager
def shell_at_a_terminal():
    """A shell with job control at a terminal, as a user has it."""
    words = ["/usr/bin/env", "PS1=$ ", "bash", "--norc", "--noediting", "-i"]
    terminal = Terminal(words)
    try:
        terminal.wait_for(r"\$ ")
        terminal.type("stty -echo\n")
        terminal.wait_for(r"\$ ")
        yield terminal
    finally:
        terminal.close()


@pytest.mark.told("spec-end")
def test_container_in_the_background_leaves_the_keys_to_the_shell(runtime):
    """tcsetpgrp(3): keys are for the foreground processes. A container is in a session of its
    own, which job control does not reach, so it gets no keys until its runtime may read."""
    command = shlex.join(map(str, runtime.argv("sh", "-c", "echo up; exec cat")))
    with shell_at_a_terminal() as terminal:
        terminal.type(f"{command} &\n")
        terminal.wait_for(r"up\r\n")  # a container that starts after fg gets a terminal
        time.sleep(0.5)  # cat must have had time to read
        for number in range(5):
            terminal.type(f"echo shell-$(({number} + 10))\n")
            terminal.wait_for(f"shell-{number + 10}")
        terminal.type("fg\n")
        terminal.wait_for("cat")
        terminal.type("for the container\n")
        terminal.wait_for("for the container")
        terminal.type("\x04echo over-$((1 + 1))\n")
        terminal.wait_for("over-2")


@pytest.mark.told("spec-end")
def test_container_in_a_pipe_can_be_stopped_and_continued(runtime):
    """termios(3), Ctrl-Z: the terminal stops all foreground processes. What the container's
    process reads must stop with the runtime."""
    command = shlex.join(map(str, runtime.argv("cat")))
    with shell_at_a_terminal() as terminal:
        terminal.type(f"{command} | cat\n")
        terminal.type("first\n")
        terminal.wait_for("first")
        terminal.type("\x1a")
        terminal.wait_for(r"Stopped.*\n")
        for number in range(5):
            terminal.type(f"echo shell-$(({number} + 10))\n")
            terminal.wait_for(f"shell-{number + 10}")
        terminal.type("fg\n")
        terminal.wait_for("cat")
        terminal.type("second\n")
        terminal.wait_for("second")
        terminal.type("\x04echo over-$((1 + 1))\n")
        terminal.wait_for("over-2")


@pytest.mark.told("spec-end")
def test_container_in_a_pipe_ends_when_its_terminal_is_closed(runtime, seconds):
    """tty_ioctl(4): closing a terminal sends SIGHUP."""
    command = shlex.join(map(str, runtime.argv("sh", "-c", f"cat; sleep {seconds}")))
    words = ["/bin/sh", "-c", f"{command} | cat"]
    with contextlib.closing(Terminal(words)) as terminal:
        terminal.type("up\n")
        terminal.wait_for("up\r\nup")
    assert eventually(lambda: not processes_with(seconds))
