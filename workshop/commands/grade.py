"""`workshop grade [--upto N]`: grades a runtime that someone else has written, which it reads
from standard input. It prints the grade as a line of JSON:

    {"sha256", "steps": {"00": [facts that hold, facts]}, "passed": ["00", ...], "wrong": text}

It checks step after step until one does not hold. `wrong` is the first fact that does not hold
and what happened, or why nothing could be checked. The runtime may be hostile, so run this where
nothing can be lost: `./lab grade` gives each runtime its own VM, with a limit on its time. The
exit status is 0, whatever the grade is.
"""

import json
import sys

from workshop.command_line import Parser
from workshop.grades import LARGEST, grade
from workshop.project import STEPS, STORY, find_step


def main(arguments: list[str]) -> int:
    """Prints the grade. Returns the exit status."""
    parser = Parser(prog="workshop grade")
    text = "the last step to check"
    parser.add_argument("--upto", default=STORY[-1].number, metavar="N", help=text)
    last = find_step(parser.parse_args(arguments).upto)
    steps = STEPS[: STEPS.index(last) + 1]
    found = grade(sys.stdin.buffer.read(LARGEST + 1), steps)
    print(json.dumps(found.as_json()), flush=True)
    return 0
