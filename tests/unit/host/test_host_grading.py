"""The names of submissions, their grades, and the tables of grades."""

import codecs
import csv
import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host import grading
from host.commands.grade import MOST_OUTPUT, listen
from host.errors import LabError
from host.grading import Grade, read_grade


@pytest.fixture
def class_folder(tmp_path):
    for place in "ada", "b/bob", "c c/grace":
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "container.py").write_text(place)
    (tmp_path / "linus.py").write_text("linus")
    return tmp_path


def test_submission_is_named_after_its_directory_or_its_file(class_folder):
    found = grading.submissions([class_folder, class_folder / "linus.py"])
    assert list(found) == ["ada", "bob", "grace", "linus"]
    assert found["bob"] == class_folder / "b/bob/container.py"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("a b", "a_b"),
        ("=cmd()", "_cmd__"),
        ("../x", "x"),
        ("ä.b-c", "ä.b-c"),
        ("Mu\u0308ller", "Müller"),
    ],
)
def test_name_of_a_submission_is_a_valid_file_name(tmp_path, folder, name):
    path = tmp_path / folder / "container.py"
    assert grading.submission_name(path) == name


def test_two_submissions_of_the_same_name_are_refused(class_folder):
    (class_folder / "z/ada").mkdir(parents=True)
    (class_folder / "z/ada/container.py").write_text("")
    with pytest.raises(LabError, match="are both called ada"):
        grading.submissions([class_folder])


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(LabError, match="there is no file"):
        grading.submissions([tmp_path / "none.py"])


def test_link_among_the_submissions_is_refused(class_folder):
    """It could lead to the teacher's own files, or to one whose end never comes."""
    link = class_folder / "mallory/container.py"
    link.parent.mkdir()
    link.symlink_to(class_folder / "linus.py")
    with pytest.raises(LabError, match="mallory/container.py is a symbolic link"):
        grading.submissions([class_folder])
    assert list(grading.submissions([link]).values()) == [link]  # the teacher named it


SAID = {
    "sha256": "of a file that somebody else sent",
    "steps": {"00": [5, 5], "01": [3, 4]},
    "passed": ["00"],
    "wrong": "test_x: it did not",
}


def said(**changes):
    return b"noise\n" + json.dumps({**SAID, **changes}).encode() + b"\n"


def test_grade_is_read_from_the_last_line():
    grade = read_grade(said(), "abc", "7", "its VM stopped")
    assert grade == Grade("abc", "7", SAID["steps"], ["00"], SAID["wrong"])


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"\n",
        b"not json\n",
        b"[]\n",
        b"{}\n",
        said(steps=[]),
        said(steps={"00": "x"}),
        said(steps={"00": ["x"]}),
        said(passed=7),
        b"[" * 100000,
        b"\xff\xfe\n",
    ],
)
def test_any_other_output_gives_a_grade_without_steps(output):
    grade = read_grade(output, "abc", "7", "its VM stopped")
    assert grade == Grade("abc", "7", {}, [], "its VM stopped")


@given(st.binary(max_size=200))
def test_any_output_can_be_read(output):
    assert isinstance(read_grade(output, "abc", "7", "why"), Grade)


def test_unknown_steps_do_not_count():
    grade = read_grade(said(passed=["00", "99", "__"]), "abc", "7", "")
    assert grade.passed == ["00"]


def test_long_error_is_shortened():
    grade = read_grade(said(wrong="x" * 10000), "abc", "7", "")
    assert len(grade.wrong) == grading.LONGEST


# ---- kept


def test_grade_is_reused_for_the_same_file_and_steps(tmp_path):
    grade = Grade("abc", "7", {"00": [5, 5]}, ["00"], None)
    grading.write_grade(tmp_path / "ada.json", grade)
    assert grading.known_grade(tmp_path / "ada.json", "abc", "7") == grade
    assert grading.known_grade(tmp_path / "ada.json", "other", "7") is None
    assert grading.known_grade(tmp_path / "ada.json", "abc", "3") is None
    assert [path.name for path in tmp_path.iterdir()] == ["ada.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"sha256": "abc"}'])
def test_damaged_grade_is_graded_again(tmp_path, text):
    (tmp_path / "ada.json").write_text(text)
    assert grading.known_grade(tmp_path / "ada.json", "abc", "7") is None


# ---- tables

GRADES = {
    "bob": Grade("b", "1", {"00": [5, 5], "01": [3, 4]}, ["00"], "=1+1\x1b[31m"),
    "ada": Grade("a", "1", {"00": [5, 5], "01": [4, 4]}, ["00", "01"], None),
    "eve": Grade("e", "1", {}, [], "its VM stopped"),
}


def test_table_is_sorted_by_name_and_contains_no_formula(tmp_path):
    grading.write_csv(GRADES, tmp_path / "grades.csv")
    with open(tmp_path / "grades.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["ada", "bob", "eve"]
    assert [row["steps passed"] for row in rows] == ["2", "1", "0"]
    assert [row["01"] for row in rows] == ["4 of 4", "3 of 4", ""]
    assert rows[1]["wrong"].startswith("'=1+1")


def test_table_has_the_mark_by_which_excel_knows_utf_8(tmp_path):
    grades = {"Jürgen Müller": GRADES["ada"], "-Ω": GRADES["eve"]}
    grading.write_csv(grades, tmp_path / "grades.csv")
    data = (tmp_path / "grades.csv").read_bytes()
    assert data.startswith(codecs.BOM_UTF8 + b"name,") and data.count(b"\xef\xbb") == 1
    text = data.decode("utf-8-sig")
    assert "\r\nJürgen Müller,2,5 of 5," in text and "\r\n'-Ω,0," in text


def test_junit_has_a_suite_for_each_submission_and_a_case_for_each_step(tmp_path):
    grading.write_junit(GRADES, tmp_path / "grades.xml")
    suites = ElementTree.parse(tmp_path / "grades.xml").getroot()
    counts = {s.get("name"): (s.get("tests"), s.get("failures")) for s in suites}
    assert counts == {"ada": ("2", "0"), "bob": ("2", "1"), "eve": ("2", "2")}
    assert "\x1b" not in (tmp_path / "grades.xml").read_text()


def test_tables_are_the_same_for_the_same_grades(tmp_path):
    for name, grades in ("a", GRADES), ("b", dict(reversed(GRADES.items()))):
        grading.write_csv(grades, tmp_path / f"{name}.csv")
        grading.write_junit(grades, tmp_path / f"{name}.xml")
    for kind in "csv", "xml":
        one, other = (tmp_path / f"{name}.{kind}" for name in "ab")
        assert one.read_bytes() == other.read_bytes()


# ---- VMs that print anything, or nothing


def start(script):
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)


def test_output_within_the_time_is_read():
    with start("print('hello')") as process:
        assert listen(process, 30) == (b"hello\n", True)


def test_silent_process_is_ended_when_the_time_is_up():
    with start("import time; time.sleep(60)") as process:
        assert listen(process, 0.2) == (b"", False)
    assert process.returncode is not None


def test_endless_output_is_cut_off():
    with start("while True: print('x' * 4096)") as process:
        heard, in_time = listen(process, 30)
    assert len(heard) == MOST_OUTPUT and in_time
