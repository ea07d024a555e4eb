"""What the guide prints and writes about a check, and its reports, certificate and differences.
tests/guide has them from real checks."""

import contextlib
import dataclasses
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from rich.console import Console
from runtime import FINISHED
from webpage import whole_by_itself

from workshop import diagnose, explanations, progress, sandbox
from workshop.diagnose import Isolation
from workshop.diffs import Diff
from workshop.facts import Check, Fact
from workshop.hints import hints_of
from workshop.project import STEPS as PROJECT_STEPS
from workshop.project import find_step
from workshop.refusals import ENDS
from workshop.reports import Report, lines_of_code
from workshop.topics import Finding
from workshop.workspace import Workspace

SOURCE = FINISHED.read_text()
WHEN = "2026-01-02T03:04:05+00:00"
WRONG = Fact(
    *("01", "its <b>name</b> stays", False, "uts(7)"),
    expected="'container'",
    happened="'host'",
    assertion="x == y",
    where="test_01_uts.py:1",
    told="01_uts/title",
)
FACTS = (
    WRONG,
    Fact("01", "a queue is not seen", True, "ipc(7)"),
    Fact("00", "the status is passed on", True, ""),
)


@pytest.fixture
def checked(learner):
    """A learner whose runtime was checked: two of three facts hold."""
    learner.has(SOURCE)
    (learner.my / ".workshop").mkdir()
    check = Check(WHEN, "01", FACTS, hashlib.sha256(SOURCE.encode()).hexdigest())
    last = json.dumps(check.as_json())
    (learner.my / ".workshop/last.json").write_text(last)
    (learner.my / ".workshop/last.xml").write_text(
        '<testsuites><testsuite><testcase name="x"/></testsuite></testsuites>'
    )
    return learner


def test_report_is_written_as_a_page_as_json_and_as_junit(checked, tmp_path):
    done = checked.type(f"report --out {tmp_path}/out --name Ada")
    assert done.returncode == 0 and not done.stderr, done
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert (report["held"], report["facts"], report["name"]) == (2, 3, "Ada")
    assert [(s["name"], s["held"]) for s in report["steps"]] == [
        ("01_uts", 1),
        ("00_run", 1),
    ]
    assert report["lines"] == lines_of_code(SOURCE.encode())
    assert not report["changed_since"]
    assert (
        len(list(ElementTree.parse(tmp_path / "out/report.xml").iter("testcase"))) == 1
    )
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("✓") == 2 and whole_by_itself(page)
    assert "its &lt;b&gt;name&lt;/b&gt; stays" in page and "<b>name" not in page
    assert "2 January 2026" in page and "has changed since" not in page
    assert page.count("lesson 1, under &#39;1 · A name of its own&#39;") == 1


def test_report_says_that_the_runtime_has_changed_since(checked, tmp_path):
    checked.has("# changed\n")
    assert checked.type(f"report --out {tmp_path}/out").returncode == 0
    assert "has changed since" in (tmp_path / "out/report.html").read_text()


def test_class_reads_what_the_report_has_written(checked, tmp_path):
    checked.type(f"report --out {tmp_path} --name Ada")
    data = json.loads((tmp_path / "report.json").read_text())
    report = Report.parse(data)
    assert report.check.facts == FACTS and report.as_json() == data


def test_file_of_an_older_check_can_be_read(checked):
    """Its facts that do not hold have null for what is not known."""
    path = checked.my / ".workshop/last.json"
    last = json.loads(path.read_text())
    last["facts"][0] |= {"command": None, "status": None, "said": None}
    path.write_text(json.dumps(last))
    assert checked.type("report").returncode == 0
    assert Check.parse(last).facts == FACTS


@pytest.mark.parametrize(
    ("key", "value"),
    [("holds", 1), ("name", None), ("step", "99"), ("happened", 3), ("status", "0")],
)
def test_fact_with_a_wrong_value_is_refused(checked, key, value):
    path = checked.my / ".workshop/last.json"
    last = json.loads(path.read_text())
    last["facts"][0][key] = value
    path.write_text(json.dumps(last))
    done = checked.type("report")
    assert done.returncode == 1 and "could not be read" in done.stderr, done


