"""`workshop SUBCOMMAND`: runs a subcommand; without one, it prints the learner's progress."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from workshop import __version__, output
from workshop.subcommands import SUBCOMMANDS


def main(arguments: list[str]) -> int:
    """Runs a subcommand. Returns its exit status, or 2 if there is no such subcommand."""
    name = arguments[0] if arguments else "progress"
    if name in ("-h", "--help"):
        print(help_text())
        return 0
    if name == "--version":
        print(f"workshop {__version__}")
        return 0
    if name not in SUBCOMMANDS:
        output.complain(f"workshop: {unknown(name)}")
        return 2
    from workshop.command_line import call

    word = "class_" if name == "class" else name  # `class` is a keyword
    module = importlib.import_module(f"workshop.commands.{word}")
    function: Callable[[list[str]], int] = module.main
    status = call(function, arguments[1:])
    if status == 0 and (log := os.environ.get("LAB_COMMANDS")):
        with open(log, "a") as file:  # tests/documented.py compares it with the docs
            print("workshop", *arguments, file=file)
    return status


def help_text() -> str:
    lines = ["usage: workshop [SUBCOMMAND] [ARGUMENT...]", ""]
    lines += [f"  {name:9} {text}" for name, text in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", "`workshop SUBCOMMAND --help` says more."])


def unknown(name: str) -> str:
    """Returns a line about a subcommand that does not exist."""
    from workshop.terminal import printable

    similar = difflib.get_close_matches(name, SUBCOMMANDS, 1)
    text = (
        f"Did you mean {similar[0]!r}?" if similar else "`workshop --help` lists them."
    )
    return f"unknown subcommand {printable(name)!r}. {text}"


def run() -> NoReturn:
    """Runs the subcommand on the command line, and exits with its status, or with 1 if its
    output cannot be written."""
    output.prepare()
    lost = None
    try:
        status = main(sys.argv[1:])
    except SystemExit as end:  # of argparse, after --help or an error
        status = end.code if isinstance(end.code, int) else 0
    except OSError as error:  # from printing the help or the version
        status, lost = 1, error
    if lost := output.flush() or lost:
        if not isinstance(lost, BrokenPipeError):
            output.complain(f"workshop: {output.unwritten(lost)}")
        status = status or 1
    sys.exit(status)


if __name__ == "__main__":
    run()
