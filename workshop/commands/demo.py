"""`workshop demo [--minutes 20|45|90] [N...]`: plays the live part of a talk.

It types every command as if by hand, and runs it for real when the speaker presses a key. No
scene needs one before it, and each fits a screen of 90 columns and 24 lines: make the type
large. What it plays is in the metadata of the notebooks' cells: see workshop/scenes.py.

Keys: Enter, Space and Page Down go on; b and Page Up go back to the start of a scene; s skips
a command; r repeats the last one; j jumps to a scene; q quits.
"""

import os
import sys

from workshop import speaker_notes, talk
from workshop.command_line import FAILED, INTERRUPTED, MISUSED, Parser
from workshop.project import PROJECT
from workshop.scenes import CUTS, outline, scenes
from workshop.terminal import keys_one_by_one


def main(arguments: list[str]) -> int:
    """Plays the talk, or shows the notes or the outline. Returns the exit status: FAILED if
    the talk has played by itself and an output was wrong, INTERRUPTED after q."""
    parser = Parser(prog="workshop demo")
    text = "how long the talk is: 20 (the default), 45 or 90"
    parser.add_argument("--minutes", choices=CUTS, default="20", help=text)
    text = "show what to say, and the time; for a second screen"
    parser.add_argument("--notes", action="store_true", help=text)
    text = "print the scenes and when each begins, as Markdown"
    parser.add_argument("--outline", action="store_true", help=text)
    text = "play to the end without keys, and report every wrong output"
    parser.add_argument("--auto", action="store_true", help=text)
    text = "a lesson; all of them unless there are numbers"
    parser.add_argument("lessons", nargs="*", metavar="N", help=text)
    options = parser.parse_args(arguments)
    parts = scenes(options.minutes, options.lessons)
    if options.notes:
        speaker_notes.show()
        return 0
    if options.outline:
        print(outline(parts, options.minutes))
        return 0
    if not (options.auto or sys.stdin.isatty()):
        print("workshop demo: it needs a terminal, or --auto", file=sys.stderr)
        return MISUSED
    return play(talk.Talk(parts, options.auto))


def play(played: talk.Talk) -> int:
    """Plays a talk in this terminal, and reports the outputs that were wrong. Returns the
    exit status."""
    os.chdir(PROJECT)
    try:
        with keys_one_by_one():
            played.play()
    except talk.Quit:
        return INTERRUPTED
    finally:
        talk.SAVED.unlink(missing_ok=True)
    for mismatch in played.mismatches:
        command = mismatch.command
        print(f"workshop demo: {command.line}")
        print(
            f"  should print {command.pattern!r}, but printed: {mismatch.output[-300:]}"
        )
    return FAILED if played.auto and played.mismatches else 0
