"""`%load_ext workshop.box`: %%box, a place for system calls typed by hand in a notebook.

    %%box NAME [--ns uts,pid,...] [--timeout SECONDS] [--once]

runs a cell in a process of its own, the box: a child of the notebook that has one thread, as
unshare(2) and its kin ask for, and that stays alive between cells. So one cell changes a
thing inside, and the next, a plain one, looks at it from outside. A box starts with a copy
of the notebook's variables; what it changes stays with it.

    notebook's kernel --fork--> keeper --clone, with the namespaces--> box

The keeper lies between because the kernel process has threads: fork(2) copes with those, a
bare clone3(2) does not. It waits for the box, so that no zombie stays, and dies with the
notebook; the box dies with the keeper.
"""

import ast
import builtins
import codecs
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import traceback
import warnings
from multiprocessing import Pipe
from pathlib import Path

import stack_data  # noqa: F401 - IPython's tracebacks, which a box without files cannot import
from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, line_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

PROJECT = Path(__file__).resolve().parent.parent
sys.path += [str(PROJECT / "steps")]  # so that cells can `import linux`, too
import linux

from workshop import learner
from workshop.commands import attempt, inspect
from workshop.errors import Failure

NAMESPACES = {
    "uts": linux.CLONE_NEWUTS,
    "ipc": linux.CLONE_NEWIPC,
    "pid": linux.CLONE_NEWPID,
    "mnt": linux.CLONE_NEWNS,
    "net": linux.CLONE_NEWNET,
    "user": linux.CLONE_NEWUSER,
    "cgroup": linux.CLONE_NEWCGROUP,
}
TIMEOUT = 60  # seconds that a cell may take
GRACE = 3  # seconds between Ctrl-C and the end of a box that does not care

boxes: dict[str, "Box"] = {}  # name: Box, also as the variable `boxes` of the notebook


class BoxError(Exception):
    """An error of a box; shown with the traceback that the box saw, and none of ours."""

    lines = ()

    def _render_traceback_(self):  # IPython asks for this
        return list(self.lines) or [f"{type(self).__name__}: {self}"]


def box_error(kind, text, lines=()):
    """Returns a BoxError that calls itself kind."""
    error = type(kind, (BoxError,), {})(text)
    error.lines = lines
    return error


