"""What the guide writes and prints of what it knows: reports, the certificate, slides, what a
check tells, differences. tests/guide has it all of real checks."""

import contextlib
import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree

import nbformat
import pytest
from rich.console import Console
from runtime import STEPS
from webpage import whole_by_itself

from workshop import diagnose, sandbox
from workshop.commands import attempt, check, demo, report, slides
from workshop import learner as state
from workshop.commands.report import lines_of_code

with pytest.MonkeyPatch.context() as patch:
    # It is a plugin of pytest, and expects to be loaded before the tests' runtime.py.
    patch.setattr(pytest, "register_assert_rewrite", lambda *_: None)
    from workshop import pytest_plugin

LAST = STEPS[-1].read_text()
WHEN = "2026-01-02T03:04:05+00:00"
FACTS = [
    {"step": "01", "name": "its <b>name</b> stays", "holds": False, "why": "uts(7)"},
    {"step": "01", "name": "a queue is not seen", "holds": True, "why": "ipc(7)"},
    {"step": "00", "name": "the status is passed on", "holds": True, "why": ""},
]
FACTS[0] |= {"expected": "'container'", "happened": "'host'", "assertion": "x == y"}
FACTS[0] |= {"where": "test_01_uts.py:1", "command": None}


@pytest.fixture
def checked(learner):
    """A learner whose runtime was checked: two of three facts hold."""
    learner.has(LAST)
    (learner.my / ".workshop").mkdir()
    checksum = hashlib.sha256(LAST.encode()).hexdigest()
    last = {"when": WHEN, "step": "01", "facts": FACTS, "sha256": checksum}
    (learner.my / ".workshop/last.json").write_text(json.dumps(last))
    (learner.my / ".workshop/last.xml").write_text(
        '<testsuites><testsuite><testcase name="x"/></testsuite></testsuites>'
    )
    return learner


def test_report_has_what_was_found_as_page_as_json_and_as_junit(checked, tmp_path):
    done = checked.type(f"report --out {tmp_path}/out --name Ada")
    assert done.returncode == 0 and not done.stderr, done
    told = json.loads((tmp_path / "out/report.json").read_text())
    assert (told["held"], told["facts"], told["name"]) == (2, 3, "Ada")
    assert [(s["name"], s["held"]) for s in told["steps"]] == [
        ("01_uts", 1),
        ("00_run", 1),
    ]
    assert told["lines"] == lines_of_code(LAST.encode()) and not told["changed_since"]
    assert (
        len(list(ElementTree.parse(tmp_path / "out/report.xml").iter("testcase"))) == 1
    )
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("✓") == 2 and whole_by_itself(page)
    assert "its &lt;b&gt;name&lt;/b&gt; stays" in page and "<b>name" not in page
    assert "2 January 2026" in page and "changed since" not in page


def test_report_says_that_the_runtime_was_changed_since(checked, tmp_path):
    checked.has("# changed\n")
    assert checked.type(f"report --out {tmp_path}/out").returncode == 0
    assert "changed since" in (tmp_path / "out/report.html").read_text()


def test_certificate_is_of_the_runtime_that_passed(checked, monkeypatch):
    monkeypatch.setattr(sandbox, "workbench", contextlib.nullcontext)
    monkeypatch.setattr(diagnose, "isolation", lambda *_: {"uts": [41, 42]})
    for step in STEPS:
        state.record(step.parent.name[:2], {step.parent.name[:2]: 20}, LAST.encode())
    checked.has("# changed\n")
    done = checked.type(["report", "--name", "<Ada>\x1b[31m"])
    assert done.returncode == 0 and "certificate" in done.stdout, done
    page = (checked.my / "certificate.html").read_text()
    assert f"<b>{lines_of_code(LAST.encode())}</b>lines of Python" in page
    assert f"<b>{8 * 20}</b>facts" in page and whole_by_itself(page)
    assert re.search("<code>uts</code>.*?>41<.*?>42<", page)
    assert "&lt;Ada&gt;" in page and "\x1b" not in page
    assert hashlib.sha256(LAST.encode()).hexdigest() in page


def printed(function, *arguments):
    """What a function prints to a console of 80 columns, its last argument."""
    console = Console(width=80, color_system=None, soft_wrap=True)
    with console.capture() as capture:
        function(*arguments, console)
    return capture.get()


@pytest.mark.parametrize(
    ("own", "before", "only", "line"),
    [
        ([1, 1], [1], None, "Step 03 holds: 2 facts, and 1 of the steps before it."),
        ([1, 1], [], None, "Step 03 holds: 2 facts."),
        ([1, 0], [], None, "Step 03: 1 of 2 facts do not hold yet."),
        ([1], [0, 1], None, "its 1 facts hold, but 1 of 2 of the steps before it do"),
        ([1, 0], [], "word", "1 of 2 facts holds."),
        ([0, 0], [], "word", "0 of 2 facts hold."),
    ],
)
def test_last_line_of_a_check_counts(own, before, only, line):
    own = [{"step": "03", "n": n, "holds": bool(x)} for n, x in enumerate(own)]
    more = [{"step": "02", "n": n, "holds": bool(x)} for n, x in enumerate(before)]
    wrong = [fact for fact in own + more if not fact["holds"]]
    said = printed(check.say_how_many, "03", own, len(more), wrong, only)
    assert line in said


