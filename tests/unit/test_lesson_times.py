"""How long the lessons and the paths take: tests/lesson_times.py. tests/guide/test_paths.py
plays the paths."""

import lesson_times
import pytest
from lesson_times import PATHS, Lesson, Section, lessons
from runtime import PROJECT, STEPS

from workshop.project import STORY
from workshop.scenes import scenes


FILES = lesson_times.files()


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_file_says_how_long_it_takes(file):
    """`tests/lesson_times.py --write` writes it."""
    assert file.read_text() == FILES[file]


def test_times_are_in_every_lesson_the_readme_and_teaching():
    assert len(FILES) == len(STEPS) + 2


def test_every_lesson_takes_time_to_read_and_all_but_the_first_to_write():
    assert [*lessons()] == [step.parent.name[:2] for step in STEPS]
    for one in lessons().values():
        assert one.reading >= 20 and one.reading % lesson_times.ROUNDED_TO == 0
        assert (one.writing > 0) == (one.number != "00")
    assert lesson_times.added_lines("02") == 1


def test_words_are_those_that_are_read():
    count = lesson_times.words
    assert count("Two **words**, `three`.") == 3
    assert count("![a picture of it](images/x.svg)\n\none") == 1
    assert count("[a page](https://example.org/a/b)") == 2
    answer = "<details><summary>1. Why not?</summary>\n\nBecause.\n</details>"
    assert count(answer) == 3


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Nothing to answer.", 0),
        ("Why? Because.\n\nIt goes on.", 0),
        ("It goes on.\n\n**Question.** How many?", 1),
        ("It goes on.\n\n**Predict** the numbers.", 1),
        ("## Questions\n\n<details><summary>1. Why?</summary>\n\nSo.\n</details>", 1),
    ],
)
def test_questions_are_those_that_the_reader_is_asked(text, count):
    assert lesson_times.questions(text) == count


def test_section_build_it_counts_as_writing_wherever_it_begins():
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "*About 5 minutes.*"]},
        {"cell_type": "code", "source": ["1"]},
        {"cell_type": "markdown", "source": ["the end\n", "\n", "## Build it\n", "do"]},
        {"cell_type": "code", "source": ["1"]},
        {"cell_type": "markdown", "source": ["## Further reading\n", "much"]},
    ]
    found = lesson_times.sections({"cells": cells})
    assert found[""] == Section(words=3, cells=1)
    assert found["Build it"] == Section(words=3, cells=1)
    assert found["Further reading"].words == 3


def test_minutes_are_rounded_up_and_grow_with_the_lesson():
    path = PROJECT / "notebooks/02_pid.ipynb"
    short = Lesson("02", path, Section(150 * 9, 3), Section(), 1)
    assert (short.reading, short.writing) == (10, 5)
    assert (
        short.line() == "*About 15 minutes: 10 to read and run, 5 to write the step.*"
    )
    longer = Lesson("02", path, Section(150 * 9, 3, 1), Section(150), 23)
    assert (longer.reading, longer.writing) == (15, 30)
    nothing = Lesson("00", path, Section(150 * 9, 3), Section(), 0)
    assert nothing.line() == "*About 10 minutes.*"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_path_has_every_lesson_once_and_fits_its_time(path):
    parts = [part for part in path.parts() if part.action in ("read", "write", "show")]
    # The encores are for those who want more: they are on no path.
    expected = [step.number for step in STORY]
    assert [number for part in parts for number in part.lessons] == expected
    for session in path.sessions:
        assert session.minutes() <= session.limit, session.name
        assert session.minutes() == sum(part.minutes() for part in session.parts)
    for part in parts:
        if part.action != "read":
            assert {s.lesson for s in scenes(part.cut, part.lessons)} == {*part.lessons}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_learner_on_a_path_always_has_the_step_that_the_next_lesson_begins_with(
    path, learner
):
    """tests/guide/test_paths.py also runs the attacks and the checks."""
    sources = {step.parent.name[:2]: step.read_text() for step in STEPS}
    before = dict(zip([*sources][1:], sources.values(), strict=False))
    for part in path.parts():
        for command in part.commands():
            words = command.removeprefix("workshop ")
            if words.startswith("solve"):
                assert learner.type(words).returncode == 1
                assert learner.type(words).returncode == 0
        if part.action in ("read", "write") and part.lessons != ("00",):
            [number] = part.lessons
            if number == "01":
                assert learner.type("start").returncode == 0
            assert learner.path.read_text() == before[number]
            learner.has(sources[number])
    assert learner.path.read_text() == sources[path.passes]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_teaching_promises_what_the_path_leads_to(path):
    text = lesson_times.TEACHING.read_text().split(f"\n## {path.name}\n")[1]
    text = " ".join(text.split("\n## ")[0].split())
    assert f"everyone's runtime passes steps 00 to {path.passes}" in text
    assert ("everyone has a certificate" in text) == (path.passes == "07")


def test_the_sum_of_the_lessons_is_the_promise_of_the_readme():
    minutes = sum(lessons()[step.number].minutes for step in STORY)
    said = lesson_times.total().split(" hours")[0].split()[-1].replace("½", ".5")
    assert abs(float(said) * 60 - minutes) <= 15
