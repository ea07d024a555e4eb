"""The guide's subcommands, those parts that need no container: what to do next, hints, snapshots,
the solution, saved progress, and mistakes that are found before a runtime is started."""

import argparse
import ast
import os
import re
import subprocess
import time

import pytest
from people import one_line
from runtime import PROJECT, STEPS
from source import code_lines, facts as facts_of

from workshop import facts, progress, reports
from workshop.commands import welcome
from workshop.errors import Failure
from workshop.facts import Check, Fact
from workshop.project import find_step
from workshop.startable import startable
from workshop.subcommands import SUBCOMMANDS
from workshop.workspace import Workspace

NAMES = [step.parent.name for step in STEPS]
STEP_00 = STEPS[0].read_text()


def test_workshop_without_a_subcommand_says_what_to_do_next(learner):
    said = learner.type("").stdout
    assert "Next: `workshop start` creates" in said, said
    assert all(name in said for name in NAMES), said
    assert learner.type("start").returncode == 0
    assert learner.path.read_text() == STEP_00 and os.access(learner.path, os.X_OK)
    assert "then `workshop check`" in " ".join(learner.type("").stdout.split())


def checked(learner, number, holds):
    """A check of this step only has found this."""
    source = learner.path.read_bytes()
    step, workspace = find_step(number), Workspace.current()
    found = [Fact(step.number, "it works", holds, "x(1)")]
    facts.save(workspace, Check.of(step, found, source), b"")
    if holds:
        progress.record(workspace, step.number, {step.number: 1}, source)


def test_next_is_the_step_after_one_that_was_checked_alone(learner):
    learner.has(STEP_00)
    checked(learner, "3", True)
    said = " ".join(learner.type("").stdout.split())
    assert re.search("Next: read notebooks/04_.*then `workshop check`", said), said
    assert "already done" not in said
    for number in "4567":
        checked(learner, number, True)
    assert "read notebooks/00_" in learner.type("").stdout  # it was left out


def test_next_is_the_step_of_the_last_check_if_it_has_not_passed(learner):
    learner.has(STEP_00)
    checked(learner, "5", False)
    said = " ".join(learner.type("").stdout.split())
    assert re.search("Next: read notebooks/05_.*then `workshop check 5`", said), said
    assert re.search("▸ 05_user", said)
    learner.type("hint 5")
    assert "`workshop check 5`. Stuck? `workshop hint 5`" in " ".join(
        learner.type("").stdout.split()
    )


def test_address_of_the_lab_is_that_of_the_learners_lesson(
    learner, tmp_path, monkeypatch
):
    token = tmp_path / "token"
    token.write_text("secret")
    monkeypatch.setattr(welcome, "TOKEN", token)
    options = argparse.Namespace(screen=False, port=8888)
    assert "/notebooks/00_" in welcome.addresses(options)[0]
    learner.has(STEP_00)
    checked(learner, "3", True)
    assert "/notebooks/04_" in welcome.addresses(options)[0]


def test_start_never_overwrites_a_runtime(learner):
    learner.has("mine")
    done = learner.type("start")
    assert done.returncode == 0 and "already exists" in done.stdout, done
    assert learner.path.read_text() == "mine"


def test_every_fact_names_the_page_that_explains_it():
    missing = []
    for path in (PROJECT / "tests").glob("test_[0-9][0-9]_*.py"):
        for fact in facts_of(path):
            why = ast.get_docstring(fact) or ""
            if not re.search(r"\w\(\d\)|filesystems/", why) and "USAGE" not in why:
                missing.append(f"{path.name}: {fact.name}")
    assert missing == []


def test_missing_runtime_is_reported_in_one_line(learner):
    assert one_line(learner.type("check 0"), "no .*container.py yet: `workshop start`")


def test_syntax_error_is_reported_in_one_line_with_its_number(learner):
    learner.has(STEP_00.replace("def child(args):", "def child(args)"))
    number = STEP_00.splitlines().index("def child(args):") + 1
    begin = time.monotonic()
    done = learner.type("check 0")
    assert one_line(done, f"container.py, line {number}: expected ':'"), done
    assert time.monotonic() - begin < 15 and done.stdout == ""


def test_file_that_is_not_a_script_is_reported_in_one_line(learner):
    learner.has(STEP_00.replace("\n", "\r\n"))
    assert one_line(learner.type("check 0"), "line ends of Windows .*sed -i")
    learner.has(STEP_00.removeprefix("#!/usr/bin/python3 -S\n"))
    assert one_line(learner.type("check 0"), "names no interpreter. .*python3 -S")


