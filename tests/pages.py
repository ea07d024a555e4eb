"""Reads the README, the docs and the lessons as text, and finds the commands in
them."""

import json
import pathlib
import re

PROJECT = pathlib.Path(__file__).resolve().parent.parent
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
LESSONS = sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))  # and the appendix
LINKS = PROJECT / "docs" / "links.txt"


def prose(path: pathlib.Path, kind: str = "markdown") -> str:
    """Returns the text of a page, or the text of a notebook's cells of one kind."""
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == kind)


def commands(page: pathlib.Path) -> list[str]:
    """Returns the commands that a page shows: the lines of its code blocks, and each
    `span` that starts like a command."""
    text = prose(page)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [
        line.partition("  #")[0] for block in blocks for line in block.splitlines()
    ]
    spans = re.findall(
        r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    )
    found = [re.sub(r"\s+", " ", line).strip() for line in lines + spans]
    begin = re.compile(
        r"(LAB=\w+ )?\./lab \w|(sudo )?steps/\S+|(diff|vagrant|workshop) \w"
    )
    # A path alone is a command only as a line of a block. In a span it needs arguments.
    return [
        command
        for n, command in enumerate(found)
        if begin.match(command) and (n < len(lines) or " " in command)
    ]


def listed() -> list[str]:
    """Returns the web addresses that docs/links.txt lists."""
    lines = LINKS.read_text().splitlines()
    return [line.split()[0] for line in lines if line and line[0] != "#"]
