"""Which runtime the facts are checked on: every finished step that they apply to, or with
--runtime one file, such as my/container.py."""

import os
import pathlib
import re

import pytest
from runtime import STEPS, Runtime, nothing_left_behind

NUMBER = re.compile(r"test_(\d\d)_")


def pytest_addoption(parser):
    group = parser.getgroup("workshop")
    group.addoption("--runtime", help="check this container.py and no other")
    group.addoption("--step", type=int, help="only the suites up to this step")


def pytest_configure(config):
    config.addinivalue_line("markers", "also_before: holds in the step before as well")
    if os.geteuid() != 0:
        pytest.exit(
            "the suite starts containers: it needs root, try sudo", returncode=2
        )


def pytest_ignore_collect(collection_path, config):
    """--runtime and --step ask for the steps' suites only."""
    number, step = NUMBER.match(collection_path.name), config.getoption("--step")
    if collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    if number:
        return True if step is not None and int(number[1]) > step else None
    return True if step is not None or config.getoption("--runtime") else None


def pytest_generate_tests(metafunc):
    number = NUMBER.match(pathlib.Path(metafunc.module.__file__).name)
    if "runtime" in metafunc.fixturenames and number:
        path = metafunc.config.getoption("--runtime")
        if path:
            steps = [pathlib.Path(path).resolve()]
        else:
            steps = [s for s in STEPS if int(s.parent.name[:2]) >= int(number[1])]
        ids = [path or step.parent.name for step in steps]
        metafunc.parametrize("runtime", steps, ids=ids, indirect=True, scope="session")


@pytest.fixture(scope="session")
def _runtimes():
    return {}


@pytest.fixture
def runtime(request, _runtimes):
    """The container.py under test. After the test the host has to be as it was."""
    if request.param not in _runtimes:
        _runtimes[request.param] = Runtime(request.param)
    with nothing_left_behind():
        yield _runtimes[request.param]
