"""Progress: a live line on a terminal, lines elsewhere, and never a long silence."""

import io
import json

import pytest

from host.progress import QUIET, JsonProgress, Progress, Stage


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_sentences_have_the_seconds_since_the_start(clock):
    progress = Progress(io.StringIO(), clock)
    clock.now += 7.4
    progress.say("hello")
    assert progress.stream.getvalue() == "[  7s] hello\n"


def test_stage_in_a_log_is_a_line_and_one_for_each_part(clock):
    progress = Progress(io.StringIO(), clock)
    with progress.stage("building", "1 to 3 minutes") as stage:
        clock.now += 2
        stage.note("kernel")
    assert progress.stream.getvalue() == (
        "[  0s] building (usually 1 to 3 minutes)\n[  2s]   kernel\n"
    )


def test_log_is_never_silent_for_fifteen_seconds(clock):
    progress = Progress(io.StringIO(), clock)
    lines = []
    with progress.stage("building") as stage:
        for _ in range(60):
            clock.now += 1
            progress.tick(stage)
        lines = progress.stream.getvalue().splitlines()
    times = [int(line[1:4]) for line in lines]
    assert times[0] == 0 and times[-1] >= 45
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) <= 15
    assert QUIET < 15


def test_terminal_shows_stage_part_elapsed_and_usual(clock):
    progress = Progress(Terminal(), clock)
    stage = Stage(progress, "building", "1 to 3 minutes")
    progress.stage_shown = stage
    clock.now += 12
    stage.note("kernel")
    line = "[ 12s] building: kernel (12 s, usually 1 to 3 minutes)"
    assert progress.stream.getvalue() == f"\r\033[K{line}"


def test_terminal_keeps_one_line_of_a_stage(clock):
    progress = Progress(Terminal(), clock)
    with progress.stage("building", "a minute") as stage:
        stage.note("kernel")
        clock.now += 30
    shown = progress.stream.getvalue()
    assert shown.count("\n") == 1 and shown.endswith("[ 30s] building: 30 s\n")


def test_live_line_fits_the_terminal(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    progress = Progress(Terminal(), clock)
    stage = Stage(progress, "x" * 100, "")
    progress.tick(stage)
    assert len(progress.stream.getvalue().replace("\r\033[K", "")) < 40


def test_failed_stage_leaves_no_half_line(clock):
    progress = Progress(Terminal(), clock)
    with pytest.raises(OSError), progress.stage("building"):
        raise OSError
    shown = progress.stream.getvalue()
    assert shown == "" or shown.endswith("\r\033[K")


def test_sentence_in_a_stage_clears_the_live_line(clock):
    progress = Progress(Terminal(), clock)
    with progress.stage("building") as stage:
        progress.tick(stage)
        progress.say("port 8888 is in use")
        shown = progress.stream.getvalue()
    assert "\r\033[K[  0s] port 8888 is in use\n" in shown


def test_json_has_one_object_per_line(clock):
    progress = JsonProgress(io.StringIO(), clock)
    with progress.stage("starting", "10 s"):
        progress.event(ready=True)
    lines = [json.loads(line) for line in progress.stream.getvalue().splitlines()]
    assert lines == [{"text": "starting (usually 10 s)"}, {"ready": True}]
