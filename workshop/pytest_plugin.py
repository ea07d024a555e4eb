"""A plugin of pytest (`-p workshop.facts`): each fact is checked behind a fence of its own, a
few at a time, and told as soon as it has ended, in the suites' order.

--facts DESCRIPTOR: told there, as a line of JSON:
    {"step": "03", "name": "root is the image (debian)", "test": "tests/…::test_…", "holds":
     true, "seconds": 0.1}
and where it does not hold also "expected", "happened", "command", "status", "said", "assertion",
"where", "why": text, each of them, or null where there is none.
"""

import contextlib
import json
import os
import re
import select
import signal
import time
from pathlib import Path

import pytest

from workshop import sandbox

AT_ONCE = 3  # facts: they wait more than they compute
WORD = re.compile(r"\b(pid|ipc|uts|dns|cpu|nat)\b")
_compared: list[tuple] = []  # the last comparison that failed: (operator, left, right)

pytest.register_assert_rewrite("runtime")


def pytest_addoption(parser):
    group = parser.getgroup("workshop")
    group.addoption("--facts", type=int, help="where to tell of each fact")
    group.addoption("--bench", help="the fences' directory: see sandbox.workbench()")
    group.addoption("--only", help="only the facts with this word in their name")
    group.addoption("--in-turn", action="store_true", help="to the first red suite")
    group.addoption("--fact-seconds", type=float, default=60, help="for each of them")


def name_of(item):
    """A fact in words, from its test's name: test_x_is_y[container.py-z] is "x is y (z)"."""
    words = item.originalname.removeprefix("test_").replace("_", " ")
    words = WORD.sub(lambda match: match[0].upper(), words)
    runtime = item.config.getoption("--runtime")
    rest = item.callspec.id.replace(runtime, "").strip("-") if runtime else ""
    return f"{words} ({rest})" if rest else words


def step_of(item):
    match = re.match(r"test_(\d\d)_", item.path.name)
    assert match, item.path
    return match[1]


def pytest_collection_modifyitems(config, items):
    if only := config.getoption("--only"):
        word = only.lower().replace("_", " ").removeprefix("test ")
        chosen = [item for item in items if word in name_of(item).lower()]
        config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
        items[:] = chosen
    # In each suite those last that want the machine for themselves.
    suites = list(dict.fromkeys(item.path for item in items))
    items.sort(key=lambda item: (suites.index(item.path), is_alone(item)))


def is_alone(item):
    return item.get_closest_marker("alone") is not None


def pytest_sessionstart(session):
    """What the runtime has printed as its usage when it was first started."""
    from runtime import usages

    config = session.config
    told = Path(config.getoption("--bench"), sandbox.USAGE)
    if told.exists():
        usages[Path(config.getoption("--runtime")).resolve()] = told.read_text()


def pytest_runtestloop(session):
    """Every fact, each in a process of its own, behind a fence. When one is late, or a fact
    of the first suite (with --in-turn: of any) does not hold, there are no more suites."""
    config, waiting = session.config, list(session.items)
    running: dict[sandbox.Fenced, tuple] = {}  # with the item, and when it began
    seconds, in_turn = config.getoption("--fact-seconds"), config.getoption("--in-turn")
    bench = Path(config.getoption("--bench"))
    order = list(session.items)
    done: dict[pytest.Item, dict] = {}
    try:
        while waiting or running:
            while waiting and may_start(waiting[0], running.values(), done, in_turn):
                item = waiting.pop(0)
                factor = 3 if is_alone(item) else 1
                begin = time.monotonic()
                fenced = sandbox.Fenced(lambda i=item: check(i), bench, seconds * factor)
                running[fenced] = item, begin
            if not running:
                break
            first = min(fenced.deadline for fenced in running)
            left = max(first - time.monotonic(), 0)
            ready = select.select(list(running), [], [], left)[0]
            for fenced in list(running):
                late = time.monotonic() > fenced.deadline
                if late or (fenced in ready and fenced.more()):
                    item, begin = running.pop(fenced)
                    answer = fenced.result(late)
                    done[item] = outcome(session, item, answer, fenced, begin)
                    if late:  # and so would be all others
                        waiting.clear()
            while order and order[0] in done:
                tell(config, done[order.pop(0)])
    finally:
        for fenced in running:
            fenced.end()
    for item in order:  # that came after one that was never checked
        if item in done:
            tell(config, done[item])
    return True


