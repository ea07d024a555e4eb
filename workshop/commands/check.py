"""`workshop check [N] [--only TEXT] [--alone]`: checks the learner's runtime against step N.

It checks the facts of step N first, and if they hold, those of all steps before. Each fact is
checked in a sandbox. Exit status: 0 if all hold, 1 if not, 2 for wrong usage.
"""

import sys

from workshop.checks import NoFacts, check
from workshop.command_line import FAILED, MISUSED, Parser
from workshop.terminal import printable
from workshop.workspace import Workspace


def main(arguments: list[str]) -> int:
    """Checks the runtime, and prints what it finds. Returns the exit status."""
    workspace, parser = Workspace.current(), Parser(prog="workshop check")
    text = "leave out the steps before"
    parser.add_argument("--alone", action="store_true", help=text)
    text = "check only facts with this in their name"
    parser.add_argument("--only", metavar="TEXT", help=text)
    options, step = parser.parse_step(arguments, workspace)
    try:
        return 0 if check(workspace, step, options.only, options.alone) else FAILED
    except NoFacts as error:
        print(f"workshop: {printable(str(error))}", file=sys.stderr)
        return MISUSED
