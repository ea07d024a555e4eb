"""The half of pytest_plugin.py that runs in a sandbox: checks one fact, and finds out why it does
not hold. It is a plugin for pytest as well."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator
from typing import Any

import pytest

# mypy finds no pytest among the tools of the static checks.
# mypy: disable-error-code="untyped-decorator"


@dataclasses.dataclass(frozen=True)
class Found:
    """What a sandbox has found about its fact."""

    reports: list[dict[str, Any]]  # pytest's, of setup, call and teardown
    failure: dict[str, Any]  # the fields of Fact that describe why it does not hold

    def as_json(self) -> dict[str, Any]:
        """Returns it as a value that is fit for JSON. Found(**value) turns it back."""
        return dataclasses.asdict(self)


class Failed(BaseException):
    """Ends the check of a fact that does not hold: the sandbox is removed, so nothing must be
    torn down for the next fact."""


class Listener:
    """Collects the reports of a fact: setup, call, teardown."""

    def __init__(self) -> None:
        self.reports: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append(report)
        if report.failed:
            raise Failed


def check(item: pytest.Function) -> Found:
    """Checks one fact. Returns what the process outside needs to know about it."""
    plugins, listener = item.config.pluginmanager, Listener()
    plugins.unregister(name="terminalreporter")
    plugins.register(listener)
    with contextlib.suppress(Failed):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
    to_json = item.config.hook.pytest_report_to_serializable
    reports = [to_json(config=item.config, report=r) for r in listener.reports]
    return Found(reports, item.stash.get(FAILURE, {}))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison in an assertion that has failed. Both sides are shortened texts."""

    operator: str
    left: str
    right: str

    def expected(self) -> str:
        """Returns what the test has expected, in words."""
        return EXPECTED[self.operator].format(left=self.left, right=self.right)

    def happened(self) -> str:
        """Returns what was there instead."""
        return self.right if "in" in self.operator else self.left


EXPECTED = {  # by the operator of the comparison
    "==": "{right}",
    "!=": "anything but {right}",
    "in": "{left} in it",
    "not in": "no {left} in it",
    ">=": "{right} or more",
    "<=": "{right} or less",
    ">": "more than {right}",
    "<": "less than {right}",
    "is": "{right}",
    "is not": "anything but {right}",
}
FAILURE = pytest.StashKey[dict[str, Any]]()  # of an item: the fields of Fact
LAST_RESULT = pytest.StashKey[Any]()  # of an item: the last Result of its own
COMPARISON = pytest.StashKey[Comparison]()  # of the config: the last that has failed


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> None:
    """Keeps a comparison that has failed."""
    config.stash[COMPARISON] = Comparison(op, brief(left), brief(right))


def brief(value: object) -> str:
    """Returns repr(value) without the middle if it is long."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-90:]}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Function) -> None:
    """Forgets the commands that the fixtures have run."""
    from runtime import Result

    Result.last = None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Keeps the reason if a fact does not hold."""
    report = yield
    from runtime import Result

    if call.when == "call":
        item.stash[LAST_RESULT] = Result.last  # later ones are the fixtures'
    if call.excinfo is not None and FAILURE not in item.stash:
        item.stash[FAILURE] = failure(item, call.excinfo)
    return report


def failure(
    item: pytest.Function, error: pytest.ExceptionInfo[BaseException]
) -> dict[str, Any]:
    """Returns the fields of Fact that describe why a fact does not hold."""
    fields: dict[str, Any] = {}
    if entries := [entry for entry in error.traceback if entry.path == item.path]:
        fields["where"] = f"{item.path.name}:{entries[-1].lineno + 1}"
        fields["assertion"] = " ".join(str(entries[-1].statement).split())
    comparison = item.config.stash.get(COMPARISON, None)
    if error.errisinstance(AssertionError) and comparison:
        fields["expected"] = comparison.expected()
        fields["happened"] = comparison.happened()
    else:
        lines = str(error.value).strip().splitlines() or [error.typename]
        if not lines[0].startswith("command:"):  # a Result, which is reported below
            fields["happened"] = lines[0].removeprefix("AssertionError: ")
    if last := item.stash.get(LAST_RESULT, None):
        fields["command"] = " ".join(map(str, last.argv))
        fields["status"] = last.status
        fields["said"] = (last.err.strip() or last.out.strip())[-600:]
    return fields
