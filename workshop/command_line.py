"""What the command lines of all subcommands have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn

from workshop import output, progress
from workshop.errors import Failure
from workshop.project import Step, find_step
from workshop.subcommands import SUBCOMMANDS
from workshop.terminal import printable
from workshop.workspace import Workspace

FAILED, MISUSED = 1, 2  # exit statuses
INTERRUPTED = 130  # 128 + SIGINT


class Parser(argparse.ArgumentParser):
    """argparse's parser, except that each error is one line.

    prog: what is being parsed, such as "workshop check". Its first subcommand describes it.
    """

    def __init__(self, prog: str) -> None:
        _, name, *_ = [*prog.split(), "progress"]
        does = SUBCOMMANDS[name]
        super().__init__(prog=prog, description=f"{does[0].upper()}{does[1:]}.")

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong with the command line, and exits with MISUSED."""
        usage = " ".join(self.format_usage().split())
        output.complain(f"{self.prog}: {printable(message)}; {usage}")
        self.exit(MISUSED)

    def parse_step(
        self, arguments: list[str], workspace: Workspace
    ) -> tuple[argparse.Namespace, Step]:
        """Parses a command line with an optional number of a step. Returns the options and
        the step: without a number, the learner's next one."""
        self.add_argument(
            "number",
            nargs="?",
            metavar="N",
            help="a step, such as 3 (default: your next one)",
        )
        options = self.parse_args(arguments)
        if not options.number:
            return options, progress.load(workspace).next_step()
        try:
            return options, find_step(options.number)
        except Failure as error:
            self.error(str(error))


def call(function: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Runs a subcommand. Returns its exit status. An error becomes one line on stderr, and
    the status FAILED."""
    try:
        return function(arguments)
    except Failure as error:
        line = str(error)
    except BrokenPipeError:  # the reader, such as head, has read enough
        output.flush()
        return FAILED
    except OSError as error:
        if lost := output.flush():  # so this is the error that a print has raised
            line = output.unwritten(lost)
        else:
            parts = (error.filename, error.strerror or error)
            line = ": ".join(str(part) for part in parts if part)
    except KeyboardInterrupt:
        return INTERRUPTED
    output.complain(f"workshop: {printable(line)}")
    return FAILED
