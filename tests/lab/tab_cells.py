"""Builds the machine of the browser tab, and checks the cells of a lesson that ran in it."""

import json
import pathlib
import sys
from dataclasses import dataclass
from typing import Any

import driver
import nbformat
import pytest

sys.path += [str(driver.PROJECT / "tests"), str(driver.PROJECT / "site/tab")]
from build_tab import NODE_COMMAND, missing_packages
from notebook_cells import complaints

Message = dict[str, Any]  # as site/tab/guest/cells.py describes them


@dataclass(frozen=True)
class Cell:
    """A code cell of a lesson, as it runs in the tab."""

    id: str
    learner: str | None  # the step whose reference my/container.py is then
    code: str
    expect: tuple[str, ...]  # patterns for its output
    source: dict[str, Any]  # from the notebook

    def complaints(self, messages: list[Message]) -> list[str]:
        """Returns what is wrong with this cell if it has sent these messages."""
        run = nbformat.from_dict(self.source)
        run.metadata.update(expect=list(self.expect))
        run.outputs = [output(message) for message in messages if shows(message)]
        text = json.dumps(messages)[-1500:]
        return [f"{self.id}: {complaint}\n{text}" for complaint in complaints(run)]


def build_tab(config: pytest.Config, *words: driver.Word) -> str:
    """Runs site/tab/build_tab.py, with the packages that it needs. Returns its output."""
    # By path: npm may be part of another package, as it is of NodeSource's.
    driver.install(*missing_packages())
    quick = ["--quick"] if config.getoption("--tab-quick") else []
    build = driver.PROJECT / "site/tab/build_tab.py"
    return driver.run(build, *quick, *words, timeout=3600).stdout


def node(script: str, *words: driver.Word) -> list[driver.Word]:
    """Returns the command that runs a script of site/tab/node."""
    return [*NODE_COMMAND, driver.PROJECT / "site/tab/node" / script, *words]


def code_cells(notebook: pathlib.Path, quick: bool) -> list[Cell]:
    """Returns the code cells of a lesson. The metadata "tab" of a cell may have other patterns.
    quick: check only the facts with the words "only" in their names."""
    cells = json.loads(notebook.read_text())["cells"]
    return [cell(c, quick) for c in cells if c["cell_type"] == "code"]


def cell(source: dict[str, Any], quick: bool) -> Cell:
    about = source["metadata"]
    here = about.get("tab", {})
    only, expect = about.get("only"), here.get("expect", about.get("expect", []))
    if quick and "only" in here:
        only, expect = here["only"], [r"^(\d+) of \1 facts? holds?\."]
    code = "".join(source["source"]) + (f' --only "{only}"' if only else "")
    return Cell(source["id"], about.get("learner"), code, tuple(expect), source)


def shows(message: Message) -> bool:
    return bool({"stream", "error", "result", "display"} & set(message))


def output(message: Message) -> nbformat.NotebookNode:
    """Returns a message as a notebook has it."""
    new = nbformat.v4.new_output
    if "stream" in message:
        return new("stream", name=message["stream"], text=message["text"])
    if "error" in message:
        about = {"ename": message["error"], "evalue": message["value"]}
        return new("error", traceback=message["traceback"], **about)
    return new("display_data", data=message.get("result") or message.get("display"))
