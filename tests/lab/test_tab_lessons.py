"""All lessons in the machine of the browser tab, under Node, which needs no browser.

Every cell must print what its metadata promise. A cell that cannot, because the machine in
the tab has no systemd, says in "tab" what it prints instead. With --tab-quick, the lessons'
checks run fewer facts, because a whole check takes minutes there."""

import dataclasses
import json
import pathlib
import subprocess
from typing import Any

import pytest
from tab_cells import Cell, build_tab, code_cells, node
from tab_lessons import LESSONS

pytestmark = pytest.mark.timeout(7200)
Results = list[tuple[Cell, dict[str, Any]]]  # each with what lessons.mjs prints


@pytest.fixture(scope="module")
def results(
    request: pytest.FixtureRequest, place: pathlib.Path
) -> dict[pathlib.Path, Results]:
    """What the cells of the chosen lessons have sent. They run one after the other in one machine,
    because the emulator is slow in its first minute."""
    stages = json.loads(build_tab(request.config, "--stages").splitlines()[-1])
    quick = request.config.getoption("--tab-quick")
    chosen = {
        notebook: code_cells(notebook, quick)
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
        for notebook in [item.callspec.params["notebook"]]
    }
    cells = place / "cells.json"
    lists = [[dataclasses.asdict(cell) for cell in cells] for cells in chosen.values()]
    cells.write_text(json.dumps(lists))
    command = node(
        "lessons.mjs",
        pathlib.Path(stages["node"], "node_modules"),
        stages["disk"],
        pathlib.Path(stages["state"], "state.zst"),
        cells,
    )
    # If it ends too early, the lessons that it has finished still count, and the others fail.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = iter(map(json.loads, done.stdout.splitlines()))
    return {
        notebook: list(zip(cells, lines, strict=False))
        for notebook, cells in chosen.items()
    }


@pytest.mark.parametrize("notebook", LESSONS, ids=[path.stem for path in LESSONS])
def test_lesson_prints_what_it_promises(
    notebook: pathlib.Path, results: dict[pathlib.Path, Results]
) -> None:
    wrong, patterns, seconds = [], 0, 0.0
    for cell, result in results[notebook]:
        assert result["id"] == cell.id
        wrong += cell.complaints(result["messages"])
        patterns += len(cell.expect)
        seconds += result["seconds"]
    count = len(results[notebook])
    print(f"{notebook.stem}: {count} cells, {patterns} patterns, {seconds:.0f} s")
    assert count == len(code_cells(notebook, quick=False))
    assert not wrong, "\n".join(wrong)
