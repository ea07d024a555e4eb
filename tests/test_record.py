"""docs/images/container.svg, the picture in the README: the commands in it still print what
it shows. tests/unit/test_readme.py has what needs no container."""

import re

import record
from runtime import PROJECT


def test_picture_shows_what_its_commands_print_apart_from_numbers(monkeypatch):
    """`sudo tests/record.py` makes the picture."""
    monkeypatch.chdir(PROJECT)
    assert in_words(record.picture(record.play())) == in_words(
        record.PICTURE.read_text()
    )


def in_words(svg):
    """Returns a picture as text, without the numbers that differ from run to run: ids of
    processes and terminals, and the widths that depend on how many digits they have."""
    return re.sub(r" +", " ", re.sub(r"\d+(\.\d+)?", "N", svg))
