"""Slides made from a lesson that has run.

The metadata of each cell say where it goes, as everywhere in Jupyter: slideshow.slide_type is
slide (a new one, to the right), subslide (a new one, below), fragment (on the same slide, shown
later), skip, notes (for the speaker), or nothing (on the same slide). What the speaker says in a
demo's scene is a note as well.

In a lesson a text often ends with a question, which the next cell answers, and the text after
that one begins with the answer's explanation. On slides the question is large and alone at
first. Then its code and output join it, and after them the text that comes before the next
heading, if there is room.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

from workshop.pages import page

ROOM = 19  # lines that a slide can have, or its letters become small


@dataclasses.dataclass(frozen=True)
class Part:
    """A cell on a slide."""

    html: str
    fragment: bool  # whether it is shown only when the speaker goes on
    lines: float  # about how many lines of text it has
    question: bool = False  # whether it is large


@dataclasses.dataclass(frozen=True)
class Slide:
    """A slide, with notes for the speaker."""

    parts: list[Part] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, part: Part) -> None:
        """Adds a part at the end. The first one is shown from the beginning."""
        shown = part.fragment and bool(self.parts)
        self.parts.append(dataclasses.replace(part, fragment=shown))


@dataclasses.dataclass(frozen=True)
class Deck:
    """The slides of one lesson: columns, side by side, of slides one below the other."""

    name: str  # of the notebook, without .ipynb
    title: str
    columns: list[list[Slide]]

    def __len__(self) -> int:
        """Returns the number of slides."""
        return sum(len(column) for column in self.columns)

    def as_html(self) -> bytes:
        """Returns a page that shows the slides with reveal.js."""
        return page("slides.html", {"title": self.title, "columns": self.columns})


def deck(name: str, notebook: Any) -> Deck:
    """Returns the slides of a notebook of nbformat that has run."""
    title = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
    return Deck(name, title, columns(notebook))


def columns(notebook: Any) -> list[list[Slide]]:
    """Returns the columns of slides of a notebook."""
    found: list[list[Slide]] = []
    cells = [cell for cell in notebook.cells if kind_of(cell) != "skip"]
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        kind = kind_of(cell)
        text = Text.of(cell.source) if cell.cell_type == "markdown" else None
        if text and kind == "subslide" and found and found[-1]:
            if kind_of(following) != "fragment" and not text.question:
                text = text.all_before()
            if text.before:
                answer = markdown_part(text.before, True)
                if sum(p.lines for p in found[-1][-1].parts) + answer.lines > ROOM:
                    found[-1].append(Slide())
                found[-1][-1].add(answer)
                text = dataclasses.replace(text, before="")
            if not text.body and not text.question:
                continue
        if kind == "slide" or not found:
            found.append([])
        if kind in ("slide", "subslide") or not found[-1]:
            found[-1].append(Slide())
        slide = found[-1][-1]
        if kind == "notes":
            slide.notes.append(cell.source)
            continue
        if text:
            for part in text.parts(kind == "fragment"):
                slide.add(part)
        else:
            slide.add(code_part(cell, kind == "fragment"))
        if scene := cell.metadata.get("demo"):
            slide.notes.append(scene["say"])
    return found


def kind_of(cell: Any) -> str:
    """Returns the slide type of a cell, or "slide" if there is no cell."""
    if cell is None:
        return "slide"
    about: dict[str, str] = cell.metadata.get("slideshow", {})
    return about.get("slide_type", "")


@dataclasses.dataclass(frozen=True)
class Text:
    """The text of a cell: what comes before its first heading, which ends the slide before;
    the rest; and the question at its end. Each can be empty."""

    before: str
    body: str
    question: str

    @classmethod
    def of(cls, source: str) -> Text:
        """Returns the text of a cell."""
        before, heading, after = re.split(r"(?m)(^#|\Z)", source, maxsplit=1)
        if not heading:
            before, after = "", source
        *rest, last = (heading + after).strip().split("\n\n")
        statement, question = split_question(last)
        return cls(before.strip(), "\n\n".join([*rest, statement]).strip(), question)

    def all_before(self) -> Text:
        """Returns the same text as the end of the slide before, unless it has a heading."""
        return self if re.search(r"(?m)^#", self.body) else Text(self.body, "", "")

    def parts(self, fragment: bool) -> list[Part]:
        """Returns the parts of a slide."""
        whole = "\n\n".join(text for text in (self.before, self.body) if text)
        parts = [markdown_part(whole, fragment)] if whole else []
        if self.question:
            part = markdown_part(self.question, fragment)
            parts.append(dataclasses.replace(part, question=True))
        return parts


def split_question(paragraph: str) -> tuple[str, str]:
    """Splits a paragraph of Markdown into statements and the question at its end: from the
    word in bold that announces it, or else its last sentence. Each can be empty. A list, a
    heading, a picture or HTML has no question."""
    if not paragraph.rstrip("*_) ").endswith("?") or paragraph[:1] in "-<|!#123456789":
        return paragraph, ""
    sentences = re.split(r"(?<=[.!?:])\s+(?=[A-Z*`])", paragraph)
    bold = [n for n, sentence in enumerate(sentences) if sentence.startswith("**")]
    begin = bold[-1] if bold else len(sentences) - 1
    return " ".join(sentences[:begin]), " ".join(sentences[begin:])


def markdown_part(source: str, fragment: bool) -> Part:
    """Returns a part that shows Markdown."""
    import nbformat

    lines = sum(1 + len(paragraph) // 85 for paragraph in source.split("\n\n"))
    return Part(cell_html(nbformat.v4.new_markdown_cell(source)), fragment, lines)


def code_part(cell: Any, fragment: bool) -> Part:
    """Returns a part that shows a cell with code and its outputs."""
    outputs = [
        o.get("text") or o.get("data", {}).get("text/plain", "") for o in cell.outputs
    ]
    lines = sum(text.count("\n") + 1 for text in [cell.source, *outputs])
    return Part(cell_html(cell), fragment, 0.8 * lines)


def cell_html(cell: Any) -> str:
    """Returns a cell as JupyterLab shows it, as HTML."""
    import nbformat

    alone = nbformat.v4.new_notebook(cells=[cell])
    html: str = exporter().from_notebook_node(alone)[0]
    return html


@functools.cache
def exporter() -> Any:
    """Returns nbconvert's exporter for cells without a page around them. It is made only
    once, because it reads its templates then."""
    from nbconvert import HTMLExporter

    bare = HTMLExporter(template_name="basic")
    bare.exclude_input_prompt = bare.exclude_output_prompt = True
    bare.exclude_anchor_links = True
    return bare
