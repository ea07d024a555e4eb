"""Slides made from a lesson's cells. tests/lab/test_slides.py looks at them in a browser."""

import nbformat

from workshop import slides


def cell(kind, text, **more):
    about = {"slideshow": {"slide_type": kind}} if kind else {}
    return nbformat.v4.new_markdown_cell(text, metadata=about | more)


def lesson():
    scene = {"title": "A scene", "say": "say this", "minutes": {}}
    cells = [cell("slide", "# One"), cell("fragment", "later"), cell("skip", "unseen")]
    cells += [cell("subslide", "below"), cell("notes", "a note"), cell("slide", "Two")]
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
    assert page.count('class="fragment"') == 1 and "unseen" not in page
    assert "&lt;T&gt;" in page and "<T>" not in page
