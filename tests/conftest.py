"""Which runtime the facts are checked on: every finished step that they apply to, but of the
encores only a suite's own and the last one; or the one file that --runtime names, such as
my/container.py."""

import os
import pathlib
import random
import re
import signal
from collections.abc import Generator, Iterator
from typing import Any

import pytest
from runtime import (
    FINISHED,
    LAST,
    PROJECT,
    STEPS,
    STORY,
    Runtime,
    nothing_left_behind,
    processes_with,
    shell,
)

NUMBER = re.compile(r"test_(\d\d)_")
UNIT = pathlib.Path(__file__).parent / "unit"

# The arguments of the marker `needs`: what a fact can need beyond a Linux kernel and root.
NEEDS = {
    "cgroup2": "cgroup v2 with the controllers cpu, memory and pids",
    "debian13": "Debian 13 itself: its kernel's devices and settings, and its manual pages",
    "machine": "a machine for itself, because it changes settings, or measures memory or disk",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("workshop")
    group.addoption("--runtime", help="check this container.py and no other")
    group.addoption("--step", type=int, help="only the suites up to this step")
    group.addoption(
        "--quick",
        action="store_true",
        help="each suite on its own step and on the last one, and other facts marked quick",
    )
    group.addoption(
        "--not-quick", action="store_true", help="only what --quick leaves out"
    )
    group.addoption(
        "--where",
        choices=["native", "vm"],
        help="native: only the facts that any Linux kernel can show; "
        "vm: only the others, whose needs marker says what they need",
    )
    group.addoption(
        "--keep-lessons",
        metavar="DIR",
        help="save the lessons that test_notebooks.py runs here, with their output",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "also_before: passes on the step before as well")
    config.addinivalue_line(
        "markers", "alone: measures something, so nothing else may run at the same time"
    )
    config.addinivalue_line("markers", "quick: part of `./lab test` without --all")
    config.addinivalue_line(
        "markers",
        "told(*cells, given=()): the lesson's cells that tell what the fact demands; "
        "tests/unit/test_told.py compares them",
    )
    for need, meaning in NEEDS.items():
        config.addinivalue_line("markers", f'needs("{need}"): {meaning}')


def pytest_ignore_collect(
    collection_path: pathlib.Path, config: pytest.Config
) -> bool | None:
    """--runtime and --step select only the suites of the steps, and --where only facts
    that need root and a kernel. --quick leaves out tests/unit, which needs no VM:
    importing hypothesis takes half a minute in an emulated one."""
    # A directory that the command line names is not asked about, but its files are.
    if UNIT in (collection_path, *collection_path.parents) and (
        config.getoption("--quick") or config.getoption("--where")
    ):
        return True
    number, step = NUMBER.match(collection_path.name), config.getoption("--step")
    if collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    if number:
        return True if step is not None and int(number[1]) > step else None
    return True if step is not None or config.getoption("--runtime") else None


def needs_of(item: pytest.Item) -> set[str]:
    """Returns what a fact needs beyond a Linux kernel, as keys of NEEDS."""
    needs = {need for marker in item.iter_markers("needs") for need in marker.args}
    if not needs <= set(NEEDS):
        raise pytest.UsageError(f"{item.nodeid}: needs one of {', '.join(NEEDS)}")
    return needs


def is_quick(item: pytest.Item) -> bool:
    """Returns whether `./lab test` without --all runs this fact: a suite's facts on its own
    step and on the last one before the encores, and all other facts that are marked quick."""
    number = NUMBER.match(item.path.name)
    if not number:
        return item.get_closest_marker("quick") is not None
    step = (
        item.callspec.params.get("container_py") if hasattr(item, "callspec") else None
    )
    own = STEPS[int(number[1])]
    return own in STORY and step in (None, own, FINISHED)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """With --where, every selected fact must run, so a fact that skips itself fails."""
    report = (yield).get_result()
    if report.skipped and item.config.getoption("--where"):
        report.outcome = "failed"
        report.longrepr = (
            f"--where selected this fact, but it skips itself: {report.longrepr}"
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    number = NUMBER.match(pathlib.Path(metafunc.module.__file__).name)
    if "container_py" in metafunc.fixturenames and number:
        path = metafunc.config.getoption("--runtime")
        if path:
            steps = [pathlib.Path(path).resolve()]
        else:
            later = STEPS[int(number[1]) :]
            # The last encore has all that the ones before it have, so these need no run.
            chosen = {later[0], *STORY, LAST}
            steps = [step for step in later if step in chosen]
        ids = [path or step.parent.name for step in steps]
        # The session scope makes all suites finish a step before they go to the next one.
        metafunc.parametrize(
            "container_py", steps, ids=ids, indirect=True, scope="session"
        )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Deselects what --quick and --where leave out, so that pytest's summary counts it,
    and nothing is skipped. Stops if the facts need root and we are not root: all tests
    except tests/unit start containers, or change the machine in other ways."""
    unit_only = all(UNIT in item.path.parents for item in items)
    if os.geteuid() != 0 and not (unit_only or config.getoption("--collect-only")):
        pytest.exit(
            "the suite starts containers, so it needs root: try sudo. "
            "`pytest tests/unit` works without root",
            returncode=2,
        )

    def chosen(item: pytest.Item) -> bool:
        if config.getoption("--where") == ("native" if needs_of(item) else "vm"):
            return False
        if config.getoption("--quick"):
            return is_quick(item)
        return not (config.getoption("--not-quick") and is_quick(item))

    left_out = [item for item in items if not chosen(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if chosen(item)]


@pytest.fixture(scope="session", autouse=True)
def ip_netns_has_been_used() -> None:
    """The first use of `ip netns` leaves a mount behind. This fixture makes it before
    any container does."""
    if not os.path.ismount("/run/netns"):
        shell("ip netns add first-use; ip netns delete first-use")


@pytest.fixture(scope="session")
def container_py(request: pytest.FixtureRequest) -> Runtime:
    """The container.py under test, as a Runtime."""
    return Runtime(request.param)


@pytest.fixture
def under_load(request: pytest.FixtureRequest, container_py: Runtime) -> bool:
    """Whether tests with many containers really start many. They do for the finished
    container. With --quick, and for a learner's, a few are enough."""
    return container_py.path == LAST and not request.config.getoption("--quick")


@pytest.fixture
def image(tmp_path: pathlib.Path) -> pathlib.Path:
    """A root filesystem for this test alone: a copy of busybox's."""
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {tmp_path}/root")
    return tmp_path / "root"


@pytest.fixture
def network() -> Iterator[None]:
    """Switches the host's side of step 04 on for a test, and off afterwards."""
    shell(f"{PROJECT}/steps/network.sh on")
    yield
    shell(f"{PROJECT}/steps/network.sh off")


@pytest.fixture
def seconds() -> Iterator[str]:
    """A time to sleep that no other process uses. Afterwards, the processes that still
    sleep it are killed."""
    text = f"1000.{random.randint(10**6, 10**7)}"
    yield text
    for pid in processes_with(text):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def runtime(container_py: Runtime) -> Iterator[Runtime]:
    """The container.py under test. After each test the host must be as it was
    before."""
    with nothing_left_behind():
        yield container_py
