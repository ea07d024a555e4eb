"""Grades submissions: the steps themselves, broken ones, files that are not a runtime
at all, and hostile ones. Each gets the grade that it deserves, whatever the others do.

By default it grades a dozen of all kinds, and with --forty all of them. --kinds grades
those whose names begin with a word, such as right or broken-03. --jobs J grades J at a
time, and --grades DIR keeps the grades."""

import json
import os
import sys
from pathlib import Path

import driver
import pytest
from driver import PROJECT, STATE

sys.path.append(str(PROJECT / "tests"))
from mutants import MUTANTS

LIMIT = 3 * 3600  # seconds for all submissions
pytestmark = pytest.mark.timeout(LIMIT + 300)

STEPS = sorted(path.parent for path in PROJECT.glob("steps/[0-9]*/hints.md"))
# What a hostile submission does before anything else, as root.
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
# Other files that a class hands in, and a part of the message for each.
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
# Mutants, by the one fact that each of them breaks. They pass all earlier steps.
BROKEN = """
    option_hostname_sets_the_host_name message_queue_of_the_host_is_invisible
    process_of_the_host_cannot_be_killed
    sys_is_read_only container_has_its_own_tmp_shm_and_mqueue
    ordinary_user_inside_can_open_a_terminal mounts_ignore_set_user_id_bits
    links_in_dev_lead_to_the_open_files
    abstract_socket_of_the_host_is_out_of_reach dns_name_is_resolved
    groups_of_the_caller_are_dropped
    memory_hog_is_killed_at_its_limit
    ordinary_user_can_use_layers
""".split()


def variant(step: Path, old: str = "", new: str = "") -> str:
    source = (step / "container.py").read_text()
    assert old in source, (step, old)
    return source.replace(old, new, 1) if old else source


def hostile(harm: str) -> str:
    """Returns the source of step 01, changed to do harm when it starts."""
    before = "\nUSAGE = "
    return variant(STEPS[1], before, f"\n{harm}\n{before}")


def everything() -> dict[str, tuple[str, int | None, str]]:
    """Returns {name: (source, number of steps that it passes, part of the message)}.
    None and "" allow any."""
    found: dict[str, tuple[str, int | None, str]] = {}
    for number, step in enumerate(STEPS[:8]):  # grades are without the encores
        if number not in (4, 6):  # too slow, and the broken ones of 5 and 7 cover them
            found[f"right-{step.name}"] = variant(step), number + 1, ""
    mutants = {fact: (step, old, new) for step, old, new, fact in reversed(MUTANTS)}
    for fact in BROKEN:
        step, old, new = mutants[f"test_{fact}"]
        source = variant(PROJECT / "steps" / step, old, new)
        found[f"broken-{step[:2]}-{fact}"] = source, int(step[:2]), ""
    for name, (source, message) in UNUSABLE.items():
        found[f"unusable-{name}"] = source, 0, message
    for name, harm in HOSTILE.items():
        found[f"hostile-{name}"] = hostile(harm), None, ""
    return found


ALL = everything()
# The dozen: of each kind, those that take the least time, and one that passes three steps. A
# submission that fails late has had all facts of the steps before it checked; --forty grades
# those, too.
DOZEN = """
    right-00_run right-01_uts
    broken-01-option_hostname_sets_the_host_name
    broken-03-sys_is_read_only
    unusable-windows unusable-half-a-line unusable-silent unusable-falls-over
    hostile-kills-all hostile-writes-disk hostile-panics hostile-halts
""".split()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", chosen(metafunc.config))


def chosen(config: pytest.Config) -> list[str]:
    """Returns the names of the submissions to grade."""
    kinds = tuple(config.getoption("--kinds").replace(",", " ").split())
    if kinds:
        return [name for name in ALL if name.startswith(kinds)]
    return list(ALL) if config.getoption("--forty") else DOZEN


def left_behind() -> set[str]:
    """Returns the directories of throwaway VMs whose processes have ended."""
    folders = (path for path in STATE.glob("test.*") if any(path.glob("*")))
    return {p.name for p in folders if not os.path.exists(f"/proc/{p.suffix[1:]}")}


class Grading:
    """`./lab grade` for all chosen submissions."""

    def __init__(self, place: Path, config: pytest.Config):
        self.grades = config.getoption("--grades") or place / "grades"
        self.before = left_behind()
        for name in chosen(config):
            folder = place / "submissions" / name
            folder.mkdir(parents=True)
            (folder / "container.py").write_text(ALL[name][0])
        self.words = [
            "grade",
            "--out",
            self.grades,
            "--jobs",
            config.getoption("--jobs"),
        ]
        self.words.append(place / "submissions")
        self.run(LIMIT)

    def run(self, seconds: float) -> str:
        return driver.Lab().run(*self.words, timeout=seconds)

    def tables(self) -> list[bytes]:
        return [
            (self.grades / name).read_bytes() for name in ("grades.csv", "grades.xml")
        ]


@pytest.fixture(scope="module")
def grading(place: Path, request: pytest.FixtureRequest) -> Grading:
    return Grading(place, request.config)


def test_submission_gets_the_grade_that_it_deserves(
    grading: Grading, name: str
) -> None:
    _, deserved, message = ALL[name]
    grade = json.loads((grading.grades / f"{name}.json").read_text())
    if deserved is None:
        assert grade["passed"] != ["00", "01"], grade
    else:
        assert len(grade["passed"]) == deserved, grade
    assert message in (grade["wrong"] or "")


def test_graded_submission_is_not_graded_again_and_the_tables_stay_the_same(
    grading: Grading,
) -> None:
    files = sorted(grading.grades.glob("*.json"))
    before = grading.tables(), [file.stat().st_mtime_ns for file in files]
    grading.run(60)
    assert (grading.tables(), [file.stat().st_mtime_ns for file in files]) == before


def test_no_vm_is_left_behind(grading: Grading) -> None:
    assert not left_behind() - grading.before
