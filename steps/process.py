"""Processes: the command line, a child and its end. The counterpart of Go's os/exec.

It knows nothing of namespaces, mounts, users, networks or cgroups: those are what
container.py is about. It takes care of what every well-behaved parent owes the kernel, the
terminal and the user:

- the child dies with its parent, and starts with signals, descriptors, umask, environment
  and terminal as a program expects them;
- signals sent to the parent reach the child;
- the exit status is the one that shells and container engines use: the command's own,
  128 + N when signal N killed it, 127 not found, 126 not executable, 125 our own error;
- every error is one line on stderr; what was promised to `defer` is cleaned up.
"""

# _signal and _socket are what signal and socket are made of. The full modules bring enum
# and selectors along: 4 ms of the 20 that a container takes to start and end.
import _signal as signal
import _socket as socket
import errno
import os
import select
import struct
import sys

import linux

OWN_ERROR, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
FORWARDED = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}

_WAITING, _TERMINAL = b"waiting", b"terminal"  # what a child says, or status and error

# (function, arguments): what main() still has to do, last one first
_deferred: list[tuple] = []
_running = None  # the child that must not outlive main()
_channel = None  # in the child: the socket to its parent
_interactive = False  # whether somebody types at a terminal of ours


class Arguments:
    """A parsed command line: one attribute for each word of the usage."""


class Failure(SystemExit):
    """A line for the user, and an exit status; of sys.exit("a line") that is 125."""

    def __init__(self, text, status):
        super().__init__(text)
        self.status = status


class Child:
    """A started process: its pid as the parent sees it, a socket to it, and a descriptor
    that becomes readable when it has ended, pidfd_open(2)."""

    def __init__(self, pid, channel):
        self.pid, self.channel = pid, channel
        self.end = os.pidfd_open(pid)
        self.guarded = False  # whether a process kills it when we are dead


# ---- the command line


def main(parent, usage):
    """Parse the command line, call parent(args), clean up, exit with what it returns.

    usage: "run [--name VALUE] IMAGE COMMAND..."; args has one attribute a word, in lower
    case: None for an option that was not given, a list for "COMMAND...". The word after an
    option says what it takes: "a|b" one of these, SIZE bytes such as 64M, COUNT a whole
    number, CPUS a number such as 0.5; anything else any text.
    Never returns.
    """
    os.umask(0o022)  # what the container is made of is for its users, whoever starts it
    while (descriptor := os.open("/dev/null", os.O_RDWR)) < 3:
        pass  # 0, 1 or 2 was closed; what is opened next must not take its place
    os.close(descriptor)
    try:
        status = parent(parse(sys.argv[1:], usage))
    except (OSError, SystemExit) as error:
        # What has ended the child is the cause, and ours that we have found it dead.
        status = _report((_running and _last_words(_running)) or error)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException:  # a mistake in container.py: whoever wrote it needs it all
        import traceback

        traceback.print_exc()
        status = OWN_ERROR
    if _running:  # not waited for yet, so the pid is still its own
        os.kill(_running.pid, signal.SIGKILL)
        os.waitpid(_running.pid, 0)
    for function, arguments in reversed(_deferred):
        try:
            function(*arguments)
        except FileNotFoundError:
            pass  # somebody was faster: gone is gone
        except (OSError, SystemExit) as error:
            status = _report(error)
    _leave(status)


def _leave(status):
    """Exit at once: to take Python apart piece by piece takes 2 ms. Never returns."""
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError as error:  # nobody reads it, or there is no room for it
        status = _report(error)
    finally:
        os._exit(status)


