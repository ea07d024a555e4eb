"""Controls a browser, for the tests that use JupyterLab as a learner does."""

import json
import pathlib
import re
import time
from typing import Any

import driver
import pytest
from playwright.sync_api import Locator, Page, TimeoutError

Cell = dict[str, Any]  # of a notebook, as its file has it

CELL = 400  # seconds for any one cell, even the check of all steps under emulation
PAGE = 120  # seconds for anything else that the page does


class Learner:
    """A learner at a browser, on the JupyterLab at an address. Its files are in a
    directory of this machine. A learner who is logged in already needs no token."""

    def __init__(
        self, page: Page, address: str, project: pathlib.Path, token: str | None = None
    ):
        self.page, self.address = page, address
        self.project, self.token = project, token
        self.troubles: list[str] = []  # errors of the page itself
        page.set_default_timeout(PAGE * 1000)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))

    def set_theme(self, name: str) -> None:
        """Does what the menu Settings, Theme does. The next page uses the theme."""
        plugin = "@jupyterlab/apputils-extension:themes"
        answer = self.page.request.put(
            f"{self.address}/api/settings/{plugin}",
            headers={"Authorization": f"token {self.token}"},
            data=json.dumps({"raw": json.dumps({"theme": name})}),
        )
        assert answer.ok, answer.text()

    def open(self, path: str) -> None:
        """Opens a file by its address, as a lab prints it."""
        # A workspace of its own: no other tabs, no memory of the last page.
        workspace = f"workspaces/{time.monotonic_ns()}"
        query = f"?token={self.token}" if self.token else ""
        self.page.goto(f"{self.address}/{workspace}/tree/{path}{query}")
        if path.endswith(".ipynb"):
            self.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
            # JupyterLab asks anyone who is faster than the kernel to choose a kernel.
            self.page.locator(".jp-KernelName", has_text="Python 3").wait_for()
            self.wait_until_idle()
        else:
            self.page.wait_for_selector(".jp-FileEditor .cm-content")

    def wait_until_idle(self) -> None:
        self.page.wait_for_selector(
            ".jp-Notebook-ExecutionIndicator[data-status=idle]", timeout=PAGE * 1000
        )

    def choose(self, menu: str, item: str) -> None:
        """Opens a menu, and chooses one of its items."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text=menu).first.click()
        label = re.compile(f"^{re.escape(item)}$")
        self.page.locator(".lm-Menu-itemLabel", has_text=label).click()

    def cell(self, number: int) -> Locator:
        """Returns the cell of this number in the file, after scrolling to it."""
        cell = self.page.locator(f'.jp-Cell[data-windowed-list-index="{number}"]')
        cell.scroll_into_view_if_needed()
        return cell

    def run_all(self, cells: list[Cell]) -> None:
        """Runs the whole notebook. Each code cell must get a number within its time."""
        self.choose("Run", "Run All Cells")
        self.wait_for_all(cells)

    def wait_for_all(self, cells: list[Cell]) -> None:
        for number, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                try:
                    self.wait_for_number(number)
                except TimeoutError:  # an unexpected error ends the whole run
                    pytest.fail(f"cell {number} did not run: {self.errors(cells)}")
        self.wait_until_idle()

    def wait_for_number(self, number: int) -> None:
        prompt = self.cell(number).locator(".jp-InputPrompt")
        prompt.filter(has_text=re.compile(r"\[\d+\]")).wait_for(timeout=CELL * 1000)

    def run_cell(self, number: int) -> None:
        """Puts the cursor into a cell and types Shift+Enter."""
        cell = self.cell(number)
        cell.locator(".cm-content").click()
        before = cell.locator(".jp-InputPrompt").inner_text()
        self.page.keyboard.press("Shift+Enter")
        prompt = cell.locator(".jp-InputPrompt").filter(has_text=re.compile(r"\[\d+\]"))
        prompt.filter(has_not_text=before).wait_for(timeout=CELL * 1000)
        self.wait_until_idle()

    def outputs(self, number: int) -> str:
        """Returns the output of a cell, as text."""
        return "\n".join(
            self.cell(number).locator(".jp-OutputArea-output").all_inner_texts()
        )

    def errors(self, cells: list[Cell]) -> list[str]:
        """Returns the id and output of each cell that shows an error but should not, or
        shows none but should."""
        wrong = []
        for number, cell in enumerate(cells):
            failed = self.cell(number).locator(
                '[data-mime-type="application/vnd.jupyter.stderr"]'  # tracebacks, too
            )
            expected = "raises-exception" in cell["metadata"].get("tags", [])
            if bool(failed.count()) != expected:
                wrong.append(f"{cell['id']}: {self.outputs(number)}")
        return wrong

    def save_notebook(self, name: str) -> None:
        """Saves with File, Save Notebook. Waits until the last result is on the
        disk."""
        self.choose("File", "Save Notebook")
        saved = self.project / "notebooks" / name
        driver.wait_until(
            lambda: '"execution_count": null' not in saved.read_text(),
            PAGE,
            f"{name} was not saved",
        )

    def type_file(self, text: str) -> None:
        """Replaces all text in the editor, and saves it."""
        self.page.locator(".jp-FileEditor .cm-content").click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(text)
        self.page.keyboard.press("Control+S")
