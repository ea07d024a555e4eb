"""`workshop class`: makes one table of many reports."""

import codecs
import csv
import json
import os
import re
import shutil

import pytest
from runtime import STEPS

FACTS = ["its host name stays inside", "a queue of the host is not seen"]
REASON = {"why": "", "happened": "<b>nothing</b>"}


@pytest.fixture
def folder(learner):
    return learner.my.parent


def report_of(learner, folder, name, held, passed=()):
    """Writes a real report, of a learner whose last check found that `held` facts of step 01
    hold."""
    learner.has(STEPS[1].read_text())
    facts = [
        {"step": "01", "name": fact, "holds": number < held, **REASON}
        for number, fact in enumerate(FACTS)
    ]
    when = "2026-01-02T03:04:05+00:00"
    state = learner.my / ".workshop"
    state.mkdir()
    last = {"when": when, "step": "01", "facts": facts, "sha256": ""}
    (state / "last.json").write_text(json.dumps(last))
    (state / "last.xml").write_text("<testsuites/>")
    done = {number: {"when": when, "facts": 2} for number in passed}
    progress = {"version": 1, "passed": done, "hints": {"01": 3}, "asked": []}
    (state / "progress.json").write_text(json.dumps(progress))
    words = ["report", "--out", str(folder)] + (["--name", name] if name else [])
    said = learner.type(" ".join(words))
    assert said.returncode == 0, said
    shutil.rmtree(learner.my)


@pytest.fixture
def reports(learner, folder):
    people = [("ada", "Ada", 2, ["00", "01"]), ("bob", "=Bob()", 0, ["00"])]
    people += [("nameless", None, 1, ["00"])]
    for place, name, held, passed in people:
        (folder / place).mkdir()
        report_of(learner, folder / place, name, held, passed)
    return learner


def test_tables_show_where_everyone_is_and_the_facts_that_fail_most(folder, reports):
    done = reports.type(f"class {folder} --out {folder}/all")
    assert done.returncode == 0 and not done.stderr, done
    lines = done.stdout.splitlines()
    order = [line.split()[1] for line in lines if "/2" in line]
    assert order == ["Ada", "nameless", "=Bob()"], done.stdout
    most = next(line for line in lines if re.match(r"│ 2 +│ 01 ", line))
    assert "a queue of" in most, done.stdout
    with open(folder / "all/class.csv", encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["Ada", "nameless", "'=Bob()"]
    assert [row["passed"] for row in rows] == ["00 01", "00", "00"]
    assert [row["held"] for row in rows] == ["2", "1", "0"]
    assert rows[0]["stuck"] == "" and rows[2]["stuck"] == f"01 · {FACTS[0]}"
    assert {row["hints"] for row in rows} == {"3"}
    page = (folder / "all/class.html").read_text()
    assert page.count('class="done"') == 4 and FACTS[1] in page
    assert "http" not in page  # it loads nothing


def test_csv_has_the_mark_by_which_excel_knows_utf_8(learner, folder):
    (folder / "one").mkdir()
    report_of(learner, folder / "one", "Müller-Lüdenscheidt", 1)
    learner.type(f"class {folder} --out {folder}/all")
    data = (folder / "all/class.csv").read_bytes()
    assert data.startswith(codecs.BOM_UTF8 + b"name,") and data.count(b"\xef\xbb") == 1
    assert "Müller-Lüdenscheidt".encode() in data
    page = (folder / "all/class.html").read_bytes()
    assert b'charset="utf-8"' in page and "Müller".encode() in page


def test_file_that_is_not_a_report_is_named_and_the_others_are_shown(folder, reports):
    (folder / "ada/report.json").write_text('{"steps": []}')
    done = reports.type(f"class {folder}")
    assert done.returncode == 1 and "=Bob()" in done.stdout, done
    assert re.fullmatch(
        r"workshop: left out: .*/ada/report.json is not.*\n", done.stderr
    )


@pytest.mark.parametrize("kind", ["FIFO", "endless", "device"])
def test_what_is_no_file_does_not_keep_the_others_waiting(folder, reports, kind):
    path = folder / "ada/report.json"
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "endless" else "/dev/tty")
    done = reports.type(f"class {folder}")
    assert done.returncode == 1 and "=Bob()" in done.stdout, done
    assert re.fullmatch(r"workshop: left out: .*/ada/report.json.*\n", done.stderr)


def test_no_report_is_an_error_in_one_line(learner, folder):
    done = learner.type(f"class {folder}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    done = learner.type(f"class {folder}/none.json")
    assert done.returncode == 1 and "none.json: No such file" in done.stderr, done
    assert not os.listdir(folder)
