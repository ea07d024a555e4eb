"""A plugin for pytest (`-p workshop.pytest_plugin`): checks every fact in a sandbox, a few at a
time, and reports it as soon as it has ended, in the order of the suites.

--facts DESCRIPTOR: where to write each fact, as a line of JSON: see workshop/facts.py.

pytest_failures.py is the half that runs in the sandbox.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import re
import select
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from workshop.errors import UNREADABLE
from workshop.facts import Fact
from workshop.pytest_failures import Found, check
from workshop.sandbox import Ending, Sandbox
from workshop.staging import Staging

pytest_plugins = ["workshop.pytest_failures"]
AT_ONCE = 3  # facts, because they wait more than they compute
ALONE_FACTOR = 3  # a fact that measures may take this many times longer
ACRONYMS = re.compile(r"\b(pid|ipc|uts|dns|cpu|nat)\b")
FILES_LOST = (
    "the process that checks cannot reach the host's files any more: the runtime has "
    "unmounted them, or has changed the host's root"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the options of the plugin."""
    # Before conftest.py imports it, so that pytest explains its assertions, too.
    pytest.register_assert_rewrite("runtime")
    group = parser.getgroup("workshop")
    group.addoption(
        "--facts", type=int, help="the descriptor that facts are written to"
    )
    group.addoption("--staging", type=Path, help="the sandboxes' staging directory")
    group.addoption("--only", help="only the facts with this in their name")
    group.addoption("--in-turn", action="store_true", help="stop at a suite that fails")
    group.addoption(
        "--fact-seconds", type=float, default=60, help="the limit of a fact"
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Function]
) -> None:
    """Selects the facts of --only, and moves those that measure to the end of their suite."""
    if only := config.getoption("--only"):
        part = only.lower().replace("_", " ").removeprefix("test ")
        chosen = [item for item in items if part in name_of(item).lower()]
        config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
        items[:] = chosen
    suites = list(dict.fromkeys(item.path for item in items))
    items.sort(key=lambda item: (suites.index(item.path), is_alone(item)))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Reuses the usage that the runtime printed when it was first started."""
    from runtime import usages

    config = session.config
    usage = Staging(config.getoption("--staging")).usage
    if usage.exists():
        usages[Path(config.getoption("--runtime")).resolve()] = usage.read_text()


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Checks all facts, in place of pytest's own loop."""
    counts = collections.Counter(step_of(item) for item in session.items)
    Staging(session.config.getoption("--staging")).planned.write_text(
        json.dumps(counts)
    )
    Schedule(session).run()
    return True


def name_of(item: pytest.Function) -> str:
    """Returns a fact in plain words, from the name of its test: test_x_is_y[container.py-z]
    becomes "x is y (z)"."""
    words = item.originalname.removeprefix("test_").replace("_", " ")
    words = ACRONYMS.sub(lambda match: match[0].upper(), words)
    runtime = item.config.getoption("--runtime")
    rest = item.callspec.id.replace(runtime, "").strip("-") if runtime else ""
    return f"{words} ({rest})" if rest else words


def step_of(item: pytest.Function) -> str:
    """Returns the number of a fact's step."""
    match = re.match(r"test_(\d\d)_", item.path.name)
    assert match, item.path
    return match[1]


def told(item: pytest.Function) -> str | None:
    """Returns the cells of lessons that tell what a fact demands, as in Fact.told, or None if
    its test does not name any. The marker may leave out the lesson if it is the step's own."""
    cells = [cell for marker in item.iter_markers("told") for cell in marker.args]
    lesson = item.path.stem.removeprefix("test_")
    return " ".join(c if "/" in c else f"{lesson}/{c}" for c in cells) or None


def is_alone(item: pytest.Function) -> bool:
    """Returns whether a fact measures, so that nothing else may run with it."""
    return item.get_closest_marker("alone") is not None


@dataclasses.dataclass(frozen=True)
class Running:
    """A fact that is being checked."""

    item: pytest.Function
    sandbox: Sandbox
    begin: float  # time.monotonic()


