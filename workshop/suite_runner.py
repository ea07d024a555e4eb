"""Runs the suites on a learner's runtime: starts the runtime once, and then runs
pytest, whose plugin (pytest_plugin.py) checks every fact in a sandbox."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

import linux

from workshop import bounded, refusals, sandbox
from workshop.errors import Failure
from workshop.facts import Fact
from workshop.project import PROJECT, Step
from workshop.staging import RUNTIME, Staging

HELP_TIMEOUT = 10  # seconds that the runtime's --help may take
# pytest's exit statuses: all facts hold; some do not; --only has chosen none.
EXPECTED = (0, 1, 5)


def first_run(staging: Staging, name: str) -> float:
    """Starts the runtime once, with --help, and saves its usage, so that no fact must ask for
    it again. `name`: the runtime's, for messages. Returns how many seconds it took. Raises
    Failure if the runtime does not end, or does not print its usage."""
    begin = time.monotonic()
    ending = sandbox.run(
        lambda: bounded.run([str(RUNTIME), "--help"], HELP_TIMEOUT).as_json(),
        staging,
        HELP_TIMEOUT + 5,
    )
    if ending.result is None:
        raise Failure(f"`{name} --help` {ending.problem()}")
    output = bounded.Output(**ending.result)
    if output.status is None:
        endless = len(output.out + output.err) > 10000
        problem = "prints without end" if endless else "does not end"
        raise Failure(f"`{name} --help` {problem}, so it was killed")
    if output.status != 0 or not output.out.startswith("usage: "):
        said = output.err.strip() or output.out.strip() or "it prints nothing"
        raise Failure(
            f"`{name} --help` should print its usage, but has status {output.status}"
            f"{refusals.line_raised(said)}: {said.splitlines()[-1][:200]}"
        )
    staging.usage.write_text(output.out)
    return time.monotonic() - begin


def fact_seconds(first: float) -> float:
    """Returns how many seconds a fact may take on this machine, where the first run of the
    runtime took `first` seconds."""
    return min(60, 10 + 100 * first)


def run(
    steps: Sequence[Step],
    staging: Staging,
    seconds: float,
    only: str | None = None,
    in_turn: bool = False,
) -> Iterator[Fact]:
    """Runs the suites of these steps on the staged runtime. Yields each fact as soon as it
    is checked. `seconds`: how long one fact may take. `only`: a part of the names of the
    facts to check. If a fact of the first suite does not hold, no other suite runs; with
    `in_turn`, that goes for a fact of any suite. Raises Failure if pytest itself fails."""
    read, write = os.pipe()
    try:
        # Not a pipe, which could fill up while we wait for facts.
        with open(staging.log, "w+") as log:
            process = subprocess.Popen(
                _pytest(steps, staging, seconds, only, in_turn, write),
                cwd=PROJECT,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[write],
                start_new_session=True,
                preexec_fn=lambda: linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGINT),
            )
            os.close(write)
            try:
                with open(read) as lines:
                    for line in lines:
                        yield Fact.parse(json.loads(line))
                process.wait()
            finally:
                _end(process)
            if process.returncode not in EXPECTED:
                log.seek(0)
                last = (log.read().strip() or "pytest printed nothing").splitlines()[-1]
                raise Failure(f"the check itself has failed: {last}")
    finally:
        sandbox.clean()


def planned(staging: Staging, step: Step) -> int:
    """Returns how many facts of a step the last run() was going to check."""
    counts: dict[str, int] = json.loads(staging.planned.read_text())
    return counts.get(step.number, 0)


def _pytest(
    steps: Sequence[Step],
    staging: Staging,
    seconds: float,
    only: str | None,
    in_turn: bool,
    facts: int,
) -> list[str]:
    """Returns the command line of pytest, which reports facts to the descriptor `facts`."""
    words = [sys.executable, "-m", "pytest", "-q", "--tb=short"]
    words += ["-p", "workshop.pytest_plugin", "-p", "no:cacheprovider"]
    words += [f"--runtime={RUNTIME}", f"--staging={staging.folder}"]
    words += [f"--facts={facts}", f"--fact-seconds={seconds:.0f}"]
    words += [f"--junitxml={staging.junit}", *(step.suite for step in steps)]
    words += [f"--only={only}"] if only else []
    words += ["--in-turn"] if in_turn else []
    return words


def _environment() -> dict[str, str]:
    """Returns the environment of pytest."""
    # The plugins that come with JupyterLab are not needed, and take half a second.
    path = os.pathsep.join([str(PROJECT), str(PROJECT / "steps")])
    return os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": path}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends pytest if it still runs: after a SIGINT it removes its sandboxes."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()
