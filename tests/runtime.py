"""Starts containers for the suites, and looks at the host while they run."""

import contextlib
import os
import pathlib
import pty
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from difflib import ndiff
from typing import Any, TypeVar

PROJECT = pathlib.Path(__file__).resolve().parent.parent
# Those that learners write: the others, such as 11_oci, have no hints.
STEPS = sorted(
    hints.with_name("container.py")
    for hints in (PROJECT / "steps").glob("[0-9][0-9]_*/hints.md")
)
STORY = STEPS[:8]  # until the runtime is finished; the later ones are encores
FINISHED = STORY[-1]  # the runtime in fewer than 100 lines
LAST = STEPS[-1]  # the last encore, which has all that the steps before it have
# Whether load, faults and hostile input are tested in full, as `./lab proof` does.
FULL = bool(os.environ.get("WORKSHOP_FULL"))
# What step 09 covers, and what it makes read-only, if it exists.
MASKED = """/proc/acpi /proc/asound /proc/cmdline /proc/interrupts /proc/kcore /proc/keys
/proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /sys/dev/block /sys/firmware
/sys/devices/virtual/powercap /sys/fs/selinux""".split()
READ_ONLY = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger".split()
LIMIT = 60  # seconds that one container may take, also under emulation

Word = str | os.PathLike[str]
T = TypeVar("T")


class Result:
    """How a command ended. A failing assertion shows its text."""

    # The latest one of a runtime, or of any command if no runtime was started.
    # workshop/pytest_failures.py shows it when an assertion fails that does not mention one.
    last: "Result | None" = None

    def __init__(self, argv: Sequence[Word], status: int | None, out: str, err: str):
        self.argv, self.status, self.out, self.err = argv, status, out, err
        # A test also runs other commands, to look at the host and to clean up.
        if self.is_of_runtime() or not (Result.last and Result.last.is_of_runtime()):
            Result.last = self

    def is_of_runtime(self) -> bool:
        """Returns whether the command has started a container.py."""
        return any("container.py" in str(word) for word in self.argv)

    def __repr__(self) -> str:
        return (
            f"\n  command: {shlex.join(map(str, self.argv))}\n  status:  {self.status}"
            f"\n  stdout:  {self.out[:3000]!r}\n  stderr:  {self.err[:3000]!r}\n"
        )

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


def assert_one_line_error(result: Result, *words: str, status: int = 125) -> str:
    """Asserts that a program failed with this status, printed nothing on stdout, and
    printed one line on stderr that starts with the program's name and contains each of
    the words. 125 is the status for a runtime's own errors. Returns the line without
    the name."""
    line = re.fullmatch(r"[\w.-]+: ([^\n]+)\n", result.err)
    assert result.status == status and result.out == "", result
    assert line, f"stderr is not one line that starts with the program's name: {result}"
    for word in words:
        assert word in line[1], result
    return line[1]


def shell(command: str, check: bool = True) -> Result:
    """Runs a shell command on the host. Returns its Result."""
    argv = ["bash", "-c", command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT)
    result = Result(argv, done.returncode, done.stdout, done.stderr)
    assert not check or result.status == 0, result
    return result