def parse(words, usage):
    """Returns a command line's words as main() has them. SystemExit: they do not fit."""
    options, positional = {}, []
    pattern = iter(usage.replace("[", "").replace("]", "").split())
    for word in pattern:
        if word.startswith("--"):
            options[word] = next(pattern)
        else:
            positional.append(word)
    name = os.path.basename(sys.argv[0])
    help_text = f"usage: {name} {usage}"
    args = Arguments()
    for option in options:
        setattr(args, option[2:], None)
    words = list(words)
    if not words or words[0] in ("-h", "--help"):
        print(help_text, file=sys.stdout if words else sys.stderr)
        sys.exit(0 if words else OWN_ERROR)
    if words[0] != positional[0]:
        sys.exit(f"{words[0]!r} is not something it can do; {help_text}")
    del words[0]
    while words and words[0].startswith("-"):
        option, equals, value = words.pop(0).partition("=")
        if option == "--":
            break
        if option in ("-h", "--help"):
            print(help_text)
            sys.exit(0)
        if option not in options:
            sys.exit(f"unknown option {option}; {help_text}")
        if not equals and not words:
            sys.exit(f"{option} needs a value: {options[option]}; {help_text}")
        value = value if equals else words.pop(0)
        _check_value(option, options[option], value)
        setattr(args, option[2:], value)
    for word in positional[1:]:
        if not words:
            sys.exit(f"{word.rstrip('.')} is missing; {help_text}")
        if word.endswith("..."):
            setattr(args, word[:-3].lower(), words)
        else:
            setattr(args, word.lower(), words.pop(0))
    return args


def _check_value(option, kind, value):
    """SystemExit unless value is what kind, a word of the usage, asks for."""
    if "|" in kind and value not in kind.split("|"):
        sys.exit(f"{option} is one of {kind}, not {value!r}")
    if kind == "SIZE":
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        digits, factor = value, 1
        if value[-1:].upper() in ("K", "M", "G"):
            digits, factor = value[:-1], 1024 ** (" KMG".index(value[-1].upper()))
        if not (_is_whole(digits) and float(digits) > 0):
            sys.exit(
                f"{option} takes a number of bytes such as 64M or 1G, not {value!r}"
            )
        if float(digits) * factor > machine:
            sys.exit(
                f"{option} {value} is more than this machine has: {machine >> 20}M"
            )
    if kind == "COUNT":
        with open("/proc/sys/kernel/pid_max") as file:
            machine = int(file.read())
        if not (_is_whole(value) and float(value) > 0):
            sys.exit(f"{option} takes a whole number above 0, not {value!r}")
        if float(value) > machine:
            sys.exit(f"{option} {value} is more than this machine has: {machine}")
    if kind == "CPUS":
        machine = os.cpu_count() or 1
        try:
            number = float(value)
        except ValueError:
            number = 0
        if not number >= 0.01:
            sys.exit(f"{option} takes a number from 0.01 on such as 0.5, not {value!r}")
        if number > machine:
            sys.exit(f"{option} {value} is more than this machine has: {machine}")


def _is_whole(word):
    """Whether a word is a whole number; int() refuses thousands of digits, float() does not."""
    return word.isascii() and word.isdigit()


def defer(function, *arguments):
    """Have main() call function(*arguments) at the end, when no child is left; what was
    deferred last comes first, and a file that is gone already is no error."""
    _deferred.append((function, arguments))


def temporary_directory(parent, remove, mode=0o700):
    """Make a directory in parent (which is made, too, if need be, with this mode), named
    after our pid. Returns its path. main() calls remove(path) at the end, and also for what
    killed processes have left: directories whose name is the pid of no process."""
    os.makedirs(parent, mode, exist_ok=True)
    path = f"{parent}/{os.getpid()}"
    if os.path.exists(path):  # of a dead one that had our pid
        remove(path)
    os.mkdir(path)
    for name in os.listdir(parent):
        if name.isdigit() and not os.path.exists(f"/proc/{name}"):
            defer(_sweep, remove, f"{parent}/{name}")
    defer(remove, path)
    return path


def _sweep(remove, path):
    """Remove what a killed process has left, unless the pid has found a new owner since.
    That it cannot be removed is told, and does not spoil this run."""
    if not os.path.exists(f"/proc/{os.path.basename(path)}"):
        try:
            remove(path)
        except (OSError, SystemExit) as error:
            _report(error)