BOM, SHEBANG, UMLAUT = b"\xef\xbb\xbf", "#!/usr/bin/python3 -S", "# Grüße\n"


@pytest.mark.parametrize(
    ("source", "pattern"),
    [
        (BOM + STEP_00.encode(), r"byte order mark \(BOM\).*`sed -i .*`"),
        ((STEP_00 + UMLAUT).encode("utf-16"), "is in UTF-16.*`iconv -f UTF-16 "),
        (
            b"\xfe\xff" + STEP_00.encode("utf-16-be"),
            "is in UTF-16.*`iconv -f UTF-16 -t UTF-8 .*`",
        ),
        (STEP_00.replace("\n", "\r\n").encode("utf-16"), "is in UTF-16.*`iconv .*`"),
        (STEP_00.replace("\n", "\r\n").encode(), "line ends of Windows.*`sed -i .*`"),
        (
            BOM + STEP_00.replace("\n", "\r\n").encode(),
            "byte order mark .*`sed -i .*`",
        ),
        (
            (STEP_00 + UMLAUT).encode("latin-1"),
            "in line [0-9]+ that is not in UTF-8.*`iconv -f WINDOWS-1252 ",
        ),
    ],
    ids=lambda value: value[:3].hex() if isinstance(value, bytes) else "",
)
def test_command_in_the_message_repairs_what_an_editor_of_windows_saved(
    learner, source, pattern
):
    learner.has("")
    learner.path.write_bytes(source)
    assert one_line(learner.type("check 0"), pattern)
    for _ in range(2):  # a file can have two problems
        try:
            startable(Workspace(learner.my))
        except Failure as error:
            command = re.search("`(.*?)`", str(error))[1]
            subprocess.run(command, shell=True, check=True)
    startable(Workspace(learner.my))
    text = learner.path.read_bytes().decode()
    assert text.removesuffix(UMLAUT) == STEP_00 and os.access(learner.path, os.X_OK)


@pytest.mark.parametrize(
    ("first", "problem"),
    [
        ("", "names no interpreter"),
        ("#!", "names no interpreter"),
        ("#! ", "names no interpreter"),
        ("#!/usr/bin/python2", "names /usr/bin/python2, but there is no such program"),
        ("#!/usr/bin/python2 -S", "names /usr/bin/python2, but there is no such"),
        ("#!/usr", "names /usr, but there is no such program here"),
        ("#!/etc/passwd", "names /etc/passwd, but there is no such program here"),
        ("#!python3", "names python3, which is not an absolute path"),
        ("#!/usr/bin/env python1", "env look for 'python1', but there is no such"),
        ("#!/usr/bin/env python3 -S", "env look for 'python3 -S', but there is no"),
        ("#!/usr/bin/env -S python1 -S", "env look for 'python1', but there is no"),
    ],
)
def test_missing_interpreter_is_named_with_the_line_that_works(learner, first, problem):
    learner.has(STEP_00.replace(SHEBANG, first, 1))
    done = learner.type("check 0")
    assert one_line(done, f"the first line of .*container.py .*{problem}"), done
    assert done.stderr.endswith(f"It should be {SHEBANG}\n")
    assert one_line(learner.type("breakout 1"), problem)


@pytest.mark.parametrize(
    "first",
    [
        SHEBANG,
        "#! /usr/bin/python3",
        "#!/usr/bin/env python3",
        "#!/usr/bin/env -S python3 -S",
        "#!/usr/bin/env -S A=b python3 -S",
    ],
)
def test_first_line_that_works_is_accepted(learner, first):
    learner.has(STEP_00.replace(SHEBANG, first, 1))
    assert startable(Workspace(learner.my)).startswith(first.encode())
    steps = os.environ | {"PYTHONPATH": str(PROJECT / "steps")}
    done = subprocess.run([learner.path, "--help"], env=steps, capture_output=True)
    assert done.returncode == 0 and done.stdout.startswith(b"usage"), done


def test_runtime_that_is_not_executable_is_reported_in_one_line(learner):
    learner.has(STEP_00)
    learner.path.chmod(0o644)
    assert one_line(learner.type("check 0"), "is not executable: type `chmod")


