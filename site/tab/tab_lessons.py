"""The lessons as the page needs them: each notebook's cells, with their text as HTML."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = PROJECT / "notebooks"
# Without the encores: lesson 8 needs a registry, which the machine does not have.
LESSONS = [
    *sorted(NOTEBOOKS.glob("0[0-7]_*.ipynb")),
    NOTEBOOKS / "appendix_process.ipynb",
]


def all_lessons() -> list[dict[str, Any]]:
    """Returns the lessons in order."""
    return [lesson(path) for path in LESSONS]


def lesson(path: Path) -> dict[str, Any]:
    """Returns a lesson: its name, such as 03_mnt, its title as HTML, and its cells."""
    cells = json.loads(path.read_text())["cells"]
    heading = re.search(r"^# (.+)", "".join(cells[0]["source"]), re.MULTILINE)
    title = html.escape(heading[1] if heading else path.stem)
    return {"name": path.stem, "title": title, "cells": [cell(c) for c in cells]}


def cell(source: dict[str, Any]) -> dict[str, Any]:
    """Returns a cell: {"id", "code"} or {"id", "html"}. A cell that cannot be as in the lab's
    VM has a "note"."""
    text = "".join(source["source"])
    if source["cell_type"] != "code":
        return {"id": source["id"], "html": rendered(text)}
    found = {"id": source["id"], "code": text}
    if note := source["metadata"].get("tab", {}).get("note"):
        found["note"] = note
    return found


def rendered(text: str) -> str:
    """Returns Markdown as HTML. Links to the project's files get a meaning on the page."""
    markdown = MarkdownIt("commonmark", {"html": True}).enable(
        ["table", "strikethrough"]
    )
    return re.sub(r'<a href="([^"]*)"', link, markdown.render(text))


def link(match: re.Match[str]) -> str:
    """Returns the beginning of a link. Another lesson is a place on the page; the learner's
    own file is in the editor; a file of the project opens in the terminal."""
    address = match[1]
    if address.startswith(("http:", "https:", "#")):
        return f'<a target="_blank" rel="noopener" href="{address}"'
    if address.endswith(".ipynb"):
        return f'<a href="#{Path(address).stem}"'
    if address.startswith("../my/"):
        return '<a href="#" data-open="editor"'
    return f'<a href="#" data-type="less {address.removeprefix("../")}"'


def copy_images(folder: Path) -> None:
    """Copies the lessons' pictures to the page's folder."""
    shutil.copytree(NOTEBOOKS / "images", folder / "images", dirs_exist_ok=True)
