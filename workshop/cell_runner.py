"""What a cell process does: it runs the cells that its notebook sends, until there are no more.

It cannot rely on files, because a cell may change its root directory. So everything that
it needs is imported before the process starts.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import traceback
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NoReturn

import linux
import stack_data  # noqa: F401 - IPython imports it when it shows a traceback


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell to run. The process answers with Done or Raised."""

    source: str  # as Python: the magics are calls of functions
    number: int  # in the notebook's margin
    raw: str  # as the reader typed it, for tracebacks


@dataclasses.dataclass(frozen=True)
class Born:
    """The keeper has started the process, which has this pid on the host."""

    pid: int


@dataclasses.dataclass(frozen=True)
class Ready:
    """The process waits for its first cell."""


@dataclasses.dataclass(frozen=True)
class Display:
    """The cell shows something: the arguments of IPython's DisplayPublisher.publish()."""

    data: dict[str, Any]
    metadata: dict[str, Any]
    options: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Done:
    """The cell has run to its end."""


@dataclasses.dataclass(frozen=True)
class Raised:
    """The cell, or the start of the process, has raised an exception."""

    kind: str  # the name of its class
    text: str
    traceback: list[str]  # lines, as IPython shows them


Message = Born | Ready | Display | Done | Raised


class CellRunner:
    """The inside of a cell process."""

    def __init__(self, shell: Any, channel: Connection):
        """shell: a copy of the notebook's InteractiveShell. channel: cells arrive from it,
        and Messages go to it."""
        self.shell, self.channel = shell, channel

    def serve(self, parent: int) -> NoReturn:
        """Runs cells until the channel is closed, then exits. parent: the keeper's pid, as
        this process sees it."""
        try:
            die_with(parent)
            os.setsid()
            self._replace_kernel_functions()
            self.channel.send(Ready())
            while True:
                self.channel.send(self._run(self.channel.recv()))
        except EOFError:
            os._exit(0)
        except BaseException:
            with contextlib.suppress(OSError):
                os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(1)

    def _replace_kernel_functions(self) -> None:
        """Replaces the functions that need the threads and sockets of the notebook's
        kernel."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        sys.stdout = open(1, "w", buffering=1, closefd=False, errors="replace")
        sys.stderr = open(2, "w", buffering=1, closefd=False, errors="replace")
        self.shell.display_pub.publish = self._publish
        self.shell.system = self._system
        self.shell.user_ns["exit"] = self.shell.user_ns["quit"] = sys.exit
        builtins.input = _no_input

    def _publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Stands in for IPython's DisplayPublisher.publish()."""
        flush()
        options = {k: v for k, v in options.items() if k in ("transient", "update")}
        self.channel.send(Display(data, metadata or {}, options))

    def _system(self, command: str) -> None:
        """Runs `!command`, with the process's own output."""
        flush()
        me = os.getpid()
        self.shell.user_ns["_exit_code"] = subprocess.call(
            ["/bin/bash", "-c", self.shell.var_expand(command, depth=1)],
            preexec_fn=lambda: die_with(me),
        )

    def _run(self, cell: Cell) -> Done | Raised:
        """Runs a cell. Returns how it ended. sys.exit() in it ends the process."""
        me = os.getpid()
        answer: Done | Raised = Done()
        file = self.shell.compile.cache(cell.source, cell.number, raw_code=cell.raw)
        try:
            try:
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self._execute(cell.source, file)
                flush()
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        except SystemExit as error:
            _exit_as(error)
        except BaseException as error:
            lines = self._traceback(error, file)
            answer = Raised(type(error).__name__, str(error), lines)
        if os.getpid() != me:  # a child that the cell forked, and that ran to its end
            if isinstance(answer, Raised):
                print("\n".join(answer.traceback), file=sys.stderr)
            flush()
            os._exit(isinstance(answer, Raised))
        flush()
        return answer

    def _execute(self, source: str, file: str) -> None:
        """Runs Python code in the notebook's variables, and shows the value of its last
        line, as IPython does."""
        tree, last = ast.parse(source, file), None
        quiet = source.rstrip().endswith(";")
        if tree.body and isinstance(tree.body[-1], ast.Expr) and not quiet:
            last = ast.Expression(tree.body[-1].value)
            del tree.body[-1]
        variables = self.shell.user_ns
        exec(compile(tree, file, "exec"), variables)
        if last is None:
            return
        value = eval(compile(last, file, "eval"), variables)
        if value is not None:
            self._publish(*self.shell.display_formatter.format(value))

    def _traceback(self, error: BaseException, file: str) -> list[str]:
        """Returns the lines of a traceback as IPython shows it, from the cell on."""
        here: TracebackType | None = error.__traceback__
        while here and here.tb_frame.f_code.co_filename != file:
            here = here.tb_next
        view = self.shell.InteractiveTB
        if isinstance(error, SyntaxError) and here is None:
            view = self.shell.SyntaxTB
        try:
            lines = view.structured_traceback(type(error), error, here)
        except Exception:  # it reads files, which the process may no longer reach
            lines = traceback.format_exception(type(error), error, here)
        return lines if isinstance(lines, list) else [lines]


def die_with(parent: int) -> None:
    """Makes the kernel kill this process when its parent, which has the pid `parent`, ends:
    PR_SET_PDEATHSIG in prctl(2)."""
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def flush() -> None:
    """Writes out what sys.stdout and sys.stderr have buffered."""
    for stream in sys.stdout, sys.stderr:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _exit_as(error: SystemExit) -> NoReturn:
    """Ends the process as sys.exit() does, but without Python's own tidying up, which would
    touch what belongs to the notebook's kernel."""
    flush()
    code = 0 if error.code is None else error.code
    if not isinstance(code, int):
        print(code, file=sys.stderr, flush=True)
        code = 1
    os._exit(code & 0xFF)


def _no_input(*_: object) -> NoReturn:
    raise RuntimeError(
        "input() does not work in a box: it has no terminal to read from"
    )