def remove_tree(path):
    """Remove a directory and all that is in it. SystemExit: something is mounted there,
    perhaps a part of the host, which must not be removed with it."""
    # Of what split() and splitlines() take for ends, the kernel escapes only the usual ones.
    mounts = [line.split(" ")[1] for line in read("/proc/self/mounts").split("\n")[:-1]]
    if any(f"{mount}/".startswith(f"{path}/") for mount in mounts):
        raise SystemExit(f"{path} stays: something is mounted there, see findmnt")
    if os.geteuid() != 0:  # who needs permission to enter even what is their own
        run("chmod -R u+rwX", path)
    if not _remove_empty(path):
        run("rm -rf --one-file-system", path)


def _remove_empty(path, floors=3):
    """Remove directories that hold nothing but one another, so many floors at most: all that
    most containers leave, and no tool is needed for it. Returns whether path is gone."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if not (floors and entry.is_dir(follow_symlinks=False)):
                    return False
                if not _remove_empty(entry.path, floors - 1):
                    return False
        os.rmdir(path)
    except OSError:
        return False
    return True


# ---- in the parent


def start(function, *arguments, flags=0, cgroup=None):
    """Clone a child that calls function(*arguments), which ends in execute(). Returns it.

    flags: linux.CLONE_*; cgroup: path of the directory of cgroup v2 that it is born in.
    The child waits for the parent only where it calls await_parent().
    """
    global _running, _interactive
    _interactive = os.isatty(0) and os.isatty(1) and not _in_background()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    birthplace = (
        None if cgroup is None else os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    )
    # Signals that arrive before there is anybody to forward them to have to wait.
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


def wait(child, descriptors=()):
    """Let a child go on that waits in await_parent(), hand it copies of descriptors, and
    wait for its end, forwarding signals, and its terminal if it has one. Returns the exit
    status as a shell counts it. SystemExit, with the child's status and its error as a
    line, when the command could not be started."""
    global _running
    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP: so do we
            signal.signal(number, lambda number, _: os.kill(child.pid, number))
    # Python calls a handler between two instructions of its own: a signal just before a
    # system call that waits would wait with it. So each also wakes select, through a pipe.
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    failure = None
    # Until the child executes its command, or is dead: both close its end of the socket.
    while (received := _receive(child.channel))[0]:
        message, terminal = received
        if message == _WAITING:
            _send(child.channel, b"go on", descriptors)
        elif message == _TERMINAL:
            _connect_terminal(terminal[0], child, woken)
        else:
            failure = _failure(message)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    # A short command shall not wait for a guard; one at a terminal has it already.
    if not child.guarded and not _ends_within(0.05, child, woken):
        _guard(child)
    while not _ends_within(None, child, woken):
        pass  # a signal came, and is forwarded; the child keeps its pid until waitpid
    for number in FORWARDED:  # nobody is left to forward to
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN)
    result = os.waitpid(child.pid, 0)[1]
    _running = None
    if failure:
        raise failure
    return (
        128 + os.WTERMSIG(result) if os.WIFSIGNALED(result) else os.WEXITSTATUS(result)
    )


def _ends_within(seconds, child, woken):
    """Whether the child ends in time; False as well when a signal comes first."""
    ready = select.select([child.end, woken], [], [], seconds)[0]
    if woken in ready:
        os.read(woken, 4096)
    return child.end in ready


def _guard(child):
    """Have a process kill the child when we are dead. The child has asked the kernel for
    that, but the kernel forgets it when a process changes its user id, as su does."""
    child.guarded = True
    ours = os.pidfd_open(os.getpid())
    if os.fork() == 0:
        try:
            # What is sent to our process group, or to all of a service, is not for it.
            os.setsid()
            signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
            os.dup2(ours, 0)
            os.dup2(child.end, 1)
            # Nothing else stays open: who reads a pipe of ours need not wait for it.
            os.closerange(2, 2**31 - 1)
            if select.select([0, 1], [], [])[0] == [0]:
                signal.pidfd_send_signal(1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.close(ours)


def complain(text):
    """Tell the user something in one line on stderr."""
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    try:
        print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody listens any more; there is cleaning up to do all the same


def _report(error):
    """Tell the user of an OSError or SystemExit in one line. Returns the exit status."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            complain(error.code)
            return getattr(error, "status", OWN_ERROR)
        return error.code or 0
    complain(_line(error))
    return OWN_ERROR


