"""`workshop WORD`: hands over to the module that knows the word."""

import sys

from workshop import welcome

WORDS = {"welcome": welcome.main}


def main(arguments):
    word = arguments[0] if arguments else "welcome"
    if word not in WORDS:
        print(f"workshop: no such word: {word}", file=sys.stderr)
        print(f"  It knows: {', '.join(WORDS)}.", file=sys.stderr)
        return 2
    return WORDS[word](arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
