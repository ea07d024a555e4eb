"""The evening before a talk: `./lab rehearse` plays its cut to the end in the lab's own VM,
in a terminal of the stage's size. tests/guide/test_demo.py plays the other cuts.
"""

import os
import sys
import time

import driver
import pexpect
import pytest
from driver import PROJECT

sys.path += [str(PROJECT), str(PROJECT / "tests")]
from played import play_to_the_end

CUT = "20"
COLUMNS, LINES = 90, 24  # of the stage's terminal
pytestmark = pytest.mark.timeout(900)  # with the start of the lab


def test_cut_plays_to_the_end_by_itself_within_its_minutes(lab: driver.Lab) -> None:
    begin = time.monotonic()
    demo = pexpect.spawn(
        str(lab.project / "lab"),
        ["rehearse", CUT],
        env={**os.environ, **lab.environment, "TERM": "xterm-256color"},
        dimensions=(LINES, COLUMNS),
        timeout=None,
    )
    shown = play_to_the_end(demo, CUT)
    assert f"the {CUT}-minute demo ran" in shown
    assert time.monotonic() - begin < 60 * float(CUT)
