"""Finds out what a half-finished runtime lacks: starts it in a sandbox, with a command that
sleeps, and compares what the kernel says about that command with what a step should have done.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time

from workshop import bounded, expectations, procfs, sandbox
from workshop.expectations import GIVEN, Seen
from workshop.namespaces import KINDS
from workshop.project import PROJECT, Step
from workshop.refusals import why_ended
from workshop.staging import RUNTIME, Staging
from workshop.topics import Finding

EXTRA = 20  # seconds that a sandbox may take besides the start of the container
USAGES = [  # (the number of the step that adds it, a part of its USAGE)
    ("01", "--hostname NAME"),
    ("03", "IMAGE"),
    ("04", "--net bridge|none"),
    ("06", "--memory SIZE"),
    ("06", "--pids COUNT"),
    ("06", "--cpus CPUS"),
]
# With its own mount table, so that it cannot ruin ours; and with a group for it to drop.
APART = ["setpriv", "--groups=6", "unshare", "--mount"]
APART += ["sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"]


@dataclasses.dataclass(frozen=True)
class Isolation:
    """A namespace that a container does not share with the host, and the numbers of both."""

    kind: str
    host: int
    container: int


def start_seconds(first: float) -> float:
    """Returns how many seconds the start of a container may take on this machine, where the
    first run of the runtime took `first` seconds."""
    return 5 + 10 * first


def findings(step: Step, staging: Staging, seconds: float) -> list[Finding]:
    """Returns what the staged runtime lacks for a step, the most important first. `seconds`:
    how long its start may take."""

    def found() -> list[tuple[str, str]]:
        return [(finding.topic, finding.text) for finding in look(step, seconds)]

    ending = sandbox.run(found, staging, seconds + EXTRA)
    if ending.result is None:
        text = f"started with the command `sleep`, your runtime {ending.problem()}."
        return [Finding("start", text)]
    return [Finding(*values) for values in ending.result]


def isolation(staging: Staging, seconds: float) -> list[Isolation]:
    """Returns the namespaces that a container of the staged runtime does not share with the
    host. There are none if the runtime does not start within `seconds`."""

    def compare() -> list[tuple[str, int, int]]:
        seen = start(usage(seconds), seconds)
        return [
            (kind, procfs.namespace(kind), procfs.namespace(kind, seen.pid))
            for kind in KINDS
            if isinstance(seen, Seen) and not seen.shares(kind)
        ]

    ending = sandbox.run(compare, staging, seconds + EXTRA)
    return [Isolation(*values) for values in ending.result or []]


# ---- in the sandbox


def usage(seconds: float) -> str:
    """Returns what the runtime's --help prints."""
    return bounded.run([str(RUNTIME), "--help"], seconds).out


def look(step: Step, seconds: float) -> list[Finding]:
    """Starts a container, and returns what it lacks: see findings()."""
    text, name = usage(seconds), os.uname().nodename
    found = [
        Finding(
            part.split()[0],
            f"USAGE lacks {part}, and process.parse reads options from it.",
        )
        for number, part in USAGES
        if number <= step.number and part.split()[0] not in text
    ]
    seen = start(text, seconds)
    if isinstance(seen, str):
        failed, plain = seen, start(text, seconds, plain=True)
        found.append(Finding("start" if isinstance(plain, str) else "options", failed))
        seen = plain
    if isinstance(seen, Seen):
        found += expectations.host(seen, name)
        for number, rule in expectations.RULES:
            if number <= step.number:
                found += rule(seen, step.number)
    return found


def start(text: str, seconds: float, plain: bool = False) -> Seen | str:
    """Starts a container that sleeps. `text`: the runtime's usage. `plain`: without a network
    and limits. Returns the container, or a sentence that says why there is none."""
    errors = os.memfd_create("errors")
    process = subprocess.Popen(
        [*APART, RUNTIME, *command_line(text, plain)],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
    )
    deadline, pid, child = time.monotonic() + seconds, None, None
    while pid is None and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        for child in procfs.children(process.pid):
            if procfs.words(child)[:1] == ["sleep"]:
                pid = child
    if process.poll() is not None:
        os.lseek(errors, 0, os.SEEK_SET)
        said = os.read(errors, 60000).decode(errors="replace").strip()
        return why_ended(process.returncode, said)
    if pid is None:
        process.kill()
        return why_it_waits(child)
    time.sleep(0.1)
    return Seen(process.pid, pid)


def command_line(text: str, plain: bool) -> list[str]:
    """Returns `run` and its arguments, with every option in the runtime's usage. `plain`:
    without a network and limits."""
    words = ["run"]
    for option, value in GIVEN.items():
        limit = option in ("memory", "pids", "cpus")
        possible = not limit or (expectations.limits_can_be_set() and not plain)
        if f"--{option}" in text and possible:
            words += [f"--{option}", value]
    if "--net" in text:
        network = [str(PROJECT / "steps/network.sh"), "on"]
        subprocess.run(network, capture_output=True, check=False)
        words += ["--net", "none" if plain else "bridge"]
    words += ["busybox"] if "IMAGE" in text else []
    return [*words, "sleep", "1000"]


def why_it_waits(child: int | None) -> str:
    """Returns what is wrong with a runtime that goes on running without the command. `child`:
    a child of it, if there is one."""
    if child is None:
        return "your runtime starts no child: parent must call process.start."
    return (
        "your child never becomes the command. Does it wait in process.await_parent(), while "
        "the parent does not call process.wait()? Does it end in process.execute()?"
    )
