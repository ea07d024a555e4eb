"""A learner's browser: headless Chromium on the lab's JupyterLab.

The lab starts from a copy of the project, so your my/ and your notebooks do not change.
The browser opens a lesson through the forwarded port, runs all its cells, edits
my/container.py in the editor and checks it. With --screenshots it also takes
screenshots of executed lessons, light and dark, one page in several pieces, for you to
look at."""

import json
import pathlib
import re
import shutil
from collections.abc import Iterator

import driver
import pytest
from driver import PROJECT
from learner import Learner
from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_order]
LESSON = "notebooks/01_uts.ipynb"
PIECE = {"width": 1200, "height": 1500}  # pixels of a screenshot
CELLS = json.loads((PROJECT / LESSON).read_text())["cells"]
CHECK = next(n for n, cell in enumerate(CELLS) if "learner" in cell["metadata"])
STEP = PROJECT / "steps" / CELLS[CHECK]["metadata"]["learner"] / "container.py"


def check_passes(shown: str) -> bool:
    passed = CELLS[CHECK]["metadata"]["expect"]
    return all(re.search(pattern, shown, re.M) for pattern in passed)


@pytest.fixture(scope="module")
def learner(place: pathlib.Path, chromium: Browser) -> Iterator[Learner]:
    """A learner at a browser, on a lab that is destroyed afterwards."""
    project = driver.copy_project(place / "project")
    lab = driver.Lab.spare(place / "lab", project)
    page = chromium.new_page(viewport=PIECE)
    try:
        lab.run("up")
        address = f"http://127.0.0.1:{lab.ports()[1]}/lab"
        yield Learner(page, address, lab.project, lab.token())
    finally:
        page.close()
        lab.run("destroy")


def test_every_cell_of_a_lesson_runs(learner: Learner) -> None:
    learner.open(LESSON)
    learner.run_all(CELLS)


def test_no_cell_has_an_unexpected_error(learner: Learner) -> None:
    assert not learner.errors(CELLS)


def test_all_pictures_are_shown(learner: Learner) -> None:
    sizes = {}
    for number in range(len(CELLS)):
        for picture in learner.cell(number).locator("img").all():
            name = picture.get_attribute("alt")[:40]
            sizes[name] = picture.evaluate(
                "async e => { await e.decode().catch(() => 0); return e.naturalWidth }"
            )
    assert sizes and all(sizes.values()), sizes


def test_check_fails_before_anything_is_written(learner: Learner) -> None:
    assert not check_passes(learner.outputs(CHECK))


def test_text_typed_into_my_container_py_is_saved_on_the_host(
    learner: Learner,
) -> None:
    learner.open("my/container.py")
    typed = STEP.read_text()
    learner.type_file(typed)
    mine = learner.project / "my/container.py"
    driver.wait_until(
        lambda: mine.read_text() == typed, 30, "my/container.py was not saved"
    )


def test_check_passes_with_the_step_written(learner: Learner) -> None:
    learner.open(LESSON)
    learner.run_cell(CHECK)
    shown = learner.outputs(CHECK)
    assert check_passes(shown), shown


def test_page_itself_has_no_error(learner: Learner) -> None:
    assert not learner.troubles


@pytest.mark.pictures
@pytest.mark.timeout(3600)
def test_pictures_of_the_lessons_are_taken(
    learner: Learner, request: pytest.FixtureRequest
) -> None:
    """Executes each lesson once, with its step written, and shows it light and dark."""
    folder = request.config.getoption("--screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    numbers = request.config.getoption("--lessons").replace(",", " ").split()
    taken = 0
    for path in sorted((PROJECT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if numbers and str(int(path.name[:2])) not in numbers:
            continue
        cells = json.loads(path.read_text())["cells"]
        steps = {c["metadata"]["learner"] for c in cells if "learner" in c["metadata"]}
        for step in steps:
            # As for a learner who wrote the step when the lesson asked for it.
            (learner.project / "my").mkdir(exist_ok=True)
            reference = PROJECT / "steps" / step / "container.py"
            shutil.copy(reference, learner.project / "my/container.py")
        learner.set_theme("JupyterLab Light")
        learner.open(f"notebooks/{path.name}")
        learner.run_all(cells)
        learner.save_notebook(path.name)
        for theme in "Light", "Dark":
            learner.set_theme(f"JupyterLab {theme}")
            learner.open(f"notebooks/{path.name}")
            name = folder / f"{path.stem}-{theme.lower()}"
            taken += scroll_through(learner.page, name)
    assert taken


def scroll_through(page: Page, name: pathlib.Path) -> int:
    """Takes screenshots NAME-00.png... of the open notebook. Returns how many."""
    page.keyboard.press("Control+B")  # hides the list of files
    pane = page.locator(".jp-WindowedPanel-outer").first
    pane.evaluate("e => e.querySelectorAll('details').forEach(d => d.open = true)")
    number = 0
    while True:
        pane.evaluate("(e, n) => e.scrollTop = n * (e.clientHeight - 60)", number)
        page.wait_for_timeout(700)  # for pictures and editors to appear
        page.screenshot(path=f"{name}-{number:02}.png")
        number += 1
        if pane.evaluate("e => e.scrollTop + e.clientHeight >= e.scrollHeight - 2"):
            return number
