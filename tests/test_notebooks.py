"""The lessons and the appendix, run as they are, in a Jupyter kernel.

A cell's metadata may say what its output must be:
- the tag `raises-exception`: the cell must raise;
- `expect`: a list of patterns that its output must match.
workshop/lesson_runner.py explains `learner` and `only`. A check of all facts would take
minutes in an emulated VM, and other tests make it.
"""

import os
import re

import pytest
from notebook_cells import code_cells, complaints, text
from pages import NOTEBOOKS, PROJECT
from runtime import eventually, host_state

from workshop import lesson_runner

# What running a lesson needs. Without limits, 00 and 06 would take all of a machine's memory.
NEEDS = {"00": "cgroup2", "05": "debian13", "06": "cgroup2", "07": "cgroup2"}


def marks_of(path):
    """Returns the markers of a lesson. The quick rung runs one lesson as well: the first one
    that creates a namespace."""
    need = NEEDS.get(path.name[:2])
    marks = [pytest.mark.needs(need)] if need else []
    return [*marks, pytest.mark.quick] if path.stem == "01_uts" else marks


PARAMS = [pytest.param(path, marks=marks_of(path)) for path in NOTEBOOKS]


@pytest.mark.parametrize("notebook", PARAMS, ids=[path.stem for path in NOTEBOOKS])
def test_lesson_runs_and_its_cells_print_what_they_promise(notebook, monkeypatch):
    sources = "\n".join(cell.source for cell in code_cells(notebook))
    temporary = set(re.findall(r"/(?:var/)?tmp/\w[\w.]*", sources))
    before = {path for path in temporary if os.path.exists(path)}
    host = host_state()
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "steps")])
    monkeypatch.setenv("PYTHONPATH", path)  # of the kernel
    with lesson_runner.temporary_workspace() as workspace:
        nb = lesson_runner.run(notebook, workspace)
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
