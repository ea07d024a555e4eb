"""What a person sees while the lab works: sentences with the time, and stages.

On a terminal a stage is one live line with its title, how long it has taken, and how
long it usually takes. Elsewhere it is a line when it begins, one for each of its
parts, and a sign of life whenever it has printed nothing for a while.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import Callable, TextIO

QUIET = 10.0  # seconds without a line until a stage shows that it is alive


class Stage:
    """Tracks a piece of work that takes a while."""

    def __init__(self, progress: Progress, title: str, usual: str) -> None:
        self.progress = progress
        self.title = title
        self.usual = usual
        self.part = ""
        self.begin = self.part_begin = progress.clock()

    def note(self, part: str) -> None:
        """Shows which part of the stage begins."""
        self.part = part
        self.part_begin = self.progress.clock()
        self.progress.show_part(self)

    def seconds(self) -> float:
        return self.progress.clock() - self.begin

    def live_line(self) -> str:
        usual = f", usually {self.usual}" if self.usual else ""
        part = f": {self.part}" if self.part else ""
        return f"{self.title}{part} ({self.seconds():.0f} s{usual})"


class Progress:
    """Prints sentences and stages to a stream, with the seconds since the start."""

    def __init__(
        self,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream or sys.stdout
        self.clock = clock
        self.begin = clock()
        self.live = self.stream.isatty()
        self.lock = threading.RLock()
        self.stage_shown: Stage | None = None
        self.last_line = self.begin

    def say(self, sentence: str) -> None:
        """Prints one sentence."""
        with self.lock:
            self._clear()
            self._line(sentence)

    @contextlib.contextmanager
    def stage(self, title: str, usual: str = "") -> Iterator[Stage]:
        """Shows a stage for as long as the block runs."""
        stage = Stage(self, title, usual)
        ended = threading.Event()
        ticker = threading.Thread(target=self._tick, args=[stage, ended], daemon=True)
        with self.lock:
            self.stage_shown = stage
            if not self.live:
                self._line(title + (f" (usually {usual})" if usual else ""))
        ticker.start()
        try:
            yield stage
        except BaseException:
            self._end(ended, ticker)
            raise
        self._end(ended, ticker)
        if self.live:
            self.say(f"{title}: {stage.seconds():.0f} s")

    def show_part(self, stage: Stage) -> None:
        with self.lock:
            if self.live:
                self._draw(stage)
            else:
                self._line(f"  {stage.part}")

    def _end(self, ended: threading.Event, ticker: threading.Thread) -> None:
        ended.set()
        ticker.join()
        with self.lock:
            self._clear()
            self.stage_shown = None

    def _tick(self, stage: Stage, ended: threading.Event) -> None:
        with contextlib.suppress(OSError, ValueError):  # no one reads it any more
            while not ended.wait(0.5 if self.live else 1.0):
                self.tick(stage)

    def tick(self, stage: Stage) -> None:
        """Shows that a stage is alive, if it is time for that."""
        with self.lock:
            if self.live:
                self._draw(stage)
            elif self.clock() - self.last_line >= QUIET:
                seconds = self.clock() - stage.part_begin
                self._line(f"  {stage.part or stage.title}: {seconds:.0f} s so far")

    def _draw(self, stage: Stage) -> None:
        width = shutil.get_terminal_size().columns - 1
        line = f"[{self.elapsed():3.0f}s] {stage.live_line()}"
        self.stream.write(f"\r\033[K{line[:width]}")
        self.stream.flush()

    def _clear(self) -> None:
        if self.live and self.stage_shown:
            self.stream.write("\r\033[K")

    def _line(self, text: str) -> None:
        self.last_line = self.clock()
        self.stream.write(f"[{self.elapsed():3.0f}s] {text}\n")
        self.stream.flush()

    def elapsed(self) -> float:
        return self.clock() - self.begin


class JsonProgress(Progress):
    """Prints each sentence as a line of JSON, for a program that reads it."""

    def _line(self, text: str) -> None:
        self.last_line = self.clock()
        self.event(text=text)

    def event(self, **fields: object) -> None:
        self.stream.write(json.dumps(fields) + "\n")
        self.stream.flush()
