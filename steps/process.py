"""Starts a child, waits for it, and becomes the command. The counterpart of Go's os/exec.

It does for a child what every well-behaved parent does:

- The child dies with its parent. It starts with signals and umask as a program expects them,
  and with nothing else of its caller's: isolation.py.
- Signals that are sent to the parent reach the child. At a terminal so do the keys:
  terminal.py.
- Every error is one line on stderr and an exit status: errors.py.
- When the child has ended, everything that was deferred is cleaned up: cleanup.py.

Which namespaces, mounts, users and cgroup the child has is up to container.py.
"""

# signal and socket import enum and selectors: 4 ms and 6 ms more, of 17 ms for a start.
import _signal as signal
import _socket as socket
import errno
import os
import select
import struct
import sys

import isolation
import linux
from cleanup import clean_up, defer, remove_tree, temporary_directory
from command_line import Arguments, parse
from errors import NOT_EXECUTABLE, NOT_FOUND, OWN_ERROR
from errors import Failure, complain, one_line, report
from rootfs import attach, find_user, missing_part
from tools import read, read_counts, read_json, read_lines, run, write

TYPE_CHECKING = False  # importing typing would take 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn

# What container.py calls. It gets all of it from here, because each module that it imported
# itself would be one more of its lines.
__all__ = ["attach", "await_parent", "execute", "find_user", "main", "start", "wait"]
__all__ += [
    "complain",
    "defer",
    "read",
    "read_counts",
    "read_json",
    "read_lines",
    "remove_tree",
    "run",
]
__all__ += ["temporary_directory", "write"]

FORWARDED = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}

# A child's messages; others are errors.
_WAITING, _TERMINAL, _KEYS = b"waiting", b"terminal", b"keys"


class Child:
    """A started process: its pid as the parent sees it, a socket to it, and a descriptor
    that becomes readable when it has ended, pidfd_open(2)."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self.channel = pid, channel
        self.end = os.pidfd_open(pid)
        self.guarded = False  # whether a process kills it when we are dead


_running: Child | None = None  # the child that must not outlive main()
_channel: socket.socket  # in the child: the socket to its parent
_interactive = False  # whether the command gets a terminal


# ---- in the parent


def main(parent: "Callable[[Arguments], int]", usage: str) -> "NoReturn":
    """Calls parent with the parsed command line, cleans up, and exits with the status that it
    returned. Never returns.

    usage: such as "run [--name VALUE] IMAGE COMMAND...", as in command_line.py.
    """
    # The container's users must be able to read its files, whatever our caller's umask is.
    os.umask(0o022)
    while (descriptor := os.open("/dev/null", os.O_RDWR)) < 3:
        pass  # 0, 1 or 2 was closed, and the next file to be opened must not take its place
    os.close(descriptor)
    try:
        status = parent(parse(sys.argv[1:], usage))
    except (OSError, SystemExit) as error:
        # If the child died, report its error rather than the failure it caused here.
        status = report((_running and _last_words(_running)) or error)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException:  # a mistake in parent, whose author needs the whole traceback
        import traceback

        traceback.print_exc()
        status = OWN_ERROR
    if _running:  # not waited for yet, so no other process can have its pid
        os.kill(_running.pid, signal.SIGKILL)
        os.waitpid(_running.pid, 0)
    _leave(clean_up() or status)


def _leave(status: int) -> "NoReturn":
    """Exits at once, because Python's own clean-up takes 2 ms."""
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError as error:  # nobody reads it, or the disk is full
        status = report(error)
    finally:
        os._exit(status)


