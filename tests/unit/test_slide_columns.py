"""Slides made from a lesson's cells. tests/lab/test_slides.py looks at them in a browser."""

import nbformat
import pytest

from workshop import lesson_runner, slides
from workshop.commands import slides as slides_command


def cell(kind, text, **more):
    about = {"slideshow": {"slide_type": kind}} if kind else {}
    return nbformat.v4.new_markdown_cell(text, metadata=about | more)


def lesson():
    scene = {"title": "A scene", "say": "say this", "minutes": {}}
    cells = [cell("slide", "# One"), cell("fragment", "later"), cell("skip", "unseen")]
    cells += [
        cell("subslide", "## below"),
        cell("notes", "a note"),
        cell("slide", "Two"),
    ]
    cells += [cell("", "more of it", demo=scene)]
    return nbformat.v4.new_notebook(cells=cells)


def test_cells_become_columns_of_slides_with_fragments():
    first, second = slides.columns(lesson())
    assert [len(first), len(second)] == [2, 1]
    one, later = first[0].parts
    assert "One" in one.html and not one.fragment
    assert "later" in later.html and later.fragment
    assert len(second[0].parts) == 2


def test_notes_are_cells_of_notes_and_what_the_speaker_says_in_a_demo():
    first, second = slides.columns(lesson())
    assert [slide.notes for slide in first] == [[], ["a note"]]
    assert second[0].notes == ["say this"]


def test_page_of_a_deck_has_its_slides_and_escapes_its_title():
    deck = slides.deck("00", lesson())
    assert deck.title == "One" and len(deck) == 3
    page = slides.Deck("00", "<T>", deck.columns).as_html().decode()
    assert page.count('class="part fragment"') == 1 and "unseen" not in page
    assert "&lt;T&gt;" in page and "<T>" not in page


def test_command_takes_lessons_that_have_run(tmp_path, monkeypatch):
    monkeypatch.setattr(lesson_runner, "run", lambda path, _: 1 / 0)
    ran = nbformat.v4.new_notebook(cells=[cell("slide", "# Has run")])
    nbformat.write(ran, tmp_path / "01_uts.ipynb")
    words = ["--ran", str(tmp_path), str(tmp_path / "out"), "1"]
    assert slides_command.main(words) == 0
    assert "Has run" in (tmp_path / "out/01_uts.html").read_text()


def test_command_writes_a_page_for_each_lesson_and_a_list_of_them(
    tmp_path, monkeypatch, capsys
):
    """Here the lessons are read, but not run."""
    monkeypatch.setattr(lesson_runner, "run", lambda path, _: nbformat.read(path, 4))
    assert slides_command.main([str(tmp_path / "out"), "1", "2"]) == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"01_uts.html", "02_pid.html", "index.html", "images"}
    index = (tmp_path / "out/index.html").read_text()
    assert index.index('href="01_uts.html"') < index.index('href="02_pid.html"')
    assert "02_pid: " in capsys.readouterr().out


def test_question_is_a_large_part_before_its_answer():
    text = "The host has a secret. *Only* root reads it. **Guess:** who else? And why?"
    first, second = slides.columns(
        nbformat.v4.new_notebook(cells=[cell("slide", "# T"), cell("slide", text)])
    )
    statement, question = second[0].parts
    assert "Only" in statement.html and not statement.question
    assert "Guess" in question.html and "And why?" in question.html
    assert question.question and not question.fragment
    assert not any(part.question for part in first[0].parts)


@pytest.mark.parametrize(
    ("paragraph", "question"),
    [
        ("One. Two? Three.", ""),
        ("One. Is it two?", "Is it two?"),
        ("Is it `two`?", "Is it `two`?"),
        ("- a list, or?", ""),
        ("## A heading?", ""),
        ("", ""),
    ],
)
def test_question_is_the_last_sentence(paragraph, question):
    assert slides.split_question(paragraph)[1] == question


def test_text_before_a_heading_ends_the_slide_before():
    code = nbformat.v4.new_code_cell(
        "1", metadata={"slideshow": {"slide_type": "fragment"}}
    )
    cells = [
        cell("slide", "# T\n\nReally?"),
        code,
        cell("subslide", "No.\n\n## Next\n\nSo?"),
    ]
    [[one, two]] = slides.columns(nbformat.v4.new_notebook(cells=cells))
    assert "No." in one.parts[-1].html and one.parts[-1].fragment
    assert "Next" in two.parts[0].html and two.parts[1].question


def test_answer_without_a_cell_of_its_own_ends_the_slide_before():
    cells = [
        cell("slide", "# T\n\nReally?"),
        cell("subslide", "No."),
        cell("slide", "# U"),
    ]
    [[one], [_]] = slides.columns(nbformat.v4.new_notebook(cells=cells))
    assert "No." in one.parts[-1].html and one.parts[-1].fragment


def test_long_answer_is_a_slide_of_its_own():
    code = nbformat.v4.new_code_cell(
        "1\n" * 20, metadata={"slideshow": {"slide_type": "fragment"}}
    )
    cells = [
        cell("slide", "# T\n\nReally?"),
        code,
        cell("subslide", "No.\n\n## Next\n\nSo?"),
    ]
    [[one, two, three]] = slides.columns(nbformat.v4.new_notebook(cells=cells))
    assert (
        len(one.parts) == 3
        and "No." in two.parts[0].html
        and "Next" in three.parts[0].html
    )
