"""The cells of the lessons: what they show, and what is wrong with that."""

import re

import nbformat

COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def code_cells(notebook):
    return [c for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]


def text(cell):
    """What a cell shows, as a reader would read it."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        elif output.output_type == "error":
            parts += [f"{output.ename}: {output.evalue}", *output.traceback]
        else:
            parts.append(output.data.get("text/plain", ""))
    return COLOURS.sub("", "".join(parts)).replace("\r\n", "\n")


def complaints(cell):
    """What is wrong with an executed cell."""
    raised = [o.ename for o in cell.outputs if o.output_type == "error"]
    if raised and "raises-exception" not in cell.metadata.get("tags", []):
        yield f"it raises {raised[0]}"
    if not raised and "raises-exception" in cell.metadata.get("tags", []):
        yield "it does not raise"
    if "UsageError" in text(cell):
        yield "a magic is used wrongly"
    for pattern in cell.metadata.get("expect", []):
        if not re.search(pattern, text(cell), re.MULTILINE):
            yield f"no {pattern!r} in what it shows"
