"""`workshop solve [N] [--write]`: shows the difference between the learner's runtime and the
reference. With --write the reference replaces the learner's runtime.

Before step N has passed, a learner must ask twice.
"""

from workshop import progress, snapshots
from workshop.command_line import FAILED, Parser
from workshop.diffs import Diff
from workshop.errors import Failure
from workshop.project import Step
from workshop.terminal import console
from workshop.workspace import Workspace, shown


def main(arguments: list[str]) -> int:
    """Shows the solution, or writes it. Returns the exit status, FAILED the first time."""
    workspace = Workspace.current()
    parser = Parser(prog="workshop solve")
    text = "replace your file with the reference"
    parser.add_argument("--write", action="store_true", help=text)
    options, step = parser.parse_step(arguments, workspace)
    number = int(step.number)
    if not may_see(workspace, step):
        print(f"Step {step.number} has not passed yet. Try `workshop hint {number}`.")
        print(f"To see the solution anyway, type `workshop solve {number}` again.")
        return FAILED
    reference = step.container.read_bytes()
    try:
        own = workspace.source()
    except Failure:
        own = b""
    name = workspace.name
    if own == reference:
        print(f"{name} is identical to the reference for step {step.number}.")
        return 0
    old, new = own.decode(errors="replace"), reference.decode()
    console().print(Diff(old, new, name, shown(step.container)))
    print()
    if options.write:
        snapshots.replace(workspace, reference)
        print(f"{name} is the reference now. `workshop undo` brings yours back.")
    else:
        print(f"`workshop solve {number} --write` replaces {name} with the reference.")
        print("A snapshot of yours is kept, and `workshop undo` brings it back.")
    return 0


def may_see(workspace: Workspace, step: Step) -> bool:
    """Returns whether the step has passed, or the learner has asked before. Saves that
    they have asked now."""
    with progress.changing(workspace) as changed:
        if step.number in changed.passed or step.number in changed.asked:
            return True
        changed.asked.append(step.number)
        return False
