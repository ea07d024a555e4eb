"""The options and fixtures that several files share. See run.py."""

import pathlib
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import driver
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HERE = pathlib.Path(__file__).resolve().parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leaves these tests out in the VM, where pytest has the project as its root."""
    return True if config.rootpath != HERE else None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lab")
    path = pathlib.Path
    group.addoption(
        "--screenshots", type=path, metavar="DIR", help="save screenshots here"
    )
    group.addoption(
        "--lessons",
        default="",
        metavar="N,N",
        help="take screenshots, make slides or check pages of these lessons only",
    )
    group.addoption(
        "--slides",
        type=path,
        metavar="DIR",
        help="check these slides instead of new ones",
    )
    group.addoption(
        "--site", type=path, metavar="DIR", help="check this web site, not a new one"
    )
    group.addoption(
        "--ran",
        type=path,
        metavar="DIR",
        help="take the lessons in this directory, which have run; run only the others",
    )
    group.addoption(
        "--tab",
        type=path,
        metavar="DIR",
        help="check this page with the machine in a tab instead of a new one",
    )
    group.addoption(
        "--tab-quick", action="store_true", help="build a tab that has run less before"
    )
    group.addoption(
        "--busy",
        action="store_true",
        help="only print the times of the tab, because this machine is busy",
    )
    group.addoption(
        "--forty", action="store_true", help="grade all submissions, not only a dozen"
    )
    group.addoption(
        "--kinds",
        default="",
        metavar="NAME,NAME",
        help="grade only submissions whose names begin with one of these",
    )
    group.addoption("--jobs", default="1", help="how many VMs grade at the same time")
    group.addoption("--grades", type=path, metavar="DIR", help="save the grades here")


def pytest_configure(config: pytest.Config) -> None:
    # With this, fixtures clean up even if a signal ends pytest.
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda *_: pytest.exit("stopped by a signal", 143))


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    if not config.getoption("--screenshots"):
        pictures = [item for item in items if item.get_closest_marker("pictures")]
        items[:] = [item for item in items if item not in pictures]
        config.hook.pytest_deselected(items=pictures)


# Where tests depend on those before them, the first one that failed.
_failed: dict[object, str] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and item.get_closest_marker("in_order"):
        _failed.setdefault(item.parent, item.name)
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.parent in _failed:
        pytest.fail(f"not run, because {_failed[item.parent]} failed", pytrace=False)


@pytest.fixture(scope="module")
def place() -> Iterator[pathlib.Path]:
    """A directory on the disk for the module's own files, which may be large."""
    with tempfile.TemporaryDirectory(prefix="lab-test.", dir="/var/tmp") as folder:
        yield pathlib.Path(folder)


@pytest.fixture(scope="session")
def lab() -> Iterator[driver.Lab]:
    """The running lab of this project. Afterwards it is as it was before."""
    lab = driver.Lab()
    there = lab.vm.exists()
    running = lab.running()
    try:
        if not running:
            lab.run("up", timeout=600)
        yield lab
    finally:
        if not running:
            lab.run("down" if there else "destroy")


@pytest.fixture(scope="session")
def left_to_run(request: pytest.FixtureRequest) -> list[str] | None:
    """The numbers of the lessons that --ran does not have, or None if it has none at all."""
    ran: pathlib.Path | None = request.config.getoption("--ran")
    there = {path.name for path in ran.glob("*.ipynb")} if ran else set()
    lessons = sorted((driver.PROJECT / "notebooks").glob("[0-9]*.ipynb"))
    left = [path.name[:2] for path in lessons if path.name not in there]
    return left if there else None


@pytest.fixture(scope="session")
def stick() -> Iterator[pathlib.Path]:
    """A USB stick as `./lab pack` fills it: a directory. Its name has a space in it."""
    with tempfile.TemporaryDirectory(prefix="lab-test.", dir="/var/tmp") as folder:
        stick = pathlib.Path(folder, "a stick")
        lab = driver.Lab.spare(pathlib.Path(folder, "lab"))
        lab.run("pack", stick, timeout=900)
        yield stick


@pytest.fixture(scope="module")
def chromium(request: pytest.FixtureRequest) -> Iterator["Browser"]:
    """Debian's Chromium, without a window. It ends with the module, because a thread
    with Playwright has a running event loop."""
    from playwright.sync_api import sync_playwright

    driver.install("chromium")
    with sync_playwright() as playwright:
        # See build_tab.py's NODE_COMMAND.
        busy = request.config.getoption("--busy")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--js-flags=--liftoff-only"] if busy else [],
        )
        yield browser
        browser.close()