def test_certificate_is_about_the_runtime_that_passed(checked, monkeypatch):
    monkeypatch.setattr(sandbox, "staged", contextlib.nullcontext)
    found = [Isolation("uts", 41, 42)]
    monkeypatch.setattr(diagnose, "isolation", lambda *_: found)
    for step in PROJECT_STEPS:
        progress.record(
            Workspace.current(), step.number, {step.number: 20}, SOURCE.encode()
        )
    checked.has("# changed\n")
    done = checked.type(["report", "--name", "<Ada>\x1b[31m"])
    assert done.returncode == 0 and "certificate" in done.stdout, done
    page = (checked.my / "certificate.html").read_text()
    assert f"<b>{lines_of_code(SOURCE.encode())}</b>lines of Python" in page
    assert f"<b>{8 * 20}</b>facts" in page and whole_by_itself(page)
    assert re.search("<code>uts</code>.*?>41<.*?>42<", page)
    assert "&lt;Ada&gt;" in page and "\x1b" not in page
    assert hashlib.sha256(SOURCE.encode()).hexdigest() in page


@pytest.mark.parametrize(
    ("checked_step", "passed", "line"),
    [
        ("01", 1, "steps 01, 02, 03, 04, 05, 06, 07 have not passed"),
        ("01", 7, "step 07 has not passed. Type `workshop check 7`"),
        ("07", 7, "1 fact missing in the last check. Type `workshop check 7`"),
    ],
)
def test_report_says_why_there_is_no_certificate_yet(
    checked, checked_step, passed, line
):
    path = checked.my / ".workshop/last.json"
    last = json.loads(path.read_text())
    path.write_text(json.dumps(last | {"step": checked_step}))
    for step in PROJECT_STEPS[:passed]:
        progress.record(
            Workspace.current(), step.number, {step.number: 20}, SOURCE.encode()
        )
    done = checked.type("report")
    assert done.returncode == 0 and not done.stderr, done
    assert done.stdout.splitlines()[-1] == f"no certificate yet: {line}"
    assert not (checked.my / "certificate.html").exists()


def printed(function, *arguments):
    """Returns what a function prints to a console, its last argument, of 80 columns."""
    console = Console(width=80, color_system=None, soft_wrap=True)
    with console.capture() as capture:
        function(*arguments, console)
    return capture.get()


@pytest.mark.parametrize(
    ("own", "before", "only", "line"),
    [
        ([1, 1], [1], False, "Step 03 holds: 2 facts, and 1 of the steps before it."),
        ([1, 1], [], False, "Step 03 holds: 2 facts."),
        ([1], [], False, "Step 03 holds: 1 fact."),
        ([1, 0], [], False, "Step 03: 1 of 2 facts does not hold yet."),
        ([0, 0], [], False, "Step 03: 2 of 2 facts do not hold yet."),
        (
            *([1], [0, 1], False),
            "Step 03 holds, but of the 2 facts of the steps before it, 1 does not hold any more.",
        ),
        ([1, 0], [], True, "1 of 2 facts holds."),
        ([0, 0], [], True, "0 of 2 facts hold."),
        ([1], [], True, "1 of 1 fact holds."),
        ([0], [], True, "0 of 1 fact holds."),
    ],
)
def test_last_line_of_a_check_counts(own, before, only, line):
    facts = [Fact("03", str(n), bool(x), "") for n, x in enumerate(own)]
    facts += [Fact("02", str(n), bool(x), "") for n, x in enumerate(before)]
    assert explanations.last_line(find_step("3"), facts, only).plain == line


def test_last_line_of_a_check_says_why_it_stopped():
    late = Fact("03", "a thing works", False, "", late=True)
    line = explanations.last_line(find_step("3"), [late, late], False, untried=3).plain
    assert line == (
        "Step 03: 2 of 5 facts do not hold yet. Stopped after 2, because 'a thing works' took "
        "too long; 3 not tried."
    )


@pytest.mark.parametrize(
    ("topics", "words"),
    [
        (["start"], ", because your runtime does not start a container"),
        (
            ["options"],
            ", because your runtime does not start a container with a network",
        ),
        (["/proc"], ""),
    ],
)
def test_facts_with_the_same_error_are_told_in_one_line(topics, words):
    findings = [Finding(topic, "x") for topic in topics]
    line = explanations.same_errors(42, findings).plain
    assert line.startswith(f"  ✗ 42 more facts with the same error{words}")
    assert words or "because" not in line


def explained(fact, findings):
    return printed(explanations.explain, fact, findings, Workspace.current())


NAMED = dataclasses.replace(
    WRONG, name="container has a host name of its own", told=None
)