def may_start(item, running, done, in_turn):
    others = [other for other, _ in running]
    if done and item.path not in {other.path for other in done} and not others:
        first = next(iter(done)).path
        needed = [f for i, f in done.items() if in_turn or i.path == first]
        if not all(fact["holds"] for fact in needed):
            return False
    if others and item.path != others[0].path:  # first the end of a suite
        return False
    if is_alone(item) or any(map(is_alone, others)):
        return not others
    return len(others) < AT_ONCE


def tell(config, fact):
    if config.getoption("--facts") is not None:
        os.write(config.getoption("--facts"), f"{json.dumps(fact)}\n".encode())


# ---- behind the fence


def check(item):
    """Check one fact. Returns what the process outside needs to know of it."""
    plugins = item.config.pluginmanager
    reports: list[pytest.TestReport] = []
    plugins.unregister(name="terminalreporter")
    plugins.register(Listener(reports))
    with contextlib.suppress(Failed):
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
    told = item.stash.get(TOLD, None)
    to_json = item.config.hook.pytest_report_to_serializable
    return [[to_json(config=item.config, report=r) for r in reports], told]


class Failed(BaseException):
    """A fact does not hold. The fence goes, so nothing has to be torn down for the next."""


class Listener:
    """Collects the reports of a fact: setup, call, teardown."""

    def __init__(self, reports):
        self.reports = reports

    def pytest_runtest_logreport(self, report):
        self.reports.append(report)
        if report.failed:
            raise Failed


TOLD, LAST = pytest.StashKey(), pytest.StashKey()


def pytest_assertrepr_compare(config, op, left, right):
    _compared[:] = [(op, brief(left), brief(right))]


def brief(value):
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-90:]}"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    from runtime import Result

    Result.last = None  # what follows is the fact's, and not its fixtures'


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    yield
    from runtime import Result

    if call.when == "call":
        item.stash[LAST] = Result.last  # what follows puts the host back
    if call.excinfo is None or TOLD in item.stash:
        return
    told = {}
    if entries := [e for e in call.excinfo.traceback if e.path == item.path]:
        told["where"] = f"{item.path.name}:{entries[-1].lineno + 1}"
        told["assertion"] = " ".join(str(entries[-1].statement).split())
    if call.excinfo.errisinstance(AssertionError) and _compared:
        told |= in_words(*_compared[0])
    else:
        lines = str(call.excinfo.value).strip().splitlines() or [call.excinfo.typename]
        if not lines[0].startswith("command:"):  # a Result, which is told below
            told["happened"] = lines[0].removeprefix("AssertionError: ")
    if last := item.stash.get(LAST, None):
        told |= {"command": " ".join(map(str, last.argv)), "status": last.status}
        told["said"] = (last.err.strip() or last.out.strip())[-600:]
    item.stash[TOLD] = told


OPERATORS = {
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


def in_words(operator, left, right):
    """What a comparison that failed had expected, and what happened."""
    expected = OPERATORS[operator].format(left=left, right=right)
    return {"expected": expected, "happened": right if "in" in operator else left}


# ---- outside again


def outcome(session, item, answer, fenced, begin):
    """What is told of a fact. Hands its reports on to pytest."""
    fact = {"step": step_of(item), "name": name_of(item), "test": item.nodeid}
    fact["why"] = " ".join((item.function.__doc__ or "").split())
    if answer is None:
        text = GROUND_LOST
        if fenced.late:
            text = f"nothing came back within {fenced.seconds:.0f} s"
        elif fenced.status > 128:
            name = signal.Signals(fenced.status - 128).name
            text = f"the process that checks was killed by {name}"
        fact |= {"holds": False, "happened": text, "late": fenced.late}
        report = pytest.TestReport(
            item.nodeid, item.location, {}, "failed", text, "call", duration=0
        )
        reports = [report]
    else:
        from_json = session.config.hook.pytest_report_from_serializable
        reports = [from_json(config=session.config, data=data) for data in answer[0]]
        fact |= answer[1] or {}
        fact["holds"] = all(report.passed for report in reports)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports:
        session.testsfailed += report.failed
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return fact | {"seconds": round(time.monotonic() - begin, 2)}


GROUND_LOST = (
    "the process that checks has lost its files, which are the host's: the runtime has "
    "unmounted them, or has changed the host's root"
)
