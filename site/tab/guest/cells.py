"""Runs the cells of lessons in the machine in the browser tab: a Jupyter kernel without Jupyter.

The page and this process exchange JSON, one object a line, over the terminal at standard input:

    page -> {"id": "c7", "code": "!hostname"}
    <- {"id": "c7", "stream": "stdout", "text": "workshop\\n"}
    <- {"id": "c7", "display": {"text/html": ...}, "metadata": {...}}
    <- {"id": "c7", "result": {"text/plain": ...}, "metadata": {...}}
    <- {"id": "c7", "error": "NameError", "value": "...", "traceback": ["...", ...]}
    <- {"id": "c7", "done": true, "count": 3}

"done" says whether the cell ran without an error. At its start, this process sends {"ready":
its pid}. Byte 3 on the line is Ctrl-C: the terminal is its controlling one, and turns the byte
into SIGINT.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import termios
import threading
from collections.abc import Iterable
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from workshop.whole_lines import MOMENT, WholeLines

PIECE = 65536  # bytes


class Line:
    """The terminal to the page. Several threads may send, each message as a whole."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.lock = threading.Lock()
        self.cell: str | None = None  # the id of the cell that runs

    def send(self, **message: Any) -> None:
        """Sends a message about the current cell."""
        text = json.dumps({"id": self.cell, **message}, separators=(",", ":"))
        data = memoryview(text.encode() + b"\n")
        # An interrupt in the middle would leave half a line.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with self.lock:
            while data:
                data = data[os.write(self.descriptor, data) :]
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def received(self) -> Iterable[dict[str, str]]:
        """Yields the page's messages. Ignores a line that is no JSON: the first half of it
        may have been lost when the page was reset."""
        rest = b""
        while data := os.read(self.descriptor, PIECE):
            *lines, rest = (rest + data).split(b"\n")
            for text in filter(None, lines):
                try:
                    yield json.loads(text)
                except ValueError:
                    self.send(ignored=len(text))


class Stream:
    """Takes the place of sys.stdout or sys.stderr. Sends whole lines at once, and the rest
    when it is flushed."""

    encoding, errors, newlines, closed = "utf-8", "replace", None, False

    def __init__(self, line: Line, name: str, descriptor: int) -> None:
        self.line, self.name, self.descriptor = line, name, descriptor
        self.held = ""

    def write(self, text: str) -> int:
        self.held += text
        if "\n" in text or len(self.held) > PIECE:
            self.flush()
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        text, self.held = self.held, ""
        if text:
            self.line.send(stream=self.name, text=text)

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    seekable = readable


LINE = Line(-1)


def flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


class Publisher(DisplayPublisher):
    """Sends what a cell displays."""

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **_: Any,
    ) -> None:
        flush()
        name = (transient or {}).get("display_id")
        LINE.send(display=data, metadata=metadata or {}, name=name, update=update)

    def clear_output(self, wait: bool = False) -> None:
        flush()
        LINE.send(clear=wait)


class Hook(DisplayHook):
    """Sends the value of a cell's last expression."""

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(
        self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
    ) -> None:
        flush()
        LINE.send(result=format_dict, metadata=md_dict or {})


class ZMQInteractiveShell(InteractiveShell):  # type: ignore[misc]
    """The shell. It has the name of Jupyter's, because rich looks at the name."""

    # The output of `!command` comes through a pipe, as in Jupyter's kernel without a pty.
    system = InteractiveShell.system_piped

    def _showtraceback(
        self, etype: type, evalue: BaseException, stb: list[str]
    ) -> None:
        flush()
        LINE.send(error=etype.__name__, value=str(evalue), traceback=stb)

    def enable_gui(self, gui: object = None) -> None:
        pass


def claim(terminal: int) -> None:
    """Sets the terminal to pass all bytes unchanged, except that byte 3 is Ctrl-C."""
    mode = termios.tcgetattr(terminal)
    mode[0] = mode[1] = 0
    mode[3] = termios.ISIG | termios.NOFLSH
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    for unused in termios.VQUIT, termios.VSUSP:
        mode[6][unused] = b"\0"
    mode[6][termios.VINTR] = b"\x03"
    termios.tcsetattr(terminal, termios.TCSANOW, mode)


class Relay(threading.Thread):
    """Sends what processes write to a descriptor of this one, in whole lines."""

    def __init__(self, line: Line, name: str, source: int) -> None:
        super().__init__(daemon=True)
        self.line, self.stream, self.source = line, name, source
        os.set_blocking(source, False)
        self.lines = WholeLines()
        self.reading = threading.Lock()

    def run(self) -> None:
        while True:
            pause = MOMENT if self.lines.waiting else None
            arrived, _, _ = select.select([self.source], [], [], pause)
            self.pass_on(everything=not arrived)

    def pass_on(self, everything: bool) -> None:
        """Sends the whole lines that have arrived, or everything."""
        with self.reading:
            text = ""
            with contextlib.suppress(BlockingIOError):
                text = self.lines.add(os.read(self.source, PIECE))  # all of a pipe
            if everything:
                text += self.lines.rest()
            if text:
                self.line.send(stream=self.stream, text=text)


def replace_streams() -> list[Relay]:
    """Sends to the page what this process and its children write."""
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    relays = []
    for descriptor, name in (1, "stdout"), (2, "stderr"):
        source, end = os.pipe()
        os.dup2(end, descriptor)
        os.close(end)
        relays.append(Relay(LINE, name, source))
        relays[-1].start()
    sys.stdout = Stream(LINE, "stdout", 1)  # type: ignore[assignment]
    sys.stderr = Stream(LINE, "stderr", 2)  # type: ignore[assignment]
    return relays


def after_fork_in_child() -> None:
    LINE.lock.release()
    # When memory runs out, the kernel ends a child first, and this process last. A process in
    # a user namespace of its own may not write there.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def run(shell: InteractiveShell, code: str) -> bool:
    """Runs a cell. Returns whether it ran without an error. Ctrl-C interrupts only a cell."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return bool(shell.run_cell(code, store_history=True).success)
    except KeyboardInterrupt:
        return False
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    claim(0)
    LINE.descriptor = os.open(os.ttyname(0), os.O_RDWR | os.O_NOCTTY)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.autoindent = False
    shell = ZMQInteractiveShell.instance(
        config=config, display_pub_class=Publisher, displayhook_class=Hook
    )
    relays = replace_streams()
    os.register_at_fork(
        before=LINE.lock.acquire,
        after_in_parent=LINE.lock.release,
        after_in_child=after_fork_in_child,
    )
    LINE.send(ready=os.getpid())
    for message in LINE.received():
        LINE.cell = message["id"]
        done = run(shell, message["code"])
        flush()
        for relay in relays:
            relay.pass_on(everything=True)
        LINE.send(done=done, count=shell.execution_count - 1)
        LINE.cell = None


if __name__ == "__main__":
    main()
