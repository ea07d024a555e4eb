"""`workshop doctor`: says which steps this kernel can run, and what the other steps lack."""

import os
import platform

from rich.table import Table
from rich.text import Text

from workshop.command_line import FAILED, Parser
from workshop.errors import Failure
from workshop.project import STEPS
from workshop.requirements import requirements
from workshop.terminal import console, printable


def main(arguments: list[str]) -> int:
    """Prints a table. Returns the exit status, FAILED if a step cannot run."""
    Parser(prog="workshop doctor").parse_args(arguments)
    if os.geteuid() != 0:
        raise Failure(
            "doctor tries out what containers need, and that needs root: "
            "type sudo workshop doctor"
        )
    grid = Table(title=f"Linux {platform.release()}, {platform.machine()}")
    for column in ["step", "needs", "here"]:
        grid.add_column(column)
    failed = None
    for requirement in requirements():
        if requirement.whole and failed:
            continue
        problem = requirement.problem()
        mark = Text(printable(problem), "red") if problem else Text("ok", "green")
        grid.add_row(requirement.step, Text(requirement.name), mark)
        if problem:
            failed = failed or requirement.step
    console().print(grid)
    if not failed:
        print("All steps can run here.")
        return 0
    # A step does what all steps before it do.
    bad = [step.name for step in STEPS if failed == "all" or step.name >= failed]
    print(f"These steps cannot run here, or only in part: {', '.join(bad)}.")
    others = "The other steps work here. " if len(bad) < len(STEPS) else ""
    print(f"{others}All of them work in the lab's VM: ./lab up")
    return FAILED