def start(
    function: "Callable[..., object]",
    *arguments: object,
    flags: int = 0,
    cgroup: str | None = None,
) -> Child:
    """Clones a child that calls function(*arguments), which must end in execute(). Returns
    the child.

    flags: of clone(2), such as linux.CLONE_NEWPID; cgroup: path of the directory of cgroup v2
    that the child is born in. The child waits for the parent only in await_parent().
    """
    global _running, _interactive
    _interactive = isolation.is_interactive()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    birthplace = (
        None if cgroup is None else os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    )
    # Until wait() forwards signals to the child, they stay pending.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    pid = linux.clone(flags, birthplace)
    if pid == 0:
        ours.close()
        _begin(theirs, function, arguments)
    theirs.close()
    if birthplace is not None:
        os.close(birthplace)
    _running = Child(pid, ours)
    return _running


def wait(child: Child, descriptors: "Sequence[int]" = ()) -> int:
    """Lets a child continue that waits in await_parent(), hands it copies of descriptors, and
    waits for its end. Forwards signals until then, and the terminal. Returns the exit status
    as a shell counts it.
    SystemExit, with the child's own error and status: the command could not be started."""
    global _running
    woken = _forward_signals(child)
    failure = _serve(child, descriptors, woken)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    # Skip the guard for commands that finish quickly; interactive ones already have it.
    if not child.guarded and not _ends_within(0.05, child, woken):
        _guard(child)
    while not _ends_within(None, child, woken):
        pass  # a signal arrived and is forwarded; the child keeps its pid until waitpid
    for number in FORWARDED:  # there is nobody left to forward to
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN)
    result = os.waitpid(child.pid, 0)[1]
    _running = None
    if failure:
        raise failure
    return (
        128 + os.WTERMSIG(result) if os.WIFSIGNALED(result) else os.WEXITSTATUS(result)
    )


def _forward_signals(child: Child) -> int:
    """Has signals sent to us reach the child. Returns a descriptor that each of them makes
    readable."""
    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP: so do we
            signal.signal(number, lambda number, _: os.kill(child.pid, number))
    # Python calls a handler between two of its own instructions, so a signal just before a
    # blocking system call would have to wait for its end. Therefore each signal also wakes
    # select, through a pipe.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    return woken


def _serve(child: Child, descriptors: "Sequence[int]", woken: int) -> Failure | None:
    """Answers the child's messages until it executes its command or dies, which both close
    its end of the socket. Returns its error, if it sent one."""
    failure = None
    while (received := _receive(child.channel))[0]:
        message, terminals = received
        if message == _WAITING:
            _send(child.channel, b"go on", descriptors)
        elif message == _TERMINAL:
            import terminal  # 0.7 ms, which only an interactive start has to spend

            _guard(child)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            terminal.relay(terminals[0], child.end, woken)
        elif message == _KEYS:
            import terminal

            _guard(child)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
            terminal.relay_keys(terminals[0], child.end, woken)
        else:
            failure = _failure(message)
    return failure


def _ends_within(seconds: float | None, child: Child, woken: int) -> bool:
    """Returns whether the child ends in time. A signal ends the waiting early."""
    ready = select.select([child.end, woken], [], [], seconds)[0]
    if woken in ready:
        os.read(woken, 4096)
    return child.end in ready


