#!/usr/bin/env python3
"""Forty submissions, graded: the steps themselves, broken ones, files that are no runtime at
all, and hostile ones. Each has to get the mark that it deserves, whatever the others do. Run on
the host.

    tests/lab/grade.py [--jobs J] [--folder DIR] [KIND...]

KIND: right, broken, unusable or hostile, or more of a name, such as broken-03; without any, all.
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
# What a class hands in besides, and what is said of it.
UNUSABLE = {
    "empty": ("", "names no interpreter"),
    "no-interpreter": ("import os\n", "names no interpreter"),
    "windows": ("#!/usr/bin/python3 -S\r\nimport os\r\n", "CRLF"),
    "half-a-line": ("#!/usr/bin/python3 -S\nprint('usage: '\n", "never closed"),
    "binary": ("#!/usr/bin/python3 -S\n\0\n", "null bytes"),
    "huge": ("#!/usr/bin/python3 -S\n" + "#" * (1 << 20), "larger than a megabyte"),
    "silent": ("#!/usr/bin/python3 -S\n", "should print its usage"),
    "indented": ("#!/usr/bin/python3 -S\nif 1:\nos\n", "expected an indented block"),
    "perl": ("#!/usr/bin/perl\nmy $x = 1;\n", "invalid syntax"),
    "falls-over": ("#!/usr/bin/python3 -S\nimport lunix\n", "No module named 'lunix'"),
}
# Mutants that work but for the fact that is named for each: all steps before it hold.
BROKEN = """
    host_name_is_the_one_asked_for message_queue_of_the_host_is_invisible
    process_of_the_host_cannot_be_killed
    sys_is_read_only tmp_shm_and_mqueue_are_the_containers_own
    ordinary_user_inside_has_terminals what_is_mounted_gives_nobody_rights
    dev_fd_and_its_kin_lead_to_the_open_files
    abstract_socket_of_the_host_is_out_of_reach name_is_resolved
    groups_of_the_caller_are_dropped
    fork_bomb_stays_at_its_count
    ordinary_user_has_layers_too
""".split()


def variant(room, old="", new=""):
    source = (room / "container.py").read_text()
    assert old in source, (room, old)
    return source.replace(old, new, 1) if old else source


def hostile(harm):
    """Step 01 that does harm when it is started."""
    before = "\nUSAGE = "
    return variant(ROOMS[1], before, f"\n{harm}\n{before}")


def everything():
    """{name: (source, steps that it passes; None: whatever, what is said; "": anything)}"""
    found = {}
    for number, room in enumerate(ROOMS):
        if number not in (4, 6):  # which take long: the broken ones of 5 and 7 tell
            found[f"right-{room.name}"] = variant(room), number + 1, ""
    mutants = {fact: (room, old, new) for room, old, new, fact in reversed(MUTANTS)}
    for fact in BROKEN:
        room, old, new = mutants[f"test_{fact}"]
        source = variant(PROJECT / "steps" / room, old, new)
        found[f"broken-{room[:2]}-{fact}"] = source, int(room[:2]), ""
    for name, (source, said) in UNUSABLE.items():
        found[f"unusable-{name}"] = source, 0, said
    for name, harm in HOSTILE.items():
        found[f"hostile-{name}"] = hostile(harm), None, ""
    return found


def left_behind():
    """The folders of machines that were made to be thrown away, and whose makers are gone."""
    folders = (path for path in STATE.glob("test.*") if any(path.glob("*")))
    return {p.name for p in folders if not os.path.exists(f"/proc/{p.suffix[1:]}")}


def main():
    parser = argparse.ArgumentParser(description="Submissions of all kinds, graded.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="how names begin")
    parser.add_argument("--jobs", default="2", help="machines at the same time")
    parser.add_argument("--folder", type=pathlib.Path, help="where the marks are kept")
    options = parser.parse_args()
    kinds = tuple(options.kinds or [""])
    chosen = {k: v for k, v in everything().items() if k.startswith(kinds)}
    begin, wrong, before = time.monotonic(), [], left_behind()
    with tempfile.TemporaryDirectory() as folder:
        marks = options.folder or pathlib.Path(folder, "marks")
        for name, (source, _, _) in chosen.items():
            place = pathlib.Path(folder, "submissions", name)
            place.mkdir(parents=True)
            (place / "container.py").write_text(source)
        words = ["grade", "--out", marks, "--jobs", options.jobs]
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
        for name, (_, deserved, said) in chosen.items():
            mark = json.loads((marks / f"{name}.json").read_text())
            passed = len(mark["passed"])
            if name.startswith("hostile") and mark["passed"] == ["00", "01"]:
                wrong.append(f"{name}: passes")
            if deserved not in (None, passed):
                wrong.append(f"{name}: {passed} steps, not {deserved}: {mark['wrong']}")
            if said not in (mark["wrong"] or ""):
                wrong.append(f"{name}: not {said!r}, but {mark['wrong']}")
    if left := left_behind() - before:
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
