"""`workshop watch [N]`: checks again whenever my/container.py is saved.

Enter checks at once; q or Ctrl-C ends it. It looks at the file four times a second, because
inotify(7) does not see changes on the other side of a directory that is shared with another
machine.
"""

import contextlib
import sys
import time

from workshop import progress
from workshop.checks import check
from workshop.command_line import Parser
from workshop.errors import Failure
from workshop.terminal import QUIT, console, keys_one_by_one, next_key, printable
from workshop.workspace import Workspace

PAUSE = 0.25  # seconds


def main(arguments: list[str]) -> int:
    """Checks until the learner ends it. Returns the exit status, 0."""
    workspace, out = Workspace.current(), console()
    options, step = Parser(prog="workshop watch").parse_step(arguments, workspace)
    with keys_one_by_one(), contextlib.suppress(KeyboardInterrupt):
        while True:
            checked = contents(workspace)
            if not options.number:  # go on to the next step after one has passed
                step = progress.load(workspace).next_step()
            out.rule(f"step {step.number}, {time.strftime('%H:%M:%S')}")
            try:
                check(workspace, step)
            except Failure as error:  # the learner may fix it in a moment
                out.print(printable(f"workshop: {error}"), style="red", markup=False)
            text = f"Watching {workspace.name}. To check, save it or press Enter; q to end."
            out.print(text, style="dim")
            if not wait(workspace, checked):
                return 0
    return 0


def contents(workspace: Workspace) -> bytes | None:
    """Returns the learner's runtime, or None if there is none at the moment."""
    try:
        return workspace.container.read_bytes()
    except OSError:
        return None


def wait(workspace: Workspace, checked: bytes | None) -> bool:
    """Waits until the runtime has new contents that stay, or the learner presses Enter.
    Returns False if they press q. `checked`: the old contents."""
    key = None if sys.stdin else ""
    while True:
        if key == "":  # the end of the input
            time.sleep(PAUSE)
        elif (key := next_key(PAUSE)) in QUIT - {""}:
            return False
        elif key in ("\n", "\r"):
            return True
        now = contents(workspace)
        if now and now != checked:
            time.sleep(PAUSE / 2)  # an editor may still be writing
            if contents(workspace) == now:
                return True