def test_fact_that_does_not_hold_is_explained_with_the_first_finding(checked):
    said = printed(check.explain, FACTS[0], ["it lacks this", "and that"])
    for text in "expected  'container'", "happened  'host'", "why", "It lacks this":
        assert text in said
    assert "and that" not in said and "workshop hint 1" in said
    assert "`workshop hint 1` has one." in printed(check.explain, FACTS[0], [])
    # What the kernel refused says more than what is missing in the container.
    refused = FACTS[0] | {"command": "x", "status": 125}
    refused["said"] = "container.py: line 3: pivot_root: Invalid argument"
    said = printed(check.explain, refused, ["it lacks this"])
    assert "kernel refuses pivot_root" in said.replace("\n", " ")
    assert "It lacks this" not in said


@pytest.mark.parametrize(
    ("operator", "left", "right", "expected", "happened"),
    [
        ("==", "1", "2", "2", "1"),
        ("!=", "1", "1", "anything but 1", "1"),
        ("in", "'a'", "'xyz'", "'a' in it", "'xyz'"),
        ("not in", "'a'", "'abc'", "no 'a' in it", "'abc'"),
        (">=", "1", "2", "2 or more", "1"),
    ],
)
def test_comparison_that_failed_is_told_in_words(
    operator, left, right, expected, happened
):
    told = facts.in_words(operator, left, right)
    assert told == {"expected": expected, "happened": happened}


def test_difference_is_a_diff_and_a_folded_page_without_markup_of_its_text():
    difference = attempt.Diff("one\n<b>\nthree\n", "one\n<i>\nthree\nfour\n", "a", "b")
    lines = repr(difference).splitlines()
    assert lines[:2] == ["--- a", "+++ b"] and {"-<b>", "+<i>", "+four"} < {*lines}
    page = difference._repr_html_()
    assert "2 lines more, 1 fewer" in page and page.count("<details") == 1
    assert "&lt;i&gt;" in page and "<i>" not in page
    assert "+four" not in page.partition("</summary>")[0]


def test_every_step_has_hints_that_can_be_told_apart():
    for step in STEPS:
        hints = attempt.hints_of(step.parent)
        assert len({*hints}) == len(hints) >= 1, step
        assert all(len(text) > 20 for text in hints), step


def test_slides_are_columns_with_fragments_notes_and_what_a_demo_says():
    def cell(kind, text, **more):
        about = {"slideshow": {"slide_type": kind}} if kind else {}
        return nbformat.v4.new_markdown_cell(text, metadata=about | more)

    scene = {"say": "say this", "minutes": {}}
    cells = [cell("slide", "# One"), cell("fragment", "later"), cell("skip", "unseen")]
    cells += [cell("subslide", "below"), cell("notes", "a note"), cell("slide", "Two")]
    cells += [cell("", "more of it", demo=scene)]
    columns = slides.slides(nbformat.v4.new_notebook(cells=cells))
    assert [len(column) for column in columns] == [2, 1]
    first, second = columns[0]
    assert [fragment for _, fragment in first["parts"]] == [False, True]
    assert "One" in first["parts"][0][0] and "later" in first["parts"][1][0]
    assert second["notes"] == ["a note"]
    assert columns[1][0]["notes"] == ["say this"] and len(columns[1][0]["parts"]) == 2
    page = report.page("slides.html", {"title": "<T>", "columns": columns}).decode()
    assert page.count('class="fragment"') == 1 and "unseen" not in page
    assert "&lt;T&gt;" in page and "<T>" not in page


def test_demo_finds_its_scenes_by_lesson_and_refuses_other_numbers():
    every = demo.scenes("90")
    assert (
        [s["lesson"] for s in demo.scenes("90", ["3"])]
        == [s["lesson"] for s in every if s["lesson"] == "03"]
        != []
    )
    with pytest.raises(demo.learner.Failure, match="no step 12"):
        demo.scenes("20", ["12"])


def test_demo_goes_back_to_the_begin_of_a_scene_and_shows_a_lack_of_what_it_should():
    scene = {"lesson": "00", "title": "x", "minutes": 1, "say": "", "before": None}
    scene |= {"after": None, "run": [["echo one", "two"], ["echo two", "two"]]}
    talk = demo.Talk([scene, scene | {"run": []}, scene], auto=True)
    assert talk.places == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert [talk.first_of(at) for at in (-1, 0, 1, 2, 4)] == [0, 0, 0, 2, 3]
