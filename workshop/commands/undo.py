"""`workshop undo [--redo]`: goes back to the previous snapshot of the learner's runtime. With
--redo it goes forward again."""

import datetime

from workshop import progress, snapshots
from workshop.command_line import Parser
from workshop.errors import Failure
from workshop.workspace import Workspace, make_folder, write


def main(arguments: list[str]) -> int:
    """Replaces the learner's runtime with a snapshot. Returns the exit status."""
    parser = Parser(prog="workshop undo")
    parser.add_argument("--redo", action="store_true", help="go forward, not back")
    forward = parser.parse_args(arguments).redo
    workspace = Workspace.current()
    with progress.changing(workspace) as changed:
        existing, at = snapshots.position(workspace, changed)
        to = at + 1 if forward else at - 1
        if not 0 <= to < len(existing):
            which = "newest" if forward else "oldest"
            raise Failure(f"this is the {which} snapshot")
        data, taken = existing[to].read_bytes(), existing[to].stat().st_mtime
        make_folder(workspace.folder)
        write(workspace.container, data, 0o755)
        changed.at = existing[to].name
    when = datetime.datetime.fromtimestamp(taken)
    print(
        f"{workspace.name} is as it was at {when:%H:%M:%S} on {when:%-d %B} "
        f"(snapshot {to + 1} of {len(existing)})."
    )
    if not forward:
        print(
            "`workshop undo` goes further back, `workshop undo --redo` forward again."
        )
    return 0
