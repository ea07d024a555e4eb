"""A process in new namespaces that runs cells of a notebook, and stays alive between them.

    notebook's kernel --fork(2)--> keeper --clone3(2), with the namespaces--> cell process

The cell process has one thread, which is what unshare(2) and setns(2) ask for. The keeper is
there because the notebook's kernel has threads, which fork(2) copes with, but a bare clone3(2)
does not. The keeper waits for the cell process, which would otherwise stay as a zombie. It dies
with the notebook's kernel, and the cell process dies with the keeper.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import linux
from workshop.cell_runner import (
    Born,
    Cell,
    CellRunner,
    Display,
    Done,
    Message,
    Raised,
    Ready,
    die_with,
    flush,
)
from workshop.namespaces import NAMESPACES
from workshop.whole_lines import MOMENT, WholeLines

TIMEOUT = 60  # seconds that a cell may take, unless the notebook says otherwise
GRACE = 3  # seconds between Ctrl-C and the end of a process that ignores it


class CellError(Exception):
    """An error in a cell process. IPython shows it with the traceback of that process, and
    without the functions of this module."""

    def __init__(self, text: str, lines: Iterable[str] = ()):
        """lines: the traceback. Without it, only the class and the text are shown."""
        super().__init__(text)
        self.lines = list(lines) or [f"{type(self).__name__}: {text}"]

    @classmethod
    def named(cls, kind: str, text: str, lines: Iterable[str] = ()) -> CellError:
        """Returns an error that a notebook shows as one of the class `kind`."""
        error: CellError = type(kind, (cls,), {})(text, lines)
        return error

    def _render_traceback_(self) -> list[str]:  # IPython calls it
        return self.lines


class Relay:
    """A pipe. The notebook's kernel shows everything that is written to it."""

    def __init__(self, stream: str):
        """stream: where the text goes, "stdout" or "stderr"."""
        self._stream = stream
        self._reader, self.writer = os.pipe()
        self._lines = WholeLines()

    def fileno(self) -> int:
        """Returns the descriptor that select() waits for."""
        return self._reader

    @property
    def waiting(self) -> bool:
        """Whether the beginning of a line has been read, and not been shown."""
        return self._lines.waiting

    def pass_on(self) -> bool:
        """Reads once, and shows the whole lines. Returns False at the end of the pipe."""
        data = os.read(self._reader, 65536)
        self._show(self._lines.add(data))
        return bool(data)

    def pass_on_rest(self) -> None:
        """Shows everything that has been read, and what is in the pipe by now."""
        while select.select([self], [], [], 0)[0] and self.pass_on():
            pass
        self._show(self._lines.rest())

    def _show(self, text: str) -> None:
        stream = getattr(sys, self._stream)
        stream.write(text)
        stream.flush()

    def close_reader(self) -> None:
        os.close(self._reader)

    def close_writer(self) -> None:
        os.close(self.writer)


