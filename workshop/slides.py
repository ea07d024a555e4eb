"""Slides made from a lesson that has run.

The metadata of each cell say where it goes, as everywhere in Jupyter: slideshow.slide_type is
slide (a new one, to the right), subslide (a new one, below), fragment (on the same slide, shown
later), skip, notes (for the speaker), or nothing (on the same slide). What the speaker says in a
demo's scene is a note as well.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from workshop.pages import page


@dataclasses.dataclass(frozen=True)
class Part:
    """A cell on a slide."""

    html: str
    fragment: bool  # whether it is shown only when the speaker goes on


@dataclasses.dataclass(frozen=True)
class Slide:
    """A slide, with notes for the speaker."""

    parts: list[Part] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


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
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "")
        if kind == "skip":
            continue
        if kind == "slide" or not found:
            found.append([])
        if kind in ("slide", "subslide") or not found[-1]:
            found[-1].append(Slide())
        slide = found[-1][-1]
        if kind == "notes":
            slide.notes.append(cell.source)
            continue
        slide.parts.append(Part(cell_html(cell), kind == "fragment"))
        if scene := cell.metadata.get("demo"):
            slide.notes.append(scene["say"])
    return found


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
