"""`workshop reset`: goes back to the version of the learner's runtime that passed their last
step. If no step has passed yet, it goes back to the runtime of step 00."""

from workshop import progress, snapshots
from workshop.command_line import Parser
from workshop.project import STEPS
from workshop.workspace import Workspace


def main(arguments: list[str]) -> int:
    """Replaces the learner's runtime. Returns the exit status."""
    Parser(prog="workshop reset").parse_args(arguments)
    workspace = Workspace.current()
    number = progress.load(workspace).last_passed()
    passed = progress.passed_source(workspace, number)
    if passed.exists():
        data, which = passed.read_bytes(), f"the version that passed step {number}"
    else:
        data, which = STEPS[0].container.read_bytes(), "the runtime of step 00"
    snapshots.replace(workspace, data)
    print(f"{workspace.name} is {which} again. `workshop undo` takes that back.")
    return 0