class Box:
    """A process in namespaces of its own. pid: its number as the host sees it."""

    def __init__(self, name, namespaces, shell):
        self.name, self.namespaces, self.shell = name, namespaces, shell
        self.pid = self.status = None
        self._channel, theirs = Pipe()
        self._streams = {}  # descriptor to read: (decoder, where the text goes)
        ends = []
        for target in "stdout", "stderr":
            ours, end = os.pipe()
            ends.append(end)
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            self._streams[ours] = decoder, target
        sys.stdout.flush()
        sys.stderr.flush()
        # An interrupt between fork and the child's own handling would hit the wrong one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with warnings.catch_warnings():
            # Python warns that forking a process with threads can hang. The child does
            # nothing but clone and wait, and uses nothing that the threads may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._keeper: int | None = os.fork()
        if self._keeper == 0:
            self._keep(theirs, ends)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        for end in ends:
            os.close(end)
        self._pidfd = os.pidfd_open(self._keeper)
        try:
            self._converse("ready", TIMEOUT)
            if self.pid is None:  # the box was faster to say so than its keeper
                self._converse("pid", TIMEOUT)
        except BaseException:
            self.end()
            raise

    def run(self, source, count, raw, timeout):
        """Run a cell in the box, and show what it shows as it comes."""
        self._channel.send((source, count, raw))
        self._converse("done", timeout)

    def alive(self):
        """Whether a cell can be run in it."""
        if self._keeper and select.select([self._pidfd], [], [], 0)[0]:
            self._relay_rest()
            self.end()
        return self._keeper is not None

    def end(self):
        """End the box and every process in its session. Returns its wait status."""
        if self._keeper is None:
            return self.status
        for kill, process in (os.killpg, self.pid), (os.kill, self.pid or self._keeper):
            with contextlib.suppress(ProcessLookupError):
                if process:
                    kill(process, signal.SIGKILL)
        self.status = os.waitpid(self._keeper, 0)[1]
        self._keeper = None
        self._channel.close()
        for descriptor in [*self._streams, self._pidfd]:
            os.close(descriptor)
        return self.status

    # ---- in the notebook's kernel: what the box says

    def _converse(self, awaited, timeout):
        """Pass on what comes from the box until it says awaited, raises, ends or is late."""
        deadline, interrupted = time.monotonic() + timeout, False
        sources: list = [*self._streams, self._channel, self._pidfd]
        while True:
            try:
                left = max(0, deadline - time.monotonic())
                ready = select.select(sources, [], [], left)[0]
                if not ready:
                    self.end()
                    if interrupted:
                        text = f"box {self.name} did not stop for it, and was ended"
                        raise box_error("KeyboardInterrupt", text)
                    text = (
                        f"box {self.name} was ended: the cell took over {timeout:g} s"
                    )
                    raise box_error("TimeoutError", text)
                for descriptor in self._streams.keys() & set(ready):
                    self._relay(descriptor, sources)
                if self._channel in ready:
                    try:
                        kind, *content = self._channel.recv()
                    except (EOFError, ConnectionResetError):
                        sources.remove(
                            self._channel
                        )  # it executes another program, or ended
                        continue
                    self._relay_rest()
                    self._hear(kind, *content)
                    if kind == awaited:
                        return
                elif ready == [self._pidfd]:
                    self._relay_rest()
                    self._tell_end()
                    return
            except KeyboardInterrupt:
                if interrupted or self.pid is None or self._keeper is None:
                    self.end()
                    raise
                interrupted, deadline = True, time.monotonic() + GRACE
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGINT)

    def _hear(self, kind, *content):
        if kind == "pid":
            self.pid = content[0]
        elif kind == "display":
            data, metadata, options = content
            self.shell.display_pub.publish(data, metadata, **options)
        elif kind == "error":
            raise box_error(*content)

    def _relay(self, descriptor, sources=()):
        decoder, target = self._streams[descriptor]
        data = os.read(descriptor, 65536)
        if not data and descriptor in sources:
            sources.remove(descriptor)
        stream = getattr(sys, target)
        stream.write(decoder.decode(data))
        stream.flush()
        return bool(data)

    def _relay_rest(self):
        for descriptor in self._streams:
            while select.select([descriptor], [], [], 0)[0] and self._relay(descriptor):
                pass

    def _tell_end(self):
        status = os.waitstatus_to_exitcode(self.end())
        if status < 0:
            name = signal.Signals(-status).name
            raise BoxError(f"box {self.name} ended: killed by {name}")
        print(f"[box {self.name} ended: exit status {status}]")

    # ---- in the keeper

    def _keep(self, channel, ends):
        """The keeper's life. Never returns."""
        status = 1
        try:
            _die_with(os.getppid())
            os.setsid()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            self._channel.close()
            for descriptor in self._streams:
                os.close(descriptor)
            for box in boxes.values():  # or they would not notice the notebook's end
                if box._keeper:
                    box._channel.close()
                    os.close(box._pidfd)
                    for descriptor in box._streams:
                        os.close(descriptor)
            for number, end in enumerate(ends, 1):
                os.dup2(end, number)
                os.close(end)
            flags = 0
            for namespace in self.namespaces:
                flags |= NAMESPACES[namespace]
            keeper = os.getpid()
            pid = linux.clone(flags)
            if pid == 0:
                _Inside(self.shell, channel).live(keeper, "pid" in self.namespaces)
            channel.send(("pid", pid))
            channel.close()
            os.close(1)
            os.close(2)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status < 0:  # end as it ended
                with contextlib.suppress(OSError):  # no handler for SIGKILL
                    signal.signal(-status, signal.SIG_DFL)
                os.kill(os.getpid(), -status)
        except OSError as error:
            lines = traceback.format_exception_only(error)
            channel.send(("error", type(error).__name__, str(error), lines))
        finally:
            os._exit(status)


