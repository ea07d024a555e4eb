"""The half of pytest_plugin.py that runs in a sandbox: checks one fact, and finds out why it does
not hold. It is a plugin for pytest as well."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import textwrap
from collections.abc import Generator
from typing import Any

import pytest

from workshop.assertions import Comparison, in_words, raised
from workshop.refusals import in_one_line

# mypy finds no pytest among the tools of the static checks.
# mypy: disable-error-code="untyped-decorator"


LONGEST = 600  # characters of an output that is reported as a whole


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


FAILURE = pytest.StashKey[dict[str, Any]]()  # of an item: the fields of Fact
LAST_RESULT = pytest.StashKey[Any]()  # of an item: the last Result of its own
COMPARISONS = pytest.StashKey[list[Comparison]]()  # of the config: of failed assertions


def pytest_assertrepr_compare(
    config: pytest.Config, op: str, left: object, right: object
) -> None:
    """Keeps the comparisons of an assertion that has failed."""
    config.stash.setdefault(COMPARISONS, []).append(Comparison.of(op, left, right))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Function) -> None:
    """Forgets the commands that the fixtures have run, and their comparisons."""
    from runtime import Result

    Result.last = None
    item.config.stash[COMPARISONS] = []


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
    from runtime import Result

    fields: dict[str, Any] = {}
    if entries := [entry for entry in error.traceback if entry.path == item.path]:
        fields["where"] = f"{item.path.name}:{entries[-1].lineno + 1}"
        fields["assertion"] = " ".join(str(entries[-1].statement).split())
    # A helper of the tests, such as assert_one_line_error, may have made the assertion.
    helpers = [
        entry for entry in error.traceback if entry.path.parent == item.path.parent
    ]
    statement, last = "", item.stash.get(LAST_RESULT, None)
    if helpers:
        statement = textwrap.dedent(str(helpers[-1].statement))
        # A test can have run more commands since, to clean up.
        about = helpers[-1].frame.f_locals.get("result")
        if isinstance(about, Result) and re.search(r"\bresult\b", statement):
            last = about
    if error.errisinstance(AssertionError):
        comparisons = item.config.stash.get(COMPARISONS, [])
        words = in_words(statement, comparisons, str(error.value))
    else:
        words = raised(error.value, statement)
    fields |= {k: v for k, v in dataclasses.asdict(words).items() if v is not None}
    if last:
        fields["command"] = " ".join(map(str, last.argv))
        fields["status"] = last.status
        fields["said"] = shortened(in_one_line(last.err.strip() or last.out.strip()))
    return fields


def shortened(said: str) -> str:
    """Returns what a command has printed, but of a long text only the beginning of its first
    line and the end of its last one."""
    if len(said) <= LONGEST:
        return said
    first, last = said.splitlines()[0], said.splitlines()[-1]
    half = LONGEST // 2
    return f"{first[:half]}\n…\n{last[-half:]}"
