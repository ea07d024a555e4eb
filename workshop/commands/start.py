"""`workshop start`: creates my/container.py from step 00. It never overwrites one."""

from workshop import snapshots
from workshop.command_line import Parser
from workshop.project import STEPS
from workshop.workspace import Workspace


def main(arguments: list[str]) -> int:
    """Creates the learner's runtime unless it exists. Returns the exit status."""
    Parser(prog="workshop start").parse_args(arguments)
    workspace = Workspace.current()
    name = workspace.name
    if workspace.container.exists():
        print(f"{name} already exists, and was not changed.")
    else:
        snapshots.replace(workspace, STEPS[0].container.read_bytes())
        print(f"Created {name} from step 00. It runs a program, and isolates nothing.")
    print("Open it in an editor. `workshop` says what to do next.")
    return 0
