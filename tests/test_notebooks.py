"""The lessons and the appendix, run as they are, in a Jupyter kernel.

A cell's metadata may say what its output must be:
- the tag `raises-exception`: the cell must raise;
- `expect`: a list of patterns that its output must match.
workshop/lesson_runner.py explains `learner` and `only`. A check of all facts would take
minutes in an emulated VM, and other tests make it.
"""

import os
import re
from pathlib import Path

import nbformat
import pytest
from notebook_cells import code_cells, complaints, text
from pages import LESSONS, NOTEBOOKS, PROJECT
from runtime import eventually, host_state, shell

from workshop import lesson_runner

# What running a lesson needs. Without limits, 00 and 06 would take all of a machine's memory.
NEEDS = {"00": "cgroup2", "05": "debian13", "06": "cgroup2", "07": "cgroup2"}
NEEDS |= {"11": "debian13"}  # podman is only in the VM


def marks_of(path):
    """Returns the markers of a lesson. The quick rung runs one lesson as well: the first one
    that creates a namespace."""
    need = NEEDS.get(path.name[:2])
    marks = [pytest.mark.needs(need)] if need else []
    return [*marks, pytest.mark.quick] if path.stem == "01_uts" else marks


PARAMS = [pytest.param(path, marks=marks_of(path)) for path in NOTEBOOKS]


@pytest.mark.parametrize("notebook", PARAMS, ids=[path.stem for path in NOTEBOOKS])
def test_lesson_runs_and_its_cells_print_what_they_promise(
    notebook, monkeypatch, request
):
    sources = "\n".join(cell.source for cell in code_cells(notebook))
    temporary = set(re.findall(r"/(?:var/)?tmp/\w[\w.]*", sources))
    before = {path for path in temporary if os.path.exists(path)}
    host = host_state()
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "steps")])
    monkeypatch.setenv("PYTHONPATH", path)  # of the kernel
    with lesson_runner.temporary_workspace() as workspace:
        nb = lesson_runner.run(notebook, workspace)
    if folder := request.config.getoption("--keep-lessons"):
        nbformat.write(nb, Path(folder, notebook.name))
    eventually(lambda: host_state() == host, 5)
    assert host_state() == host
    assert {path for path in temporary if os.path.exists(path)} <= before
    wrong = [
        f"\ncell {cell.id}: {complaint}\n{cell.source}\n--- prints:\n{text(cell)}"
        for cell in nb.cells
        if cell.cell_type == "code"
        for complaint in complaints(cell)
    ]
    assert not wrong, "\n".join(wrong)


def test_lesson_7_leaves_the_images_alone_with_a_runtime_that_does_not_pass(
    tmp_path, monkeypatch
):
    """Its last parts write to the root filesystem, which is an image before step 07."""
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "steps")])
    monkeypatch.setenv("PYTHONPATH", path)  # of the kernel
    notebook = nbformat.read(next(p for p in LESSONS if p.stem == "07_overlay"), 4)
    cells = {cell.id: cell for cell in notebook.cells if cell.cell_type == "code"}
    names = list(cells)
    part = names[names.index("again-trap") : names.index("whole-run")]
    notebook.cells = [
        cells[name] for name in ["setup", "setup-paths", "mine-start", *part]
    ]
    nbformat.write(notebook, tmp_path / "07_overlay.ipynb")
    look = "cd /var/lib/workshop; find layers images rootfs -printf '%p %M %U %s %l\\n'"
    before = sorted(shell(look).lines)
    with lesson_runner.temporary_workspace() as workspace:
        nb = lesson_runner.run(tmp_path / "07_overlay.ipynb", workspace)
    said = {cell.id: text(cell) for cell in nb.cells}
    # The attacks work, so the runtime ran, and had an image that it could write to.
    assert "all is well" in said["again-by-hand"], said
    assert "BROKEN IN" in said["again-script"], said
    assert "is not an overlay, so it wrote nothing" in said["ship-commit"], said
    assert sorted(shell(look).lines) == before
    assert not os.path.exists("/var/tmp/image")
