"""`workshop watch [N]`: checks again whenever my/container.py is saved.

Enter checks now; q, or Ctrl-C, ends it. It looks at the file four times a second: who
watches a folder that is shared with another machine is told of nothing by inotify(7).
"""

import contextlib
import select
import sys
import time

from workshop import learner
from workshop.commands import check
from workshop.commands.attempt import step_of
from workshop.errors import Failure
from workshop.terminal import console, keys_one_by_one, printable

PAUSE = 0.25  # seconds


def main(arguments):
    """Returns the exit status, 0, when it is told to end."""
    options, room = step_of("watch", arguments)
    out = console()
    with keys_one_by_one(), contextlib.suppress(KeyboardInterrupt):
        seen = None
        while True:
            seen = content()
            number = room.name[:2]
            if not options.number:  # it moves on when a step has passed
                number = learner.next_step(learner.load())
            out.rule(f"step {number}, {time.strftime('%H:%M:%S')}")
            try:
                check.check(number)
            except Failure as error:  # in a moment it may be mended
                out.print(printable(f"workshop: {error}"), style="red", markup=False)
            out.print(
                f"Watching {learner.shown()}: save it, or Enter, to check; q to end.",
                style="dim",
            )
            if not wait(seen):
                break
    return 0


def content():
    """The bytes of the learner's runtime, None if there is none at the moment."""
    try:
        return learner.CONTAINER.read_bytes()
    except OSError:
        return None


def wait(seen):
    """Wait until the file has another content, which stays, or Enter. Returns False for q."""
    keys = [sys.stdin] if sys.stdin else []
    while True:
        if select.select(keys, [], [], PAUSE)[0]:
            key = sys.stdin.read(1)
            if key in ("q", "Q", "\x04"):
                return False
            if key in ("\n", "\r"):
                return True
            if not key:  # nobody is there to type
                keys = []
        now = content()
        if now != seen and now:
            time.sleep(PAUSE / 2)  # an editor may still be writing
            if content() == now:
                return True
