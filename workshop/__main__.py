"""`workshop WORD`: hands over to the module that knows the word."""

import importlib
import sys

# word: the module whose main() it is. Loaded when asked for: each command starts fast.
WORDS = {
    "welcome": "welcome",
    "image": "image",
    "commit": "commit",
    "clean": "clean",
    "doctor": "doctor",
    "check": "check",
}


def main(arguments):
    word = arguments[0] if arguments else "welcome"
    if word not in WORDS:
        print(f"workshop: no such word: {word}", file=sys.stderr)
        print(f"  It knows: {', '.join(WORDS)}.", file=sys.stderr)
        return 2
    from workshop.command import call

    module = importlib.import_module(f"workshop.{WORDS[word]}")
    return call(module.main, arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
