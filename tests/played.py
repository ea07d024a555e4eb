"""A demo that plays by itself in a terminal."""

import re

import pexpect

from workshop import talk
from workshop.scenes import scenes


def play_to_the_end(demo: pexpect.spawn, cut: str) -> str:
    """Reads what a demo shows until it ends, and checks that it played every scene of its cut.
    Returns the text without escape sequences."""
    output = bytearray()
    while data := talk.read_output(demo):
        output += data
    demo.close()
    shown = talk.ESCAPES.sub("", output.decode())
    assert demo.exitstatus == 0, shown[-2000:]
    titles = [scene.title for scene in scenes(cut)]
    assert re.findall(r"^  \d · (.*?)\n", shown, re.MULTILINE) == titles, shown
    return shown