class Schedule:
    """Checks the facts of a session, and writes them to --facts. If one takes too long, or if
    a fact of the first suite (with --in-turn, of any suite) does not hold, no other suite
    begins."""

    def __init__(self, session: pytest.Session):
        self.session, self.config = session, session.config
        self.waiting: list[pytest.Function] = list(session.items)
        self.running: list[Running] = []
        self.done: dict[pytest.Function, Fact] = {}
        self.unreported = list(self.waiting)

    def run(self) -> None:
        """Checks the facts."""
        try:
            while self.waiting or self.running:
                while self.waiting and self.may_start(self.waiting[0]):
                    self.start(self.waiting.pop(0))
                if not self.running:
                    break
                self.finish_some()
                while self.unreported and self.unreported[0] in self.done:
                    self.report(self.unreported.pop(0))
        finally:
            for running in self.running:
                running.sandbox.end()
        for item in self.unreported:  # an earlier fact was not checked
            if item in self.done:
                self.report(item)

    def may_start(self, item: pytest.Function) -> bool:
        """Returns whether the check of a fact may begin now."""
        others = [running.item for running in self.running]
        if others:  # the suite before this one must end first
            alone = is_alone(item) or any(map(is_alone, others))
            return item.path == others[0].path and not alone and len(others) < AT_ONCE
        begun = {other.path for other in self.done}
        return not begun or item.path in begun or self.may_go_on()

    def may_go_on(self) -> bool:
        """Returns whether another suite may begin."""
        in_turn, first = self.config.getoption("--in-turn"), next(iter(self.done)).path
        return all(
            fact.holds
            for item, fact in self.done.items()
            if in_turn or item.path == first
        )

    def start(self, item: pytest.Function) -> None:
        """Starts the check of a fact in a sandbox."""
        seconds = self.config.getoption("--fact-seconds")
        seconds *= ALONE_FACTOR if is_alone(item) else 1
        begin, staging = time.monotonic(), Staging(self.config.getoption("--staging"))
        sandbox = Sandbox(lambda: check(item).as_json(), staging, seconds)
        self.running.append(Running(item, sandbox, begin))

    def finish_some(self) -> None:
        """Waits until a sandbox sends something or its time is up. Finishes the sandboxes that
        are complete or late."""
        deadline = min(running.sandbox.deadline for running in self.running)
        left = max(deadline - time.monotonic(), 0)
        sandboxes = [running.sandbox for running in self.running]
        ready = select.select(sandboxes, [], [], left)[0]
        for running in list(self.running):
            late = time.monotonic() > running.sandbox.deadline
            if late or (running.sandbox in ready and running.sandbox.read()):
                self.running.remove(running)
                self.finish(running, running.sandbox.finish(late))
                if late:  # all the others would be late, too
                    self.waiting.clear()

    def finish(self, running: Running, ending: Ending) -> None:
        """Makes a Fact of what a sandbox has found, and passes its reports on to pytest."""
        item = running.item
        values: dict[str, Any] = {
            "step": step_of(item),
            "name": name_of(item),
            "why": " ".join((item.function.__doc__ or "").split()),
            "test": item.nodeid,
            "seconds": round(time.monotonic() - running.begin, 2),
            "late": ending.late,
            "told": told(item),
        }
        try:
            found = Found(**ending.result)
            from_json = self.config.hook.pytest_report_from_serializable
            reports = [from_json(config=self.config, data=d) for d in found.reports]
            holds = all(report.passed for report in reports)
            fact = Fact.parse(values | found.failure | {"holds": holds})
        except UNREADABLE:
            text = problem(ending, running.sandbox.seconds)
            fact = Fact(**values, holds=False, happened=text)
            report = pytest.TestReport(
                item.nodeid, item.location, {}, "failed", text, "call", duration=0
            )
            reports = [report]
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in reports:
            self.session.testsfailed += report.failed
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        self.done[item] = fact

    def report(self, item: pytest.Function) -> None:
        """Writes a fact to the descriptor --facts."""
        descriptor = self.config.getoption("--facts")
        if descriptor is not None:
            line = json.dumps(self.done[item].as_json())
            os.write(descriptor, f"{line}\n".encode())


def problem(ending: Ending, seconds: float) -> str:
    """Returns why a sandbox has found nothing."""
    if ending.late:
        return f"nothing came back within {seconds:.0f} s"
    if ending.status > 128:
        name = signal.Signals(ending.status - 128).name
        return f"the process that checks was killed by {name}"
    return FILES_LOST
