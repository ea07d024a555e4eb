#!/usr/bin/env python3
"""Submissions of all kinds, graded: the steps themselves, broken ones, and hostile ones. Run on
the host.

    tests/lab/grade.py [--all] [--jobs J] [--folder DIR]

Forty of them, up to step 7, with --all or where VMs have hardware virtualization; under
emulation that takes two hours of a processor, so without --all there are a few, up to step 1.
Each has to get the mark that it deserves, whatever the others do.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab")
sys.path.append(str(PROJECT / "tests"))
from mutants import MUTANTS

ROOMS = sorted(path.parent for path in PROJECT.glob("steps/[0-9]*/container.py"))
LIMIT = 3 * 3600  # seconds for all
# What a hostile one does before anything else, as root.
HOSTILE = {
    "hangs": "while True: pass",
    "forks": "while True: os.fork()",
    "eats-memory": "x = [bytearray(1 << 20) for _ in range(1 << 20)]",
    "fills-disk": """
for n in range(1 << 20):
    for place in "/var/tmp", "/tmp", "/var/lib/workshop", "/run", "/dev/shm":
        try: open(f"{place}/{n}", "wb").write(bytes(1 << 20))
        except OSError: pass
""",
    "kills-all": "import signal; os.kill(-1, signal.SIGKILL)",
    "writes-disk": """
with open("/dev/vda", "wb", buffering=0) as disk:
    while True: disk.write(os.urandom(1 << 20))
""",
    "halts": 'open("/proc/sysrq-trigger", "w").write("o")',
    "panics": 'open("/proc/sysrq-trigger", "w").write("c")',
    "mounts": """
import linux
for target in "/proc", "/sys", "/tmp", "/usr", "/":
    try: linux.mount("none", target, "tmpfs")
    except OSError: pass
""",
    "prints": 'while True: print("x" * 4096)',
    "removes": 'import shutil; shutil.rmtree("/", ignore_errors=True)',
}


def variant(room, old="", new=""):
    source = (room / "container.py").read_text()
    assert old in source, (room, old)
    return source.replace(old, new, 1) if old else source


def suite_of(fact):
    """The number of the step whose suite has a fact; None: it is in another suite."""
    for path in PROJECT.glob("tests/test_0*.py"):
        if f"def {fact}(" in path.read_text():
            return int(path.name[5:7])
    return None


def hostile(harm):
    """Step 01 that does harm when it is started."""
    before = "\nUSAGE = "
    return variant(ROOMS[1], before, f"\n{harm}\n{before}")


def everything():
    """{name: (source, steps that it passes; None: whatever)}: forty of them."""
    found = {}
    for number, room in enumerate(ROOMS):
        found[f"right-{room.name}"] = variant(room), number + 1
    for number, (step, old, new, fact) in enumerate(MUTANTS[::3][:21]):
        room = PROJECT / "steps" / step
        found[f"broken-{number:02}-{fact}"] = variant(room, old, new), suite_of(fact)
    for name, harm in HOSTILE.items():
        found[f"hostile-{name}"] = hostile(harm), None
    return found


def a_few():
    """Of each kind, for step 1."""
    step, old, new, fact = MUTANTS[1]
    return {
        "right": (variant(ROOMS[2]), 2),
        f"broken-{fact}": (variant(ROOMS[1], old, new), 1),
        "no-python": ("#!/usr/bin/python3\nthis is no Python\n", 0),
        "hostile-hangs": (hostile(HOSTILE["hangs"]), 0),
        "hostile-halts": (hostile(HOSTILE["halts"]), 0),
    }


def is_virtualized():
    """Whether ./lab has found, when it last started a VM, that KVM works here."""
    found = STATE / "accel"
    return found.exists() and found.read_text().split()[1:2] == ["kvm"]


def machines():
    """The folders of all VMs of this lab that are made to be thrown away."""
    return {path.name for path in STATE.glob("test.*") if any(path.glob("*"))}


def main():
    parser = argparse.ArgumentParser(description="Submissions of all kinds, graded.")
    parser.add_argument("--all", action="store_true", help="forty, up to step 7")
    parser.add_argument("--jobs", default="2", help="machines at the same time")
    parser.add_argument("--folder", type=pathlib.Path, help="where the marks are kept")
    options = parser.parse_args()
    chosen, upto = a_few(), "1"
    if options.all or is_virtualized():
        chosen, upto = everything(), "7"
    begin, wrong, before = time.monotonic(), [], machines()
    with tempfile.TemporaryDirectory() as folder:
        marks = options.folder or pathlib.Path(folder, "marks")
        for name, (source, _) in chosen.items():
            place = pathlib.Path(folder, "submissions", name)
            place.mkdir(parents=True)
            (place / "container.py").write_text(source)
        words = ["grade", "--out", marks, "--upto", upto, "--jobs", options.jobs]
        words += [pathlib.Path(folder, "submissions")]
        command = [PROJECT / "lab", *words]
        subprocess.run(command, check=True, timeout=LIMIT, stdin=subprocess.DEVNULL)
        # What is there is not done again, and the tables are the same.
        tables = [(marks / name).read_bytes() for name in ("marks.csv", "marks.xml")]
        again = time.monotonic()
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
        if [(marks / n).read_bytes() for n in ("marks.csv", "marks.xml")] != tables:
            wrong.append("the second run has other tables")
        seconds = time.monotonic() - again
        for name, (_, deserved) in chosen.items():
            mark = json.loads((marks / f"{name}.json").read_text())
            passed = len(mark["passed"])
            if name.startswith("hostile") and mark["passed"] == ["00", "01"]:
                wrong.append(f"{name}: passes")
            # What is broken may be seen before the fact that is named for it.
            early = name.startswith("broken") and passed < (deserved or 0)
            if deserved not in (None, passed) and not early:
                wrong.append(f"{name}: {passed} steps, not {deserved}: {mark['wrong']}")
            fact = name.partition("test_")[2].replace("_", " ")
            if fact and not mark["wrong"]:
                wrong.append(f"{name}: nothing is said of {fact}")
    left = sorted(machines() - before)
    if left:
        wrong.append(f"left behind: {left}")
    for what in wrong:
        print(f"NO  {what}")
    end = "FAILED" if wrong else "all as it should be"
    print(
        f"grade: {len(chosen)} submissions, {end}, in {again - begin:.0f} s; "
        f"once more in {seconds:.0f} s"
    )
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
