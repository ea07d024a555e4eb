"""The cells of the lessons: their output, and whether it is as the metadata promise."""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def code_cells(notebook: Path) -> list[NotebookNode]:
    """Returns the code cells of a notebook."""
    return [c for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]


def text(cell: NotebookNode) -> str:
    """Returns the output of a cell as a reader sees it."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts += [f"{output.ename}: {output.evalue}", *output.traceback]
        else:
            parts.append(output.data.get("text/plain", ""))
    return COLOURS.sub("", "".join(parts)).replace("\r\n", "\n")


def complaints(cell: NotebookNode) -> Iterator[str]:
    """Yields what is wrong with a cell that has run."""
    raised = [o.ename for o in cell.outputs if o.output_type == "error"]
    if raised and "raises-exception" not in cell.metadata.get("tags", []):
        yield f"it raises {raised[0]}"
    if not raised and "raises-exception" in cell.metadata.get("tags", []):
        yield "it does not raise"
    if "UsageError" in text(cell):
        yield "it uses a magic in the wrong way"
    for pattern in cell.metadata.get("expect", []):
        if not re.search(pattern, text(cell), re.MULTILINE):
            yield f"its output does not match {pattern!r}"