def _guard(child: Child) -> None:
    """Starts a process that kills the child when we are dead. The child has asked the kernel
    for that, but the kernel forgets it when a process changes its user id, as su does."""
    child.guarded = True
    ours = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        try:
            # Signals to our process group, or to all of a service, are not for the guard.
            os.setsid()
            signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
            os.dup2(ours, 0)
            os.dup2(child.end, 1)
            # Nothing else stays open, so that a reader of our pipes need not wait for it.
            os.closerange(2, 2**31 - 1)
            if select.select([0, 1], [], [])[0] == [0]:
                signal.pidfd_send_signal(1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.close(ours)


def _failure(message: bytes) -> Failure:
    """Returns the error that a child has sent: its status and its line."""
    return Failure(os.fsdecode(message[1:]), message[0])


def _last_words(child: Child) -> Failure | None:
    """Returns the error that a child has sent, if it has ended."""
    if select.select([child.end], [], [], 0)[0]:
        child.channel.setblocking(False)
        try:
            while message := _receive(child.channel)[0]:
                if message not in (_WAITING, _TERMINAL, _KEYS):
                    return _failure(message)
        except BlockingIOError:
            pass
    return None


# ---- in the child


def _begin(
    channel: socket.socket,
    function: "Callable[..., object]",
    arguments: "Sequence[object]",
) -> "NoReturn":
    """Leaves the caller's session, then calls the function. Sends the parent its error."""
    global _channel
    _channel = channel
    status = OWN_ERROR
    try:
        isolation.leave_session()
        _die_with_parent()
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        function(*arguments)
        raise SystemExit("the child's function returned: it must end in execute()")
    except SystemExit as error:
        line, status = str(error.code), getattr(error, "status", OWN_ERROR)
    # Not a traceback: after pivot_root, nothing can be imported that would print it.
    except BaseException as error:
        line = one_line(error)
    try:
        channel.send(bytes([status]) + os.fsencode(line)[:60000])
    finally:
        os._exit(status)


def _die_with_parent() -> None:
    """Has the kernel kill this process when its parent ends: prctl(2)."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    # That is for a death from now on. If the parent is dead already, its socket is closed.
    try:
        if not _channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            os._exit(OWN_ERROR)
    except BlockingIOError:
        pass


def await_parent() -> list[int]:
    """Waits until the parent calls wait(). Returns the descriptors that it hands over."""
    _channel.send(_WAITING)
    message, descriptors = _receive(_channel)
    if not message:
        os._exit(OWN_ERROR)  # the parent is dead
    return descriptors


def execute(
    command: list[str], variables: "Mapping[str, str] | None" = None
) -> "NoReturn":
    """Becomes the command, which it looks for in the PATH of the filesystem as it is now.
    Never returns.

    The command gets PATH, HOME, LANG and TERM as its environment, and the variables, which may
    replace these; and descriptors 0, 1 and 2.
    If 0 and 1 are a terminal, a new one takes their place. If only 0 is, or if we run in the
    background, a pipe takes its place.
    SystemExit with status 127: no such command, or what it needs to run is missing,
    126: it cannot be executed.
    """
    variables = {**isolation.environment(), **(variables or {})}
    if _interactive:
        _send(_channel, _TERMINAL, [isolation.own_terminal()])
    elif os.isatty(0):
        keys = isolation.own_keys()
        _send(_channel, _KEYS, [keys])
        os.close(keys)
    isolation.close_descriptors(_channel.fileno())
    # Python ignores these two, but a program expects that they end it.
    for number in signal.SIGPIPE, signal.SIGXFSZ:
        signal.signal(number, signal.SIG_DFL)
    _die_with_parent()  # again, because changing the user id has cancelled it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    missing, failure = "no such command in the container", None
    for directory in [""] if "/" in command[0] else variables["PATH"].split(":"):
        path = os.path.join(directory, command[0])
        try:
            os.execve(path, command, variables)
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                failure = f"{error.strerror}; it is neither a program for this machine"
                failure += " nor a script that names its interpreter"
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error.strerror
            elif os.path.exists(path):
                missing = missing_part(path) or missing
    if not failure:
        raise Failure(f"{command[0]}: {missing}", NOT_FOUND)
    raise Failure(f"{command[0]}: {failure}", NOT_EXECUTABLE)


# ---- between the two: messages with descriptors, unix(7)


def _send(
    channel: socket.socket, message: bytes, descriptors: "Sequence[int]" = ()
) -> None:
    """Sends a message, and copies of the descriptors with it."""
    numbers = struct.pack(f"{len(descriptors)}i", *descriptors)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)
    channel.sendmsg([message], [rights] if descriptors else [])


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    """Returns a message and its descriptors. No message: the other end is closed."""
    space = socket.CMSG_SPACE(4 * 253)  # the kernel takes at most 253
    message, rights, _, _ = channel.recvmsg(65536, space, socket.MSG_CMSG_CLOEXEC)
    return message, [
        n for _, _, data in rights for (n,) in struct.iter_unpack("i", data)
    ]
