"""The learner's own runtime, my/container.py, and what the guide remembers beside it, in
my/.workshop: progress, and a snapshot of every state that was checked or replaced.

my/ may be a folder that is shared with the learner's machine, which has no locks, no links
and perhaps no owners. So the lock is elsewhere, and a file is replaced as a whole.
"""

import contextlib
import datetime
import fcntl
import json
import os
import sys
from pathlib import Path

from workshop.command import Failure

PROJECT = Path(__file__).resolve().parent.parent
MY = Path(os.environ.get("WORKSHOP_MY") or PROJECT / "my").absolute()
CONTAINER = MY / "container.py"
STATE = MY / ".workshop"
PROGRESS = STATE / "progress.json"
LOCK = Path("/run/workshop-guide.lock")
STEPS = sorted(path.parent.name for path in PROJECT.glob("steps/[0-9]*/container.py"))

# passed: {step's number, two digits: {"when", "facts", "before"}}; hints: {number: how many
# were shown}; asked: numbers of steps whose solution was asked for before they passed; at:
# the snapshot that undo has gone back to; name: whose the certificate is.
EMPTY = {"version": 1, "passed": {}, "hints": {}, "asked": [], "at": None, "name": None}


def shown(path=None):
    """How a path below my/ is called in what the guide says."""
    path = CONTAINER if path is None else path
    with contextlib.suppress(ValueError):
        return str(path.relative_to(PROJECT))
    return str(path)


def room(number):
    """A step's room, given its number as it is typed. Failure: there is none."""
    for name in STEPS:
        if number.isascii() and number.isdigit() and number.zfill(2) == name[:2]:
            return PROJECT / "steps" / name
    raise Failure(f"there is no step {number}: they are 0 to {len(STEPS) - 1}")


def lessons(numbers=()):
    """The notebooks of the lessons with these numbers, as they are typed, or of all of them, in
    order. Failure: there is none of a number."""
    chosen = {room(number).name[:2] for number in numbers}
    found = sorted(PROJECT.glob("notebooks/[0-9]*.ipynb"))
    return [path for path in found if not chosen or path.name[:2] in chosen]


def source():
    """The bytes of the learner's runtime. Failure: there is none."""
    try:
        return CONTAINER.read_bytes()
    except FileNotFoundError:
        raise Failure(f"there is no {shown()} yet: `workshop start` makes it") from None


def write(path, data, mode=0o644):
    """Replace a file as a whole; it belongs to whom its folder belongs to."""
    path = path.resolve()  # what a link of the learner's leads to, and not the link
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(data)
        adopt(new, mode)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def adopt(path, mode):
    """Give a file that root has made to the owner of its folder, where there are owners."""
    with contextlib.suppress(OSError):
        path.chmod(mode)
        above = path.parent.stat()
        os.chown(path, above.st_uid, above.st_gid)


def make_folder(path):
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        adopt(path, 0o755)


# ---- progress


def load():
    """What is remembered. What cannot be read is set aside, which is told."""
    try:
        data = PROGRESS.read_bytes()
    except FileNotFoundError:
        return json.loads(json.dumps(EMPTY))
    try:
        progress = json.loads(data)
        progress = {key: progress.get(key) for key in EMPTY}
        check_progress(progress)
        return progress
    except (ValueError, KeyError, TypeError, AttributeError):
        aside = unused("progress-unreadable", ".json")
        PROGRESS.rename(aside)
        print(
            f"workshop: {shown(PROGRESS)} cannot be read: it is {aside.name} now, and "
            "the progress begins anew",
            file=sys.stderr,
        )
        return json.loads(json.dumps(EMPTY))


def check_progress(progress):
    """ValueError, KeyError, TypeError or AttributeError unless this is what EMPTY tells of."""
    if progress["version"] != EMPTY["version"]:
        raise ValueError(progress["version"])
    steps = [*progress["passed"], *progress["hints"], *progress["asked"]]
    if not {name[:2] for name in STEPS}.issuperset(steps):
        raise ValueError(steps)
    for passed in progress["passed"].values():
        datetime.datetime.fromisoformat(passed["when"])
    counts = [passed["facts"] for passed in progress["passed"].values()]
    for count in [*counts, *progress["hints"].values()]:
        if not isinstance(count, int) or count < 0:
            raise TypeError(count)
    if not isinstance(progress["asked"], list):
        raise TypeError(progress["asked"])
    if not all(isinstance(progress[key], str | None) for key in ("at", "name")):
        raise TypeError(progress)


@contextlib.contextmanager
def remembering():
    """The progress, to be changed in the block; nobody else changes it meanwhile."""
    make_folder(STATE)
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        progress = load()
        yield progress
        write(PROGRESS, json.dumps(progress, indent=1).encode() + b"\n")


def next_step(progress):
    """The number of the first step that has not passed; the last one's if all have."""
    numbers = [name[:2] for name in STEPS]
    return next((n for n in numbers if n not in progress["passed"]), numbers[-1])


def now():
    """The time, as text: ISO 8601, with its zone."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def record(number, facts, data):
    """Remember that a step has passed, with data for a runtime. facts: {number: how many},
    of this step and of those before, which have passed as well."""
    with remembering() as progress:
        for step, count in facts.items():
            if step == number or step not in progress["passed"]:
                progress["passed"][step] = {"when": now(), "facts": count}
        write(STATE / f"passed-{number}.py", data)


# ---- snapshots


def snapshots():
    """The snapshots, the oldest first."""
    return sorted(STATE.glob("snapshots/[0-9]*.py"))


def keep():
    """Make a snapshot of the learner's runtime unless it is what the newest one has. Returns
    its path, None if there is no runtime."""
    try:
        data = CONTAINER.read_bytes()
    except FileNotFoundError:
        return None
    have = snapshots()
    if have and have[-1].read_bytes() == data:
        return have[-1]
    make_folder(STATE / "snapshots")
    number = int(have[-1].stem) + 1 if have else 1
    path = STATE / "snapshots" / f"{number:04}.py"
    while True:
        try:
            path.touch(exist_ok=False)
            break
        except FileExistsError:  # somebody else keeps one, too
            number += 1
            path = path.with_name(f"{number:04}.py")
    write(path, data)
    return path


def where_undo_is(progress):
    """(The names of all snapshots, the oldest first; the index of the one that the learner's
    runtime is at). What is in no snapshot becomes one."""
    try:
        data = CONTAINER.read_bytes()
    except FileNotFoundError:
        data = None
    at = STATE / "snapshots" / str(progress["at"])
    if data is None:
        names = [path.name for path in snapshots()]
        return names, len(names)
    if not (at.exists() and at.read_bytes() == data):
        at = keep()
    names = [path.name for path in snapshots()]
    return names, names.index(at.name)


def tried(progress):
    """Whether the learner has changed the runtime since a step passed."""
    number = max(progress["passed"], default=None)
    passed = STATE / f"passed-{number}.py"
    before = passed if number and passed.exists() else room("0") / "container.py"
    return before.read_bytes() != CONTAINER.read_bytes()


def replace(data):
    """Put something else in the place of the learner's runtime, of which a snapshot is kept."""
    keep()
    make_folder(MY)
    write(CONTAINER, data, 0o755)
    keep()


def unused(name, suffix):
    """A path in my/.workshop that nothing has."""
    number, path = 1, STATE / f"{name}{suffix}"
    while path.exists():
        number += 1
        path = path.with_name(f"{name}-{number}{suffix}")
    return path