def test_undo_goes_back_and_forward_again(learner):
    texts = [f"( # {number}\n" for number in range(3)]
    for text in texts:
        learner.has(text)
        learner.type("check 0", 30)  # keeps a snapshot, whatever comes of it
    for text in reversed(texts[:2]):
        assert learner.type("undo").returncode == 0
        assert learner.path.read_text() == text
    assert one_line(learner.type("undo"), "oldest snapshot")
    assert learner.type("undo --redo").returncode == 0
    assert learner.path.read_text() == texts[1]
    # What was typed in the meantime, and never checked, comes back as well.
    learner.has("# typed\n")
    learner.type("undo")
    assert learner.path.read_text() == texts[2]
    learner.type("undo --redo")
    assert learner.path.read_text() == "# typed\n"
    assert set(texts) < set(learner.snapshots())


def test_reset_goes_back_to_the_runtime_that_passed_or_to_step_00(learner):
    learner.has("# mine\n")
    assert learner.type("reset").returncode == 0
    assert learner.path.read_text() == STEP_00 and "# mine\n" in learner.snapshots()
    learner.type("undo")
    assert learner.path.read_text() == "# mine\n"


def test_hints_come_one_by_one_and_are_counted(learner):
    hints = re.findall(r"^\d+\. ", (STEPS[1].parent / "hints.md").read_text(), re.M)
    for number in range(1, len(hints) + 1):
        said = learner.type("hint 1").stdout
        assert said.startswith(f"Hint {number} of {len(hints)}, step 01"), said
    assert learner.type("hint 1").stdout.startswith(f"All {len(hints)} hints")


def test_solution_must_be_asked_for_twice_and_can_be_undone(learner):
    learner.has("# mine\n")
    first = learner.type("solve 1")
    assert first.returncode == 1 and "CLONE_NEWUTS" not in first.stdout, first
    second = learner.type("solve 1")
    assert (
        second.returncode == 0 and "+NAMESPACES = linux.CLONE_NEWUTS" in second.stdout
    )
    assert learner.path.read_text() == "# mine\n"
    assert learner.type("solve 1 --write").returncode == 0
    assert learner.path.read_text() == STEPS[1].read_text()
    learner.type("undo")
    assert learner.path.read_text() == "# mine\n"


def test_diff_shows_what_the_step_adds(learner):
    said = learner.type("diff 1").stdout
    assert "+    linux.sethostname(args.hostname" in said and "\x1b[" not in said, said


def test_unreadable_progress_is_moved_aside_and_reported_in_one_line(learner):
    learner.type("start")
    learner.type("hint 1")
    path = learner.my / ".workshop/progress.json"
    parts = "{}", '{"version": 1}', '{"version": 99}', '{"version": 1, "passed": 3}'
    for text in "{", "[]", "\0\xff", *parts:
        path.write_text(text)
        done = learner.type("")
        assert done.returncode == 0 and "00_run" in done.stdout, done
        assert (
            len(done.stderr.splitlines()) == 1
            and "starts from the beginning" in done.stderr
        ), done
    kept = {p.read_text() for p in path.parent.glob("progress-unreadable*")}
    assert len(kept) == 7


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("check 11", "no step 11"),
        ("check x", "no step x"),
        ("hint 11", "no step 11"),
        ("undo 3", "unrecognized"),
        ("nonsense", "unknown subcommand 'nonsense'"),
        ("breakout 0", "no attack"),
    ],
)
def test_wrong_usage_has_exit_status_2(learner, words, message):
    learner.has(STEP_00)
    done = learner.type(words)
    assert done.returncode == 2 and message in done.stderr, done
    assert len(done.stderr.splitlines()) <= 2 and done.stdout == "", done


def test_subcommand_that_is_misspelt_gets_a_suggestion(learner):
    said = learner.type("chekk").stderr
    assert said == "workshop: unknown subcommand 'chekk'. Did you mean 'check'?\n"


def test_help_has_a_line_for_each_subcommand(learner):
    done = learner.type("--help")
    assert done.returncode == 0
    for name in SUBCOMMANDS:
        assert re.search(rf"^  {name} +\w.{{10,}}$", done.stdout, re.M), name
    assert max(map(len, done.stdout.splitlines())) < 80


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_subcommand_has_help_of_its_own(learner, name):
    done = learner.type([name, "--help"])
    assert done.returncode == 0 and done.stdout.startswith("usage: workshop"), done
    assert SUBCOMMANDS[name][1:] in " ".join(done.stdout.split())


def test_lines_of_code_are_those_that_the_suite_counts():
    for step in STEPS:
        assert reports.lines_of_code(step.read_bytes()) == len(code_lines(step))
