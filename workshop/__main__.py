"""`workshop WORD`: hands over to the function that knows the word; without a word, progress."""

import importlib
import os
import sys

from workshop import __version__

# word: the module whose main() it is, or module.function. Loaded when asked for: each command
# starts fast.
WORDS = {
    "progress": "progress",
    "start": "attempt.start",
    "check": "check",
    "watch": "watch",
    "hint": "attempt.hint",
    "diff": "attempt.diff",
    "solve": "attempt.solve",
    "reset": "attempt.reset",
    "undo": "attempt.undo",
    "breakout": "breakout",
    "report": "report",
    "class": "classroom",
    "demo": "demo",
    "slides": "slides",
    "grade": "grade",
    "welcome": "welcome",
    "image": "image",
    "commit": "commit",
    "clean": "clean",
    "doctor": "doctor",
    "inspect": "inspect",
}


def main(arguments):
    word = arguments[0] if arguments else "progress"
    if word in ("-h", "--help"):
        print(f"usage: workshop [WORD ...]; words: {', '.join(WORDS)}")
        return 0
    if word == "--version":
        print(f"workshop {__version__}")
        return 0
    if word not in WORDS:
        print(f"workshop: no such word: {word}", file=sys.stderr)
        print(f"  It knows: {', '.join(WORDS)}.", file=sys.stderr)
        return 2
    from workshop.command import call

    name, _, function = WORDS[word].partition(".")
    module = importlib.import_module(f"workshop.{name}")
    status = call(getattr(module, function or "main"), arguments[1:])
    if status == 0 and (log := os.environ.get("LAB_COMMANDS")):
        with open(log, "a") as file:  # for tests/documented.py: what was really run
            print("workshop", *arguments, file=file)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