class _Inside:
    """What the box itself does: runs cells until its notebook has no more."""

    def __init__(self, shell, channel):
        self.shell, self.channel = shell, channel

    def live(self, keeper, is_init):
        """Never returns."""
        try:
            _die_with(
                0 if is_init else keeper
            )  # of its namespace, nobody is the parent
            os.setsid()
            self.settle()
            self.channel.send(("ready",))
            while True:
                self.channel.send(self.run(*self.channel.recv()))
        except EOFError:
            os._exit(0)
        except BaseException:
            with contextlib.suppress(OSError):
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(1)

    def settle(self):
        """Take the place of what the notebook's process did with threads and sockets."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdout = open(1, "w", buffering=1, closefd=False, errors="replace")
        sys.stderr = open(2, "w", buffering=1, closefd=False, errors="replace")
        self.shell.display_pub.publish = self.publish
        self.shell.system = self.system
        self.shell.user_ns["exit"] = self.shell.user_ns["quit"] = sys.exit
        builtins.input = no_input

    def publish(self, data, metadata=None, **options):
        flush()
        options = {k: v for k, v in options.items() if k in ("transient", "update")}
        self.channel.send(("display", data, metadata or {}, options))

    def system(self, command):
        """What `!command` does: its output goes where the box's goes."""
        flush()
        me = os.getpid()
        result = subprocess.call(
            ["/bin/bash", "-c", self.shell.var_expand(command, depth=1)],
            preexec_fn=lambda: _die_with(me),
        )
        self.shell.user_ns["_exit_code"] = result

    def run(self, source, count, raw):
        """Run one cell. Returns what to tell the notebook: that it is done, or what went
        wrong, with the place in the cell."""
        me = os.getpid()
        answer: tuple = ("done",)
        file = self.shell.compile.cache(source, count, raw_code=raw)
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self.execute(ast.parse(source, file), file, source)
                flush()
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        except SystemExit as error:
            flush()
            code = 0 if error.code is None else error.code
            if not isinstance(code, int):
                print(code, file=sys.stderr)
                code = 1
            os._exit(code & 0xFF)
        except BaseException as error:
            answer = "error", type(error).__name__, str(error), self.render(error, file)
        if os.getpid() != me:  # a fork that the cell made, and that reached its end
            if answer[0] == "error":
                print("\n".join(answer[3]), file=sys.stderr)
            flush()
            os._exit(answer[0] == "error")
        flush()
        return answer

    def execute(self, tree, file, source):
        last = None
        if (
            tree.body
            and isinstance(tree.body[-1], ast.Expr)
            and not source.rstrip().endswith(";")
        ):
            last = ast.Expression(tree.body.pop().value)
        variables = self.shell.user_ns
        exec(compile(tree, file, "exec"), variables)
        if last is None:
            return
        value = eval(compile(last, file, "eval"), variables)
        if value is not None:
            self.publish(*self.shell.display_formatter.format(value))

    def render(self, error, file):
        """The traceback as IPython shows it, from the cell on."""
        here = error.__traceback__
        while here and here.tb_frame.f_code.co_filename != file:
            here = here.tb_next
        shell = self.shell
        view = shell.InteractiveTB
        if isinstance(error, SyntaxError) and here is None:
            view = shell.SyntaxTB
        try:
            lines = view.structured_traceback(type(error), error, here)
        except Exception:  # it reads files, which may be out of the box's reach by now
            lines = traceback.format_exception(type(error), error, here)
        return lines if isinstance(lines, list) else [lines]


