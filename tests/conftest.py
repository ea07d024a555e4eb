"""Which runtime the facts are checked on: every finished step that they apply to, or with
--runtime one file, such as my/container.py."""

import os
import pathlib
import random
import re
import signal

import pytest
from runtime import PROJECT, STEPS, Runtime, nothing_left_behind, processes_with, shell

NUMBER = re.compile(r"test_(\d\d)_")
UNIT = pathlib.Path(__file__).parent / "unit"

# What a fact can need beyond a Linux kernel and root: the arguments of the needs marker.
NEEDS = {
    "cgroup2": "cgroup v2 with the controllers cpu, memory and pids",
    "debian13": "Debian 13 itself: the devices and settings of its kernel, its manual",
    "machine": "a machine of its own: it changes settings, or measures memory or disk",
}


def pytest_addoption(parser):
    group = parser.getgroup("workshop")
    group.addoption("--runtime", help="check this container.py and no other")
    group.addoption("--step", type=int, help="only the suites up to this step")
    group.addoption(
        "--quick",
        action="store_true",
        help="each suite on its own step and on the last one; of the rest, what is marked quick",
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


def pytest_configure(config):
    config.addinivalue_line("markers", "also_before: holds in the step before as well")
    config.addinivalue_line("markers", "alone: measures, with nothing else running")
    config.addinivalue_line("markers", "quick: part of `./lab test` without --all")
    for need, meaning in NEEDS.items():
        config.addinivalue_line("markers", f'needs("{need}"): {meaning}')


def pytest_ignore_collect(collection_path, config):
    """--runtime and --step ask for the steps' suites only, and --where for facts that need root
    and a kernel. --quick asks for nothing that needs no VM: hypothesis, which tests/unit
    imports, takes half a minute of an emulated one."""
    if collection_path == UNIT and (
        config.getoption("--quick") or config.getoption("--where")
    ):
        return True
    number, step = NUMBER.match(collection_path.name), config.getoption("--step")
    if collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    if number:
        return True if step is not None and int(number[1]) > step else None
    return True if step is not None or config.getoption("--runtime") else None


def needs_of(item):
    """Returns what a fact needs beyond a Linux kernel, as keys of NEEDS."""
    needs = {need for marker in item.iter_markers("needs") for need in marker.args}
    if not needs <= set(NEEDS):
        raise pytest.UsageError(f"{item.nodeid}: needs one of {', '.join(NEEDS)}")
    return needs


def is_quick(item):
    """Whether `./lab test` without --all runs this fact: one of a suite on its own step and on
    the last one, and others that are marked."""
    number = NUMBER.match(item.path.name)
    if not number:
        return item.get_closest_marker("quick") is not None
    step = (
        item.callspec.params.get("container_py") if hasattr(item, "callspec") else None
    )
    return step in (None, STEPS[int(number[1])], STEPS[-1])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """With --where, every selected fact has to run: one that skips itself fails."""
    report = (yield).get_result()
    if report.skipped and item.config.getoption("--where"):
        report.outcome = "failed"
        report.longrepr = f"selected by --where, it skips itself: {report.longrepr}"


def pytest_generate_tests(metafunc):
    number = NUMBER.match(pathlib.Path(metafunc.module.__file__).name)
    if "container_py" in metafunc.fixturenames and number:
        path = metafunc.config.getoption("--runtime")
        if path:
            steps = [pathlib.Path(path).resolve()]
        else:
            steps = [s for s in STEPS if int(s.parent.name[:2]) >= int(number[1])]
        ids = [path or step.parent.name for step in steps]
        # Of this scope, so that all suites are through with a step before the next one.
        metafunc.parametrize(
            "container_py", steps, ids=ids, indirect=True, scope="session"
        )


def pytest_collection_modifyitems(config, items):
    """All but tests/unit starts containers, or changes the machine in other ways. --quick: see
    is_quick(). --where: the facts of one place. pytest's summary says how many are deselected; none is skipped."""
    unit_only = all(UNIT in item.path.parents for item in items)
    if os.geteuid() != 0 and not (unit_only or config.getoption("--collect-only")):
        pytest.exit(
            "the suite starts containers: it needs root, try sudo. "
            "`pytest tests/unit` does without",
            returncode=2,
        )

    def chosen(item):
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
def ip_netns_has_been_used():
    """What `ip netns` mounts when it is first used stays, and is none of a container's."""
    if not os.path.ismount("/run/netns"):
        shell("ip netns add first-use; ip netns delete first-use")


@pytest.fixture(scope="session")
def container_py(request):
    """The container.py under test, as a Runtime."""
    return Runtime(request.param)


@pytest.fixture
def under_load(request, container_py):
    """Whether many containers are really many: they are for the finished container, but with
    --quick, and for a learner's, a few show the same."""
    return container_py.path == STEPS[-1] and not request.config.getoption("--quick")


@pytest.fixture
def image(tmp_path):
    """A root filesystem of the test's own: a copy of busybox's."""
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {tmp_path}/root")
    return tmp_path / "root"


@pytest.fixture
def network():
    """The host's side of step 04, on for a test and off afterwards."""
    shell(f"{PROJECT}/steps/network.sh on")
    yield
    shell(f"{PROJECT}/steps/network.sh off")


@pytest.fixture
def seconds():
    """A time to sleep that no other process sleeps; whoever does is ended afterwards."""
    text = f"1000.{random.randint(10**6, 10**7)}"
    yield text
    for pid in processes_with(text):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def runtime(container_py):
    """The container.py under test. After each test the host has to be as it was."""
    with nothing_left_behind():
        yield container_py
