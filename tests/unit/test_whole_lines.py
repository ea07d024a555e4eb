"""Output in whole lines, from the pipes of a box and in the tab."""

import os

import pytest

from workshop import whole_lines
from workshop.cell_process import Relay
from workshop.whole_lines import LONGEST, MOMENT, WholeLines


@pytest.fixture
def clock(monkeypatch):
    """Stops the clock. Its list holds the time."""
    times = [0.0]
    monkeypatch.setattr(whole_lines.time, "monotonic", lambda: times[0])
    return times


def test_pieces_of_a_line_come_together(clock):
    lines = WholeLines()
    assert [lines.add(piece) for piece in (b"date: ", b"cannot set date")] == ["", ""]
    assert lines.waiting
    assert lines.add(b": no\nand \xc3") == "date: cannot set date: no\n"
    assert lines.add(b"\xa4") == ""
    assert lines.rest() == "and ä"
    assert not lines.waiting and lines.rest() == ""


def test_beginning_of_a_line_waits_only_for_a_moment(clock):
    lines = WholeLines()
    assert lines.add(b".") == ""
    clock[0] += MOMENT / 2
    assert lines.add(b".") == ""
    clock[0] += MOMENT
    assert lines.add(b".") == "..."
    assert lines.add(b".") == ""


def test_long_line_does_not_wait(clock):
    lines = WholeLines()
    assert lines.add(b"x" * LONGEST) == ""
    assert len(lines.add(b"x")) == LONGEST + 1


def test_line_of_a_box_is_shown_as_a_whole(capsys, clock):
    errors, output = Relay("stderr"), Relay("stdout")
    for text in b"date: ", b"cannot set date":
        os.write(errors.writer, text)
        assert errors.pass_on() and errors.waiting
    assert capsys.readouterr().err == ""
    os.write(errors.writer, b": no\n$ ")
    errors.pass_on()
    assert capsys.readouterr().err == "date: cannot set date: no\n"
    errors.pass_on_rest()
    assert capsys.readouterr().err == "$ "
    for relay in errors, output:
        relay.close_reader()
        relay.close_writer()