def _line(error):
    """An OSError in one line: what failed, on what, and what to do about it."""
    line = error.strerror or str(error)
    if error.filename is None and ": " not in line:  # then at least where
        line = _place(error) + line
    line += "".join(
        f": {f!r}" for f in (error.filename, error.filename2) if f is not None
    )
    notes = list(getattr(error, "__notes__", ()))
    # The child is nobody for a while, whoever has started it.
    if isinstance(error, PermissionError) and not (
        notes or _channel or not os.geteuid()
    ):
        notes = ["try again with sudo"]
    return "; ".join([line, *notes])


def _place(error):
    """Where in container.py an exception comes from, as "line 12: "; or nothing."""
    place, frame = "", error.__traceback__
    while frame:
        if frame.tb_frame.f_code.co_filename == sys.argv[0]:
            place = f"line {frame.tb_lineno}: "
        frame = frame.tb_next
    return place


def _failure(message):
    """What a child has told of: its error as a line, and its status."""
    return Failure(os.fsdecode(message[1:]), message[0])


def _last_words(child):
    """The Failure that a child has told of, if it has ended; else None."""
    if select.select([child.end], [], [], 0)[0]:
        child.channel.setblocking(False)
        try:
            while message := _receive(child.channel)[0]:
                if message not in (_WAITING, _TERMINAL):
                    return _failure(message)
        except BlockingIOError:
            pass
    return None


def _in_background():
    """Whether the shell runs us with &: then the terminal's keys are for somebody else."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:  # not the terminal that controls us
        return False


def _connect_terminal(terminal, child, woken):
    """Copy between the user's terminal and the child's until the child ends or closes it."""
    import fcntl
    import termios
    import tty

    def resize(*_):
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)

    _guard(child)
    before = termios.tcgetattr(0)
    signal.signal(signal.SIGWINCH, resize)
    resize()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    os.set_blocking(terminal, False)
    typed = b""  # what the child's terminal has no room for yet
    try:
        # Every key, Ctrl-C too, is for the child's terminal to interpret; what has been
        # typed ahead is kept.
        tty.setraw(0, termios.TCSADRAIN)
        while True:
            sources = [terminal, child.end, woken]
            sources += [0] if len(typed) <= 65536 else []
            ready = select.select(sources, [terminal] if typed else [], [])[0]
            if woken in ready:
                os.read(woken, 4096)
            if terminal in ready:
                try:
                    said = os.read(terminal, 65536)
                except OSError:  # EIO: nobody has the other end open any more
                    break
                # EIO here: it is the user's that is gone. main() ends the child.
                _write_all(1, said)
            elif child.end in ready:  # and all that it said has been read
                break
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    raise SystemExit("the terminal is gone")  # main() ends the child
                typed += data
            if typed:
                try:
                    typed = typed[os.write(terminal, typed) :]
                except BlockingIOError:
                    pass
    finally:
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        except termios.error:
            pass  # the terminal is gone
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        os.close(terminal)


def _write_all(descriptor, data):
    while data:
        data = data[os.write(descriptor, data) :]


# ---- in the child


def _begin(channel, function, arguments):
    """The child's life. Never returns."""
    global _channel
    _channel = channel
    status = OWN_ERROR
    try:
        os.setsid()  # no share in the user's terminal: what it may have of it, it is handed
        _leave_keys()
        _die_with_parent()
        for number in FORWARDED:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        function(*arguments)
        raise SystemExit("the child's function came back: it has to end in execute()")
    except OSError as error:
        line = _line(error)
    except SystemExit as error:
        line, status = str(error.code), getattr(error, "status", OWN_ERROR)
    except BaseException:
        import traceback

        line = traceback.format_exc()
    try:
        channel.send(bytes([status]) + os.fsencode(line)[:60000])
    finally:
        os._exit(status)


def _leave_keys():
    """The keys of the user's session, session-keyring(7), are not the child's."""
    try:
        linux.join_session_keyring()
    except OSError as error:
        # No keys in this kernel, or none for us: then there are none for the child either.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise


