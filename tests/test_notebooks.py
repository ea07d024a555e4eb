"""The lessons, executed as they are, in a Jupyter kernel.

What a cell's metadata may say:
- the tag `raises-exception`: it must raise, not only may;
- `expect`: patterns that its output must have;
- `learner`: before this cell, the learner has brought my/container.py to where that step is;
- `only`: its `workshop check` is asked for the facts with this word alone. All of them, and
  those of the steps before, take minutes under emulation, and have tests of their own.
"""

import os
import pathlib
import re

import nbformat
import pytest
from runtime import PROJECT, eventually, host_state

from workshop import slides

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


# One lesson is executed by the quick rung, too: the first that makes a namespace.
PARAMS = [
    pytest.param(path, marks=pytest.mark.quick if path.stem == "01_uts" else ())
    for path in NOTEBOOKS
]


@pytest.fixture(params=PARAMS, ids=[path.stem for path in NOTEBOOKS])
def notebook(request):
    return request.param


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


def test_executes_and_shows_what_it_promises(notebook):
    sources = "\n".join(cell.source for cell in code_cells(notebook))
    temporary = set(re.findall(r"/(?:var/)?tmp/\w[\w.]*", sources))
    before = {path for path in temporary if os.path.exists(path)}
    host = host_state()
    with slides.learners_folder() as my:
        nb = slides.executed(notebook, my)
    eventually(lambda: host_state() == host, 5)
    assert host_state() == host
    assert {path for path in temporary if os.path.exists(path)} <= before
    wrong = [
        f"\ncell {cell.id}: {complaint}\n{cell.source}\n--- shows:\n{text(cell)}"
        for cell in nb.cells
        if cell.cell_type == "code"
        for complaint in complaints(cell)
    ]
    assert not wrong, "\n".join(wrong)


def test_is_committed_without_outputs(notebook):
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None, cell.id


def test_has_stable_readable_cell_ids_and_the_plain_kernel(notebook):
    nb = nbformat.read(notebook, 4)
    assert nb.metadata.kernelspec.name == "python3"
    for cell in nb.cells:
        assert re.fullmatch(r"[a-z][a-z0-9-]*", cell.id), cell.id
        assert not re.fullmatch(r"[0-9a-f]{8}", cell.id), f"{cell.id}: made by Jupyter"


def test_cells_have_five_lines_at_most(notebook):
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 5, cell.source


def test_pictures_exist_and_have_a_text_alternative(notebook):
    found = 0
    for cell in nbformat.read(notebook, 4).cells:
        for alternative, path in re.findall(r"!\[(.*?)\]\((.*?)\)", cell.source):
            found += 1
            assert len(alternative) > 40, f"{path}: say what it shows"
            svg = pathlib.Path(notebook.parent, path).read_text()
            assert "<title" in svg and "<desc" in svg and "prefers-color-scheme" in svg
    assert found


def test_links_to_files_lead_somewhere(notebook):
    for cell in nbformat.read(notebook, 4).cells:
        for path in re.findall(r"\]\((?!https?:|#)([^)]+)\)", cell.source):
            if not path.startswith("../my/"):  # the learner's, made by a cell
                assert pathlib.Path(notebook.parent, path).exists(), path


def test_a_cell_that_does_not_raise_or_show_what_it_should_is_found():
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": ["raises-exception"]})
    cell.metadata["expect"] = ["2"]
    cell.outputs = [nbformat.v4.new_output("stream", text="1")]
    assert len(list(complaints(cell))) == 2
    cell.outputs = [
        nbformat.v4.new_output("error", ename="E", evalue="2", traceback=[])
    ]
    assert list(complaints(cell)) == []
    del cell.metadata["tags"]
    assert list(complaints(cell)) == ["it raises E"]