def test_fact_that_does_not_hold_is_explained_with_the_first_finding_that_fits(checked):
    findings = [
        Finding("/proc", "nothing is on /proc"),
        Finding("host name", "it lacks this"),
        Finding("host name", "and that"),
    ]
    said = explained(NAMED, findings)
    for text in "expected  'container'", "happened  'host'", "why", "It lacks this":
        assert text in said
    assert "and that" not in said and "othing is on" not in said
    assert "--only 'container has a host name of its own'" in " ".join(said.split())
    assert "    hint  " not in explained(NAMED, findings[:1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the container has none.", "The container has none."),
        ("without --net, it is none.", "Without --net, it is none."),
        ("process.start calls child.", "process.start calls child."),
        ("eth0 is down.", "eth0 is down."),
        ("/proc is missing.", "/proc is missing."),
    ],
)
def test_hint_begins_with_a_capital_unless_that_is_a_name(text, shown):
    assert explanations.sentence(text) == shown


def test_explanation_says_where_the_lesson_tells_it(checked):
    told = dataclasses.replace(NAMED, told="01_uts/title 00_run/title 01_uts/none")
    said = " ".join(explained(told, []).split())
    assert (
        "told in lesson 1, under '1 · A name of its own'; lesson 0, under '0 · " in said
    )
    assert "told in" not in explained(NAMED, [])
    assert "told in" not in explained(dataclasses.replace(NAMED, told="x/y 09_z/a"), [])


def test_fact_saved_by_an_older_guide_has_no_cell():
    saved = NAMED.as_json()
    assert "told" not in saved and Fact.parse(saved) == NAMED
    assert Fact.parse(json.loads(json.dumps(WRONG.as_json()))) == WRONG


def test_refusal_by_the_kernel_is_a_better_hint_than_a_finding(checked):
    said = "container.py: line 3: pivot_root: Invalid argument"
    refused = dataclasses.replace(NAMED, command="x", status=125, said=said)
    text = explained(refused, [Finding("host name", "it lacks this")])
    assert "kernel refuses pivot_root" in text.replace("\n", " ")
    assert "It lacks this" not in text
    third = SOURCE.splitlines()[2].strip()
    assert re.search(rf"line 3 +{re.escape(third[:30])}", text), text


def test_why_is_left_out_if_no_container_has_started(checked):
    ended = dataclasses.replace(NAMED, command="x", status=125, said="container.py: x")
    assert "uts(7)" in explained(NAMED, [Finding("start", "it ends")])
    assert "uts(7)" in explained(ended, [])
    assert "uts(7)" not in explained(ended, [Finding("start", "it ends")])


def test_command_that_still_runs_has_said_nothing(checked):
    running = dataclasses.replace(NAMED, command="container.py run sh")
    said = explained(running, [])
    assert "container.py run sh" in said and "it said" not in said
    assert explanations.what_happened(running) == "'host'"


def test_finding_that_repeats_the_output_is_left_out(checked):
    ended = dataclasses.replace(NAMED, command="x", status=125, said="container.py: x")
    finding = Finding("start", f"{ENDS} (status 125); it prints: x")
    assert "    hint  " not in explained(ended, [finding])
    assert "it prints: x" in " ".join(explained(NAMED, [finding]).split())


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({}, ["      expected  'container'", "      happened  'host'"]),
        ({"expected": None, "happened": None}, []),
        ({"expected": None, "happened": "late\nagain"}, ["      happened  late"]),
        (
            {"happened": "x" * 90},
            ["      expected  'container'", f"      happened  {'x' * 23}…"],
        ),
        (
            {"expected": "status 0", "happened": "status 1", "command": "c"}
            | {"status": 1, "said": "no\nmore"},
            ["      expected  status 0", "      happened  status 1: no"],
        ),
        (
            {"expected": None, "happened": None, "command": "c", "status": 1},
            ["      happened  status 1"],
        ),
    ],
)
def test_summary_is_one_line_for_each_of_expected_and_happened(checked, fields, lines):
    fact = dataclasses.replace(WRONG, **fields)
    found = explanations.summary(fact, Workspace.current(), 40)
    assert [line.plain for line in found] == lines


def test_difference_is_a_diff_and_a_folded_page_that_escapes_its_text():
    difference = Diff("one\n<b>\nthree\n", "one\n<i>\nthree\nfour\n", "a", "b")
    lines = repr(difference).splitlines()
    assert lines[:2] == ["--- a", "+++ b"] and {"-<b>", "+<i>", "+four"} < {*lines}
    page = difference._repr_html_()
    assert "2 lines added, 1 removed" in page and page.count("<details") == 1
    assert "&lt;i&gt;" in page and "<i>" not in page
    assert "+four" not in page.partition("</summary>")[0]


def test_every_step_has_different_hints():
    for step in PROJECT_STEPS:
        hints = hints_of(step)
        assert len({*hints}) == len(hints) >= 1, step
        assert all(len(text) > 20 for text in hints), step