def _die_with_parent():
    """From here on the kernel kills this process when its parent ends."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    try:  # it tells of a death to come only, but a socket tells of one that has been, too
        if not _channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
            os._exit(OWN_ERROR)
    except BlockingIOError:
        pass


def await_parent():
    """Wait until the parent calls wait(). Returns the descriptors that it hands over."""
    _channel.send(_WAITING)
    message, descriptors = _receive(_channel)
    if not message:
        os._exit(OWN_ERROR)  # the parent is dead
    return descriptors


def execute(command):
    """Become the command, found in the PATH of the filesystem as it is now. Never returns.

    It gets descriptors 0, 1 and 2 and nothing else; when 0 and 1 are a terminal, a new
    terminal of its own in their place; of the environment PATH, HOME, LANG and TERM.
    SystemExit with status 127: no such command, 126: it cannot be executed.
    """
    environment = {"PATH": PATH, "HOME": "/root" if os.getuid() == 0 else "/"}
    environment |= {k: os.environ[k] for k in ("LANG", "TERM") if k in os.environ}
    if _interactive:
        for_parent, own = os.openpty()  # of the filesystem as it is now
        _send(_channel, _TERMINAL, [for_parent])
        os.login_tty(own)
    os.closerange(3, _channel.fileno())
    os.closerange(_channel.fileno() + 1, 2**31 - 1)
    for number in signal.SIGPIPE, signal.SIGXFSZ:  # Python alone ignores them
        signal.signal(number, signal.SIG_DFL)
    _die_with_parent()  # once more: changing the user id has cancelled it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    failure = None
    for directory in [""] if "/" in command[0] else PATH.split(":"):
        try:
            os.execve(os.path.join(directory, command[0]), command, environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                failure = error.strerror
    if not failure:
        raise Failure(f"{command[0]}: no such command here", NOT_FOUND)
    raise Failure(f"{command[0]}: {failure}", NOT_EXECUTABLE)


# ---- between the two: messages with descriptors, unix(7)


def _send(channel, message, descriptors=()):
    numbers = struct.pack(f"{len(descriptors)}i", *descriptors)
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)
    channel.sendmsg([message], [rights] if descriptors else [])


def _receive(channel):
    """Returns (message, descriptors); no message: the other end is closed."""
    space = socket.CMSG_SPACE(4 * 253)  # 253 are the most that the kernel takes
    message, rights, _, _ = channel.recvmsg(65536, space, socket.MSG_CMSG_CLOEXEC)
    return message, [
        n for _, _, data in rights for (n,) in struct.iter_unpack("i", data)
    ]


# ---- tools and kernel files


def run(command, *arguments, input="", hint=""):
    """Run a tool and wait for it. command: its words in one string; arguments: further
    words, as they are; input: its stdin. Returns its stdout. SystemExit: it failed, with
    its first complaint and hint, a word on what to do."""
    words = [*command.split(), *map(str, arguments)]
    streams = [os.memfd_create(words[0]) for _ in range(3)]
    os.write(streams[0], input.encode())
    os.lseek(streams[0], 0, os.SEEK_SET)
    actions = [(os.POSIX_SPAWN_DUP2, stream, n) for n, stream in enumerate(streams)]
    pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for stream in streams:
        os.lseek(stream, 0, os.SEEK_SET)
        with open(stream, errors="replace") as file:
            texts.append(file.read())
    if status:
        first = (texts[2].strip() or f"exit status {status}").splitlines()[0]
        raise SystemExit(
            "; ".join(filter(None, [f"{' '.join(words[:3])}: {first}", hint]))
        )
    return texts[1]


def read(path):
    """Returns the text of a file; bytes that are no text are kept as os.fsdecode does."""
    with open(path, "rb", buffering=0) as file:
        return os.fsdecode(file.read())


def write(path, text, hint=""):
    """Write text to a file of the kernel, which exists already, in one write(2).
    OSError with path, text and hint, a word on what to do, if the kernel refuses it."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        refused = OSError(error.errno, error.strerror, path, None, text)
        if hint:
            refused.add_note(hint)
        raise refused from None