def eventually(condition: Callable[[], T], seconds: float = 10) -> T:
    """Waits until condition() is true, because the kernel cleans up asynchronously.
    Returns its last value, which is false if the time was up."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return value


# {path of a container.py: what its --help prints}; workshop/pytest_plugin.py fills it in
usages: dict[pathlib.Path, str] = {}


class Runtime:
    """A container.py, and the ways to start it."""

    def __init__(self, path: Word, prefix: Sequence[Word] = ()):
        self.path = pathlib.Path(path)
        self.prefix = list(prefix)  # a command in front of it, such as setpriv
        if self.path not in usages:
            usages[self.path] = subprocess.run(
                [self.path, "--help"], capture_output=True, text=True, timeout=LIMIT
            ).stdout
        self.usage = usages[self.path]

    def __repr__(self) -> str:
        return f"Runtime({self.path})"

    def has_covers(self) -> bool:
        """Returns whether this is step 09 or a later one, which cover parts of /proc and
        /sys."""
        return "--cap-add" in self.usage

    def argv(
        self, *command: Word, image: Word = "busybox", raw: bool = False, **options: Any
    ) -> list[Word]:
        """Returns the command line, with the image if this step has images, and without
        a network unless a test asks for one. With raw it contains only these
        arguments."""
        if raw:
            return [*self.prefix, str(self.path), *command]
        if "--net" in self.usage:
            options.setdefault("net", "none")
        if not self.has_covers():  # before step 09 root inside has all capabilities
            options.pop("cap_add", None)
        words = [
            word
            for name, value in options.items()
            if value is not None
            for word in (f"--{name.replace('_', '-')}", str(value))
        ]
        images = [str(image)] if "IMAGE" in self.usage else []
        return [*self.prefix, str(self.path), "run", *words, *images, *command]

    def run(
        self,
        *command: Word,
        input: str = "",
        timeout: float = LIMIT,
        popen: dict[str, Any] | None = None,
        **options: Any,
    ) -> Result:
        """Runs a container to its end. Returns its Result. A single argument is a
        script for the shell."""
        if len(command) == 1 and not options.get("raw"):
            command = ("sh", "-c", *command)
        argv = self.argv(*command, **options)
        done = subprocess.run(
            argv,
            input=input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            **(popen or {}),
        )
        return Result(argv, done.returncode, done.stdout, done.stderr)

    def ok(self, *command: Word, **options: Any) -> str:
        """Runs a container whose command must succeed. Returns its stdout."""
        result = self.run(*command, **options)
        assert result.status == 0, result
        return result.out

    def sweep(self) -> None:
        """Runs a container, which clears away what a killed runtime left behind."""
        v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        limits = {"memory": "64M"} if "--memory" in self.usage and v2 else {}
        self.ok("true", "argument", **limits)

    @contextlib.contextmanager
    def running(
        self, script: str = "", popen: dict[str, Any] | None = None, **options: Any
    ) -> Iterator["Running"]:
        """Yields a container that is alive during the block. Its shell runs the script,
        and then each line that box.ask(line) sends."""
        box = Running(self, script, popen or {}, options)
        try:
            box.ask("echo ready")
            yield box
        finally:
            box.close()

    @contextlib.contextmanager
    def terminal(self, *command: Word, **options: Any) -> Iterator["Terminal"]:
        """Starts a container at a terminal. Yields a Terminal."""
        terminal = Terminal(self.argv(*command, **options))
        try:
            yield terminal
        finally:
            terminal.close()


class Running:
    """A container whose shell waits for lines. .pid is the PID of its first process on
    the host."""

    def __init__(
        self,
        runtime: Runtime,
        script: str,
        popen: dict[str, Any],
        options: dict[str, Any],
    ):
        words = ("sh", "-c", f"{script}\nexec sh") if script else ("sh",)
        self.argv = runtime.argv(*words, **options)
        Result(self.argv, None, "", "")  # the latest one: it has no status yet
        self.process = subprocess.Popen(
            self.argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **popen,
        )
        self.seen = ""

    def ask(self, line: str) -> str:
        """Runs a line in the container. Returns what it prints, stderr included. If the
        status is not 0, a last line says so."""
        mark = f"--{time.monotonic_ns()}--"
        with contextlib.suppress(BrokenPipeError):  # it ended, which is reported below
            self.process.stdin.write(f"{line}\necho {mark} $?\n".encode())
            self.process.stdin.flush()
        pattern = re.compile(rf"(.*?){mark} (\d+)\n", re.DOTALL)
        end = time.monotonic() + LIMIT
        while not (match := pattern.match(self.seen)):
            output = self.process.stdout.fileno()
            ready = select.select([output], [], [], end - time.monotonic())[0]
            got = os.read(output, 65536) if ready else b""
            if not got:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(1)
                output_so_far = self.seen or f"no answer to {line!r}"
                raise AssertionError(
                    Result(self.argv, self.process.returncode, output_so_far, "")
                )
            self.seen += got.decode(errors="replace")
        self.seen = self.seen[match.end() :]
        return match[1] + ("" if match[2] == "0" else f"status {match[2]}\n")

    @property
    def pid(self) -> int:
        """The PID, on the host, of the container's first process."""
        return children(self.process.pid)[0]

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def close(self) -> int:
        """Ends the container, unless it has ended. Returns the runtime's exit status."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait(10)
        self.process.stdout.close()
        return self.process.returncode


class Terminal:
    """A command at a terminal of its own, and a user who types."""

    def __init__(self, argv: list[Word]):
        self.argv, self.seen = argv, ""
        go_on, ready = os.pipe()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.read(go_on, 1)
                os.execv(argv[0], argv)
            finally:
                os._exit(127)  # otherwise the child would go on as a second suite
        self.before = termios.tcgetattr(self.fd)  # as the command finds it
        os.write(ready, b"!")
        os.close(go_on)
        os.close(ready)

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def wait_for(self, pattern: str, seconds: float = 20) -> re.Match[str]:
        """Reads until the pattern appears in what was printed since the last call.
        Returns the match."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise AssertionError(
                    f"the terminal does not show {pattern!r}, but {self.seen!r}\n{self.argv}"
                )
            try:
                self.seen += os.read(self.fd, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(
                    f"the command has ended without showing {pattern!r}, but {self.seen!r}"
                    f"\n{self.argv}"
                ) from None
        self.seen = self.seen[match.end() :]
        return match

    def status(self, seconds: float = 20) -> int:
        """Waits for the command to end. Returns its exit status."""

        def ended() -> tuple[int] | None:
            if select.select([self.fd], [], [], 0)[0]:
                with contextlib.suppress(OSError):
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (status,) if pid else None

        result = eventually(ended, seconds)
        assert result, f"the command has not ended; it shows {self.seen!r}\n{self.argv}"
        self.pid = 0  # no process is left to kill
        return os.waitstatus_to_exitcode(result[0])

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


def children(pid: int) -> list[int]:
    """Returns the PIDs of a process's children."""
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


# Runs a container.py, but its parent pauses once the child has started.
SLOWLY = """
import os, sys, time
path = sys.argv[1]
del sys.argv[0]
sys.path[0] = os.path.dirname(path)
sys.path += [os.path.join(sys.path[0], where) for where in ("..", "../steps")]
import process
start = process.start
def slowly(*words, **more):
    child = start(*words, **more)
    time.sleep(0.5)
    return child
process.start = slowly
exec(compile(open(path).read(), path, "exec"))
"""


def slowed(runtime: Runtime) -> Runtime:
    """Returns the same runtime, except that its parent pauses for half a second once
    its child has started."""
    return Runtime(runtime.path, [sys.executable, "-S", "-c", SLOWLY])


def processes_with(word: str) -> list[int]:
    """Returns the PIDs of the processes that have exactly this argument on their
    command line."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def commands_with(word: str) -> dict[int, str]:
    """Returns {PID: name} of the processes that have exactly this argument:
    proc_pid_comm(5). It tells a command from those that only will become it."""
    found = {}
    for pid in processes_with(word):
        with contextlib.suppress(OSError):
            found[pid] = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    return found


def namespace(kind: str, pid: int | str = "self") -> str:
    """Returns the inode number of a process's namespace, as text. It identifies the
    namespace."""
    return os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]")


def host_state() -> dict[str, str]:
    """Returns what a container must leave unchanged: {what: lines of text}. Every fact asks
    for it several times, and pathlib's glob would need four times as long."""

    def names(path: str, chosen: Callable[[str], object] = bool) -> str:
        try:
            return "\n".join(sorted(filter(chosen, os.listdir(path))))
        except FileNotFoundError:
            return ""

    return {
        "host name": os.uname().nodename,
        "mounts": pathlib.Path("/proc/self/mounts").read_text(),
        "network devices": names("/sys/class/net"),
        "message queues": pathlib.Path("/proc/sysvipc/msg").read_text(),
        "cgroups": names("/sys/fs/cgroup/workshop", lambda name: name[0].isdigit()),
        "containers": names("/var/lib/workshop/containers"),
        "root directory": names("/"),
        "devices": names("/dev"),
    }


def restore(before: dict[str, str]) -> None:
    """Undoes what a runtime that does not isolate has changed, so that one failed fact
    does not make the next ones fail."""
    now = host_state()
    if now["host name"] != before["host name"]:
        socket.sethostname(before["host name"])
    mounts = {
        when: state["mounts"].splitlines()
        for when, state in (("now", now), ("before", before))
    }
    for mount in reversed(mounts["now"]):
        if mounts["now"].count(mount) > mounts["before"].count(mount):
            shell(f"umount -l '{mount.split()[1]}'", check=False)
    known = before["message queues"].splitlines()
    for line in now["message queues"].splitlines():
        if line.split()[1] not in [other.split()[1] for other in known]:
            shell(f"ipcrm -q {line.split()[1]}", check=False)


@contextlib.contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Asserts that after the block the host is as it was before."""
    before = host_state()
    after: dict[str, str] = {}

    def unchanged() -> bool:
        nonlocal after
        after = host_state()
        return after == before

    try:
        yield
        eventually(unchanged, 5)
        changed = {
            name: [
                line
                for line in ndiff(before[name].splitlines(), after[name].splitlines())
                if line[0] in "+-"
            ]
            for name in before
            if before[name] != after[name]
        }
        assert not changed, f"the host is not as it was: {changed}"
    finally:
        if after != before:
            restore(before)
