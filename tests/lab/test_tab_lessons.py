"""All lessons in the machine of the browser tab, under Node, which needs no browser.

Every cell must print what its metadata promise. A cell that cannot, because the machine in
the tab has no systemd, says in "tab" what it prints instead."""

import json
import pathlib
import subprocess
from typing import Any

import pytest
from driver import PROJECT
from tab_cells import build_tab, cell_complaints, expected

LESSONS = sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb"))
pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What the cells of the chosen lessons have sent. They run one after the other in one machine,
    because the emulator is slow in its first minute."""
    stages = json.loads(build_tab(request.config, "--stages").splitlines()[-1])
    chosen = [
        item.callspec.params["notebook"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.module is request.module
    ]
    command = [
        "node",
        PROJECT / "site/tab/node/lessons.mjs",
        pathlib.Path(stages["node"], "node_modules"),
        stages["disk"],
        pathlib.Path(stages["state"], "state.zst"),
        *chosen,
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("notebook", LESSONS, ids=[path.stem for path in LESSONS])
def test_lesson_prints_what_it_promises(
    notebook: pathlib.Path, results: list[dict[str, Any]]
) -> None:
    mine = [result for result in results if result["notebook"] == str(notebook)]
    cells = {c["id"]: c for c in json.loads(notebook.read_text())["cells"]}
    wrong, patterns = [], 0
    for result in mine:
        cell = cells[result["id"]]
        patterns += len(expected(cell))
        told = cell_complaints(cell, result["messages"])
        text = json.dumps(result["messages"])[-1500:]
        wrong += [f"{cell['id']}: {complaint}\n{text}" for complaint in told]
    seconds = sum(result["seconds"] for result in mine)
    print(f"{notebook.stem}: {len(mine)} cells, {patterns} patterns, {seconds:.0f} s")
    assert len(mine) == sum(cell["cell_type"] == "code" for cell in cells.values())
    assert not wrong, "\n".join(wrong)