def _die_with(parent):
    """Have the kernel end this process when its parent, the process `parent`, ends."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was faster
        os._exit(1)


def flush():
    for stream in sys.stdout, sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def no_input(*_):
    raise RuntimeError("input() does not work in a box: nobody is at its terminal")


# ---- the magics


@magics_class
class BoxMagics(Magics):
    @magic_arguments()
    @argument("name", help="of the box; the next cells use it to come back")
    @argument(
        "--ns", help=f"the new namespaces: {','.join(NAMESPACES)}; none for none at all"
    )
    @argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        help=f"seconds after which the box is ended; {TIMEOUT} unless told otherwise",
    )
    @argument("--once", action="store_true", help="end the box after this cell")
    @cell_magic("box")
    def box(self, line, cell):
        """Run the cell in a box: a process of its own that lives on between cells."""
        arguments = parse_argstring(self.box, line)
        box = self.find(arguments.name, arguments.ns)
        # One line more stands for the %%box line, so that tracebacks count right.
        source = "\n" + self.shell.transform_cell(cell)
        raw = f"%%box {line}\n{cell}"
        try:
            number = len(self.shell.user_ns["In"]) - 1  # of the cell, as in its margin
            box.run(source, number, raw, arguments.timeout)
        finally:
            if arguments.once:
                box.end()

    def find(self, name, wanted):
        """The box of that name: the one that lives, or with --ns a new one."""
        box = boxes.get(name)
        if box and not box.alive():
            box = None
        if wanted is None:  # a guess might let the cell loose on the host
            if box is None:
                raise UsageError(
                    f"No box {name!r} is alive. Run the cell that starts it, the one with "
                    f"--ns, or start it here: %%box {name} --ns uts (or another namespace; "
                    "none for none)"
                )
            return box
        namespaces = frozenset(wanted.split(",")) - {"none"}
        if unknown := namespaces - NAMESPACES.keys():
            raise UsageError(
                f"No namespace is called {min(unknown)!r}: "
                f"--ns takes {', '.join(NAMESPACES)} with commas between, or none"
            )
        if box and box.namespaces != namespaces:
            raise UsageError(
                f"Box {name!r} lives already, in other namespaces. End it first: "
                f"%boxes end {name}"
            )
        if box is None:
            box = boxes[name] = Box(name, namespaces, self.shell)
        return box

    @line_magic("boxes")
    def boxes(self, line):
        """%boxes lists the living boxes; %boxes end [NAME...] ends those, or all."""
        verb, *names = line.split() or ["list"]
        if verb not in ("list", "end"):
            raise UsageError("It is %boxes, or %boxes end [NAME...]")
        for name, box in list(boxes.items()):
            if not box.alive():
                del boxes[name]
            elif verb == "end" and name in (names or [name]):
                box.end()
                del boxes[name]
            elif verb == "list":
                own = ", ".join(ns for ns in NAMESPACES if ns in box.namespaces)
                print(f"{name}: pid {box.pid}, namespaces of its own: {own or 'none'}")
        if verb == "list" and not boxes:
            print("No box is alive.")

    @line_magic("inspect")
    def inspect(self, line):
        """%inspect [BOX, PID or HOST NAME]: a picture of host and container side by side."""
        name = line.strip()
        try:
            if (box := boxes.get(name)) and box.alive():
                told = ["%%box", name]
                return inspect.picture(inspect.Container(box._keeper, box.pid, told))
            return inspect.picture(name or None)
        except Failure as error:
            raise UsageError(str(error)) from None

    @line_magic("diff")
    def diff(self, line):
        """%diff N: what step N changes in the runtime of the step before, folded."""
        try:
            return attempt.Diff.of_step(learner.room(line.strip()))
        except Failure as error:
            raise UsageError(str(error)) from None


def load_ipython_extension(shell):
    """Register the magics, and work in the project folder, as a terminal of the lab does.

    The notebook gets two variables: `boxes`, and `mine`, the path of the learner's own
    runtime. That is my/container.py, unless WORKSHOP_MY names another folder than my.
    """
    os.chdir(PROJECT)
    shell.user_ns["boxes"] = boxes
    shell.user_ns["mine"] = os.environ.get("WORKSHOP_MY", "my") + "/container.py"
    shell.register_magics(BoxMagics)


def unload_ipython_extension(shell):
    for box in boxes.values():
        box.end()
    boxes.clear()
