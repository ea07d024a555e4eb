"""Builds the machine of the browser tab, and checks the cells of a lesson that ran in it."""

import sys
from typing import Any

import driver
import nbformat
import pytest

sys.path += [str(driver.PROJECT / "tests"), str(driver.PROJECT / "site/tab")]
from build_tab import NEEDED
from notebook_cells import complaints

Message = dict[str, Any]  # as site/tab/guest/cells.py describes them


def build_tab(config: pytest.Config, *words: driver.Word) -> str:
    """Runs site/tab/build_tab.py, with the packages that it needs. Returns its output."""
    driver.install(*NEEDED.values())
    quick = ["--quick"] if config.getoption("--tab-quick") else []
    build = driver.PROJECT / "site/tab/build_tab.py"
    return driver.run(build, *quick, *words, timeout=3600).stdout


def cell_complaints(cell: dict[str, Any], messages: list[Message]) -> list[str]:
    """Returns what is wrong with a code cell of a notebook that has sent these messages. Its
    metadata may have other patterns for the tab."""
    run = nbformat.from_dict(cell)
    run.metadata.update(expect=expected(cell))
    run.outputs = [output(message) for message in messages if shows(message)]
    return list(complaints(run))


def expected(cell: dict[str, Any]) -> list[str]:
    """Returns the patterns for a cell's output in the tab."""
    about = cell["metadata"]
    found: list[str] = about.get("tab", {}).get("expect", about.get("expect", []))
    return found


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
