"""The lessons, executed as they are, in a Jupyter kernel.

What a cell's metadata may say:
- the tag `raises-exception`: it must raise, not only may;
- `expect`: patterns that its output must have;
- `learner`: before this cell, the learner has brought my/container.py to where that step is;
- `only`: its `workshop check` is asked for the facts with this word alone. All of them, and
  those of the steps before, take minutes under emulation, and have tests of their own.
"""

import os
import re

import pytest
from notebook_cells import code_cells, complaints, text
from pages import LESSONS
from runtime import eventually, host_state

from workshop.commands import slides


# What executing a lesson needs. Without limits, 00 and 06 take all memory of a machine.
NEEDS = {"00": "cgroup2", "05": "debian13", "06": "cgroup2", "07": "cgroup2"}


def marks_of(path):
    """Returns the markers of a lesson. The quick rung executes one lesson, too: the first that
    makes a namespace."""
    need = NEEDS.get(path.name[:2])
    marks = [pytest.mark.needs(need)] if need else []
    return [*marks, pytest.mark.quick] if path.stem == "01_uts" else marks


PARAMS = [pytest.param(path, marks=marks_of(path)) for path in LESSONS]


@pytest.mark.parametrize("notebook", PARAMS, ids=[path.stem for path in LESSONS])
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
