"""Reads a command line by a usage line such as "run [--name VALUE] IMAGE COMMAND...".

The word after an option says which values the option takes: "a|b" one of these words, SIZE a
number of bytes such as 64M, COUNT a whole number, CPUS a number such as 0.5, and any other
word any text. CAPABILITY,... takes one or more capabilities, as podman-run(1) does.
"""

import os
import sys

import linux
from errors import OWN_ERROR


CAPABILITIES = "CAPABILITY,..."


class Arguments:
    """A parsed command line, with one attribute for each word of the usage line."""


def parse(words: list[str], usage: str) -> Arguments:
    """Returns the words of a command line as attributes, named as in the usage line but in
    lower case, with _ in place of -: None for an option that was not given, a list for
    "COMMAND...", and for "CAPABILITY,..." a set of names such as "NET_RAW", or "ALL".
    SystemExit: the words do not fit the usage line, or they ask for help."""
    options, (verb, *positional) = _split(usage)
    help_text = f"usage: {os.path.basename(sys.argv[0])} {usage}"
    if not words or words[0] in ("-h", "--help"):
        print(help_text, file=sys.stdout if words else sys.stderr)
        sys.exit(0 if words else OWN_ERROR)
    if words[0] != verb:
        sys.exit(f"unknown subcommand {words[0]!r}; {help_text}")
    args, words = Arguments(), words[1:]
    for option, kind in options.items():
        setattr(args, _attribute(option), set() if kind == CAPABILITIES else None)
    while words and words[0].startswith("-"):
        option, equals, value = words.pop(0).partition("=")
        if option == "--":
            break
        if option in ("-h", "--help"):
            print(help_text)
            sys.exit(0)
        if option not in options:
            sys.exit(f"unknown option {option}; {help_text}")
        if not equals and not words:
            sys.exit(f"{option} needs a value: {options[option]}; {help_text}")
        value = value if equals else words.pop(0)
        _check(option, options[option], value)
        if options[option] == CAPABILITIES:  # it can be given several times
            getattr(args, _attribute(option)).update(_capabilities(value))
        else:
            setattr(args, _attribute(option), value)
    for word in positional:
        is_optional, word = word.startswith("["), word.strip("[]")
        if not words and not is_optional:
            sys.exit(f"{word.rstrip('.')} is missing; {help_text}")
        if word.endswith("..."):
            setattr(args, word[:-3].lower(), words)
        else:
            setattr(args, word.lower(), words.pop(0))
    return args


def _split(usage: str) -> tuple[dict[str, str], list[str]]:
    """Returns the options of a usage line, each with the kind of its value, and its other
    words, with the brackets around those that need not be there."""
    options, others = {}, []
    words = iter(usage.split())
    for word in words:
        if word.startswith("[--"):
            options[word[1:]] = next(words).removesuffix("]")
        else:
            others.append(word)
    return options, others


def _attribute(option: str) -> str:
    return option[2:].replace("-", "_")


def _capabilities(value: str) -> list[str]:
    """Returns the names of capabilities, in capital letters and without CAP_."""
    return [word.upper().removeprefix("CAP_") for word in value.split(",")]


def _check(option: str, kind: str, value: str) -> None:
    """Raises SystemExit unless value is of this kind and the machine has that much."""
    if "|" in kind and value not in kind.split("|"):
        sys.exit(f"{option} must be {' or '.join(kind.split('|'))}, not {value!r}")
    if kind == CAPABILITIES:
        for name, word in zip(_capabilities(value), value.split(","), strict=True):
            if name not in (*linux.CAP, "ALL"):
                sys.exit(f"{option}: there is no capability {word!r}: capabilities(7)")
    if kind == "SIZE":
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        digits, factor = value, 1
        if value[-1:].upper() in ("K", "M", "G"):
            digits, factor = value[:-1], 1024 ** (" KMG".index(value[-1].upper()))
        if not _is_positive(digits):
            sys.exit(
                f"{option} must be a number of bytes such as 64M or 1G, not {value!r}"
            )
        if float(digits) * factor > machine:
            sys.exit(
                f"{option} {value} is more than this machine has: {machine >> 20}M"
            )
    if kind == "COUNT":
        with open("/proc/sys/kernel/pid_max") as file:
            machine = int(file.read())
        if not _is_positive(value):
            sys.exit(f"{option} must be a whole number above 0, not {value!r}")
        if float(value) > machine:
            sys.exit(f"{option} {value} is more than this machine has: {machine}")
    if kind == "CPUS":
        machine = os.cpu_count() or 1
        try:
            number = float(value)
        except ValueError:
            number = 0
        if not number >= 0.01:  # "nan" is a float as well
            sys.exit(f"{option} must be at least 0.01, such as 0.5, not {value!r}")
        if number > machine:
            sys.exit(f"{option} {value} is more than this machine has: {machine}")


def _is_positive(word: str) -> bool:
    """Returns whether a word is a whole number above 0. int() refuses thousands of digits,
    but float() does not."""
    return word.isascii() and word.isdigit() and float(word) > 0
