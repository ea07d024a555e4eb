"""All lessons in the machine of the browser tab, under Node, which needs no browser.

Every cell must print what its metadata promise. A cell that cannot, because the machine in
the tab has no systemd, says in "tab" what it prints instead."""

import json
import os
import pathlib
import subprocess

import pytest
from driver import PROJECT
from tab_cells import build_tab, cell_complaints, expected

LESSONS = sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb"))
pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="session")
def stages(request: pytest.FixtureRequest) -> dict[str, pathlib.Path]:
    """The directories of the stages that site/tab/build_tab.py has made."""
    output = build_tab(request.config, "--stages")
    found: dict[str, str] = json.loads(output.splitlines()[-1])
    return {name: pathlib.Path(path) for name, path in found.items()}


@pytest.mark.parametrize("notebook", LESSONS, ids=[path.stem for path in LESSONS])
def test_lesson_prints_what_it_promises(
    notebook: pathlib.Path, stages: dict[str, pathlib.Path]
) -> None:
    modules, state = stages["node"] / "node_modules", stages["state"] / "state.zst"
    command = [
        "node",
        PROJECT / "site/tab/node/lessons.mjs",
        modules,
        stages["disk"],
        state,
        notebook,
    ]
    cells = {c["id"]: c for c in json.loads(notebook.read_text())["cells"]}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    wrong, ran, patterns, seconds = [], 0, 0, 0.0
    for line in done.stdout.splitlines():
        result = json.loads(line)
        cell = cells[result["id"]]
        ran, seconds = ran + 1, seconds + result["seconds"]
        patterns += len(expected(cell))
        told = cell_complaints(cell, result["messages"])
        text = json.dumps(result["messages"])[-1500:]
        wrong += [f"{cell['id']}: {complaint}\n{text}" for complaint in told]
    print(f"{notebook.stem}: {ran} cells, {patterns} patterns, {seconds:.0f} s")
    if folder := os.environ.get("TAB_OUTPUT"):
        pathlib.Path(folder, f"{notebook.stem}.jsonl").write_text(done.stdout)
    assert ran == sum(cell["cell_type"] == "code" for cell in cells.values())
    assert not wrong, "\n".join(wrong)
