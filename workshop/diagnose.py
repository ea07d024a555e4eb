"""Finds out what a half-finished runtime lacks: starts it in a sandbox, with a command that
sleeps, and compares what the kernel says about that command with what a step should have done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import subprocess
import time

from workshop import bounded, expectations, procfs, sandbox
from workshop.expectations import GIVEN, Seen
from workshop.namespaces import KINDS
from workshop.project import PROJECT, Step
from workshop.refusals import PIVOT_ROOT, why_ended
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
    ("09", "--cap-add CAPABILITY,..."),
    ("09", "--cap-drop CAPABILITY,..."),
]
NO_BRIDGE = 'argument "workshop0" is wrong'
CABLE_IN_CHILD = (
    "`ip link add` ran in the container's own network, where there is no bridge: parent must "
    "run it, not child."
)
# With its own mount table, so that it cannot ruin ours; and with a group for it to drop.
APART = ["setpriv", "--groups=6", "unshare", "--mount"]
APART += ["sh", "-c", 'mount --make-r$0 / && exec "$@"']


@dataclasses.dataclass(frozen=True)
class Isolation:
    """A namespace that a container does not share with the host, and the numbers of both."""

    kind: str
    host: int
    container: int


@dataclasses.dataclass(frozen=True)
class NotStarted:
    """A container whose command has not started."""

    why: str  # a sentence
    waits: bool  # whether its runtime goes on running


def start_seconds(first: float) -> float:
    """Returns how many seconds the start of a container may take on this machine, where the
    first run of the runtime took `first` seconds."""
    return 5 + 10 * first


def findings(step: Step, staging: Staging, seconds: float) -> list[Finding]:
    """Returns what the staged runtime lacks for a step, the most important first. `seconds`:
    how long its start may take."""

    def found() -> list[tuple[str, str]]:
        return [(finding.topic, finding.text) for finding in look(step, seconds)]

    ending = sandbox.run(found, staging, 3 * seconds + EXTRA)  # at most three starts
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
            f"USAGE lacks {part}, and process.main reads the options from it.",
        )
        for number, part in USAGES
        if number <= step.number and part not in text
    ]
    seen = start(text, seconds)
    if isinstance(seen, NotStarted):
        failed = seen
        can_be_plain = command_line(text, plain=True) != command_line(text, plain=False)
        if can_be_plain and not failed.waits:  # another wait would take too long
            seen = start(text, seconds, plain=True)
        if failed.why == PIVOT_ROOT and step.number >= "05":
            found += shared_trees(text, step, seconds)
        topic = "options" if isinstance(seen, Seen) else "start"
        found.append(Finding(topic, failed.why))
    if isinstance(seen, Seen):
        found += expectations.host(seen, name)
        for number, rule in expectations.RULES:
            if number <= step.number:
                found += rule(seen, step.number)
    return found


def shared_trees(text: str, step: Step, seconds: float) -> list[Finding]:
    """Returns which trees of the parent's are shared because linux.idmapped has not made them.
    This is seen of a container on a host that shares no mounts, which hides the rest."""
    seen = start(text, seconds, plain=True, propagation="private")
    if isinstance(seen, NotStarted):
        return []
    rules = expectations.users, expectations.layers
    found = [finding for rule in rules for finding in rule(seen, step.number)]
    return [
        Finding("tree", finding.text) for finding in found if finding.topic == "owners"
    ]


def start(
    text: str, seconds: float, plain: bool = False, propagation: str = "shared"
) -> Seen | NotStarted:
    """Starts a container that sleeps. `text`: the runtime's usage. `plain`: without a network
    and limits. `propagation`: of the host's mounts. Returns the container, or why
    there is none."""
    errors = os.memfd_create("errors")
    process = subprocess.Popen(
        [*APART, propagation, RUNTIME, *command_line(text, plain)],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
    )
    deadline = time.monotonic() + seconds
    child = pid = below = None
    while not (pid or below) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
        with contextlib.suppress(OSError):  # it ends
            for child in procfs.children(process.pid):
                if procfs.words(child)[:1] == ["sleep"]:
                    pid = child
                for other in procfs.children(child):
                    if " ".join(procfs.words(other)).endswith("sleep 1000"):
                        below = other
    if process.poll() is not None:
        os.lseek(errors, 0, os.SEEK_SET)
        said = os.read(errors, 60000).decode(errors="replace").strip()
        in_child = NO_BRIDGE in said and bridge_is_on()
        why = CABLE_IN_CHILD if in_child else why_ended(process.returncode, said)
        return NotStarted(why, waits=False)
    if pid is None:
        why = why_it_waits(child, below)  # before it ends with the runtime
        process.kill()
        return NotStarted(why, waits=True)
    time.sleep(0.1)
    return Seen(process.pid, pid, plain)


def bridge_is_on() -> bool:
    """Returns whether network.sh has set up its bridge."""
    return any(name == "workshop0" for _, name in socket.if_nameindex())


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


def why_it_waits(child: int | None, below: int | None) -> str:
    """Returns what is wrong with a runtime that goes on running without the command. `child`:
    a child of it, if there is one. `below`: a child of that one, which runs the command."""
    if child is None:
        return "your runtime starts no child: parent must call process.start."
    if below is not None:
        return (
            "the command runs as a child of your child: child must become the command, with "
            "process.execute, and must not fork or start it itself."
        )
    return (
        "your child never becomes the command. Does it wait in process.await_parent(), while "
        "the parent does not call process.wait()? Does it end in process.execute()?"
    )
