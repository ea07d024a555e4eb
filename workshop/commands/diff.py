"""`workshop diff [N]`: shows what step N changes in the runtime of the step before it."""

from workshop.command_line import Parser
from workshop.diffs import Diff
from workshop.terminal import console
from workshop.workspace import Workspace


def main(arguments: list[str]) -> int:
    """Prints the diff. Returns the exit status."""
    _, step = Parser(prog="workshop diff").parse_step(arguments, Workspace.current())
    console().print(Diff.of_step(step))
    return 0