class CellProcess:
    """A process that runs cells, as the notebook's kernel sees it."""

    def __init__(
        self,
        name: str,
        namespaces: frozenset[str],
        shell: Any,
        others: Iterable[CellProcess] = (),
    ):
        """Starts the process. namespaces: names, such as uts. shell: the notebook's
        InteractiveShell, of which the process gets a copy. others: the cell processes that
        are already running. Raises CellError if the process does not start."""
        self.name, self.namespaces, self.shell = name, namespaces, shell
        self.pid: int | None = None  # as the host sees it
        self._status: int | None = None  # of waitpid(2), once it has ended
        self._channel, inside = Pipe()
        self._relays = [Relay("stdout"), Relay("stderr")]
        flush()
        self.keeper = self._fork(inside, others)
        inside.close()
        for relay in self._relays:
            relay.close_writer()
        self._pidfd = os.pidfd_open(self.keeper)
        try:
            self._converse(Ready, TIMEOUT)
            if self._status is not None:
                raise CellError(f"box {name} could not be started")
            if self.pid is None:  # the process was faster than its keeper
                self._converse(Born, TIMEOUT)
        except BaseException:
            self.end()
            raise

    def run(self, cell: Cell, timeout: float) -> None:
        """Runs a cell in the process, and shows its output as it comes. Raises CellError if
        the cell raises an exception. If the cell takes more than `timeout` seconds, ends the
        process and raises CellError as well."""
        self._channel.send(cell)
        self._converse(Done, timeout)

    def alive(self) -> bool:
        """Returns whether a cell can be run in the process."""
        if self._status is None and select.select([self._pidfd], [], [], 0)[0]:
            self._pass_on_rest()
            self.end()
        return self._status is None

    def end(self) -> int:
        """Ends the process, and every process in its session. Returns its wait status."""
        if self._status is not None:
            return self._status
        for kill, pid in (os.killpg, self.pid), (os.kill, self.pid or self.keeper):
            with contextlib.suppress(ProcessLookupError):
                if pid:
                    kill(pid, signal.SIGKILL)
        self._status = os.waitpid(self.keeper, 0)[1]
        self._close()
        return self._status

    def _close(self) -> None:
        """Closes the kernel's ends of everything."""
        self._channel.close()
        os.close(self._pidfd)
        for relay in self._relays:
            relay.close_reader()

    # ---- what the process sends

    def _converse(self, awaited: type[Message], timeout: float) -> None:
        """Passes on what comes from the process until it sends an `awaited` message, or ends.
        Raises CellError for a Raised message, and when the time is up. Ctrl-C interrupts the
        cell, and ends the process if it has not reacted after GRACE seconds."""
        deadline, interrupted = time.monotonic() + timeout, False
        sources: list[Any] = [*self._relays, self._channel, self._pidfd]
        while True:
            try:
                left = max(0, deadline - time.monotonic())
                waiting = any(relay.waiting for relay in self._relays)
                pause = min(left, MOMENT) if waiting else left
                ready = select.select(sources, [], [], pause)[0]
                if not ready and waiting:
                    self._pass_on_rest()
                elif not ready:
                    self.end()
                    raise self._late(timeout, interrupted)
                if self._pass_on(ready, sources, awaited):
                    return
            except KeyboardInterrupt:
                if interrupted or self.pid is None or self._status is not None:
                    self.end()
                    raise
                interrupted, deadline = True, time.monotonic() + GRACE
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGINT)

    def _late(self, timeout: float, interrupted: bool) -> CellError:
        if interrupted:
            text = f"box {self.name} ignored the interrupt, and was ended"
            return CellError.named("KeyboardInterrupt", text)
        text = f"box {self.name} was ended: the cell took over {timeout:g} s"
        return CellError.named("TimeoutError", text)

    def _pass_on(
        self, ready: list[Any], sources: list[Any], awaited: type[Message]
    ) -> bool:
        """Passes on what is ready. Removes the sources that have reached their end. Returns
        whether there is nothing more to wait for."""
        for relay in self._relays:
            if relay in ready and not relay.pass_on():
                sources.remove(relay)
        if self._channel in ready:
            try:
                message = self._channel.recv()
            except (EOFError, ConnectionResetError):
                # The process executes another program, or has ended.
                sources.remove(self._channel)
                return False
            self._pass_on_rest()
            self._receive(message)
            return isinstance(message, awaited)
        if ready == [self._pidfd]:
            self._pass_on_rest()
            self._report_end()
            return True
        return False

    def _pass_on_rest(self) -> None:
        for relay in self._relays:
            relay.pass_on_rest()

    def _receive(self, message: Message) -> None:
        match message:
            case Born(pid):
                self.pid = pid
            case Display(data, metadata, options):
                self.shell.display_pub.publish(data, metadata, **options)
            case Raised(kind, text, lines):
                raise CellError.named(kind, text, lines)

    def _report_end(self) -> None:
        status = os.waitstatus_to_exitcode(self.end())
        if status < 0:
            signal_name = signal.Signals(-status).name
            text = f"box {self.name} ended: killed by {signal_name}"
            raise CellError(text)
        print(f"[box {self.name} ended: exit status {status}]")

    # ---- the keeper

    def _fork(self, inside: Connection, others: Iterable[CellProcess]) -> int:
        """Starts the keeper. Returns its pid."""
        kernel = os.getpid()
        # Until the keeper ignores SIGINT, an interrupt would raise KeyboardInterrupt in this
        # copy of the kernel.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with warnings.catch_warnings():
            # Python warns that forking a process with threads can hang. The child does
            # nothing but clone and wait, and uses nothing that the threads may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            keeper = os.fork()
        if keeper == 0:
            self._keep(kernel, inside, others)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return keeper

    def _keep(
        self, kernel: int, inside: Connection, others: Iterable[CellProcess]
    ) -> NoReturn:
        """Starts the cell process, waits for it, and ends in the same way."""
        status = 1
        try:
            die_with(kernel)
            os.setsid()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            self._use_own_descriptors(others)
            keeper, is_init = os.getpid(), "pid" in self.namespaces
            pid = linux.clone(
                sum(n.flag for n in NAMESPACES if n.kind in self.namespaces)
            )
            if pid == 0:
                # Process 1 of a pid namespace sees no parent.
                CellRunner(self.shell, inside).serve(0 if is_init else keeper)
            inside.send(Born(pid))
            inside.close()
            os.close(1)
            os.close(2)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if status < 0:
                with contextlib.suppress(OSError):  # SIGKILL has no handler
                    signal.signal(-status, signal.SIG_DFL)
                os.kill(os.getpid(), -status)
        except OSError as error:
            lines = traceback.format_exception_only(error)
            inside.send(Raised(type(error).__name__, str(error), lines))
        finally:
            os._exit(status)

    def _use_own_descriptors(self, others: Iterable[CellProcess]) -> None:
        """In the keeper: makes the relays stdout and stderr, and closes the kernel's ends of
        all pipes. While a copy of them is open, the other cell processes would not notice
        that the kernel has ended."""
        self._channel.close()
        for relay in self._relays:
            relay.close_reader()
        for other in others:
            if other._status is None:
                other._close()
        for number, relay in enumerate(self._relays, 1):
            os.dup2(relay.writer, number)
            relay.close_writer()
