"""Runs the tests in VMs that are thrown away, without internet.

Without arguments it runs the quick part, in two VMs side by side if this machine has
the processors and the memory for both. --all runs everything. Other arguments go to
pytest, which runs in one VM, or with --here in the lab that is up.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO

from host.errors import UsageError
from host.guest import Guest
from host.lab import Lab, free_memory
from host.processes import quote
from host.providers import choose
from host.providers.base import Provider
from host.providers.local import Local
from host.providers.qemu import Qemu
from host.settings import PROJECT

OWN_OPTIONS = {
    "--all": False,
    "--half": True,
    "--here": False,
    "-h": False,
    "--help": False,
}
QUICK = "quick"
ALL = "all"
SUITES = sorted(
    path.relative_to(PROJECT).as_posix()
    for path in PROJECT.glob("tests/test_[0-9][0-9]_*.py")
)
# Lists of arguments for pytest. The two halves take about the same time.
HALVES = {
    QUICK: [
        ["--quick", *SUITES],
        ["--quick", "tests/test_suite.py", "tests/test_notebooks.py", "tests/guide"],
    ],
    ALL: [
        ["--ignore=tests/guide", "--ignore=tests/unit"]
        + ["--ignore=tests/test_notebooks.py"],
        ["tests/guide", "tests/unit", "tests/test_notebooks.py"],
    ],
}
# Tests of what runs outside the VM.
NOT_IN_VM = "--ignore=tests/unit/host"
COVERAGE = "/var/tmp/workshop-coverage"
COMMANDS = "/var/tmp/commands"
MORE = (
    "./lab test --all adds all later steps, broken copies, faults, load, attacks and all "
    "lessons: 40 minutes if emulated"
)
SUMMARY = re.compile(
    r"(\d+) (passed|failed|errors?|skipped|deselected|xfailed|xpassed)"
)
FIRST = ["failed", "error", "errors", "passed"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "./lab test [--all [--half N]] [--here] [ARGUMENTS FOR PYTEST]"
    parser.add_argument("--all", action="store_true", help="everything, in two VMs")
    text = "only the first or the second half of the tests, in one VM"
    parser.add_argument("--half", type=int, choices=(1, 2), metavar="N", help=text)
    parser.add_argument("--here", action="store_true", help="in the lab that is up")


def run(lab: Lab, options: argparse.Namespace) -> int:
    provider = choose.provider(lab)
    arguments: list[str] = options.arguments
    if options.here:
        if options.all or not arguments:
            raise UsageError(
                "test: --here needs the files to run",
                "Usage: ./lab test --here FILE…",
            )
        provider.need_running()
        with recorded(lab, provider):
            return provider.run(command(lab, provider, arguments))
    if arguments and not options.all and not options.half:
        with provider.throwaway() as guest, recorded(lab, guest):
            return guest.run(command(lab, guest, arguments))
    rung = ALL if options.all else QUICK
    halves = [options.half] if options.half else [1, 2]
    return in_halves(lab, provider, rung, halves, arguments)


def command(lab: Lab, guest: Guest, arguments: list[str]) -> str:
    """Returns the command line that runs pytest in the guest."""
    return f"{python(lab, guest)} -m pytest -p no:cacheprovider {quote(arguments)}"


def python(lab: Lab, guest: Guest) -> str:
    """Returns the Python that runs pytest there, and records the guide's commands."""
    if not records(lab, guest):
        return guest.python
    start, _, program = guest.python.rpartition(" ")
    return f"{start} LAB_COMMANDS={COMMANDS} {program}"


def records(lab: Lab, guest: Guest) -> bool:
    return lab.settings.commands is not None and not isinstance(guest, Local)


@contextlib.contextmanager
def recorded(lab: Lab, guest: Guest) -> Iterator[None]:
    """Adds the guide's commands that succeeded in the tests to the file that LAB_COMMANDS
    names: tests/documented.py compares them with the docs."""
    if not records(lab, guest):
        yield
        return
    guest.check(f"sudo install -m 666 /dev/null {COMMANDS}")
    yield
    with open(str(lab.settings.commands), "ab") as file:
        guest.run(f"cat {COMMANDS}", stdin=subprocess.DEVNULL, stdout=file)


def has_floor(rung: str, number: int, arguments: list[str]) -> bool:
    """Returns whether a half of a rung, with these additional arguments, has all of the guide's
    tests: there is a floor for their coverage."""
    harmless = "--where=", "--keep-lessons="
    every = all(word.startswith(harmless) for word in arguments)
    return rung == ALL and number == 2 and every


def covered(lab: Lab, guest: Guest, arguments: list[str]) -> str:
    """Returns such a command line that also measures the guide's coverage, and fails if
    that is below its floor."""
    coverage = f"{python(lab, guest)} -m coverage"
    pytest = f"-m pytest -p no:cacheprovider {quote(arguments)}"
    return (
        f"mkdir -p -m 1777 {COVERAGE} && {coverage} run {pytest}; held=$?; "
        f"{coverage} combine -q && {coverage} report --format=total; floor=$?; "
        f"rm -r {COVERAGE}; test $held = 0 && test $floor = 0"
    )


# ---- two halves, side by side or one after the other


def in_halves(
    lab: Lab, provider: Provider, rung: str, halves: list[int], arguments: list[str]
) -> int:
    """Runs these halves of a rung, each with the same additional arguments. Returns the
    exit status."""
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        places = stack.enter_context(guests(lab, provider, len(halves)))
        for guest in places:
            stack.enter_context(recorded(lab, guest))
        shards = []
        for place, number in enumerate(halves):
            guest = places[place % len(places)]
            report = f"/var/tmp/test-{number}.xml"
            half = HALVES[rung][number - 1]
            words = [*half, *arguments, NOT_IN_VM, f"--junitxml={report}"]
            make = covered if has_floor(rung, number, arguments) else command
            text = make(lab, guest, words)
            shards.append(Shard(guest, text, report))
        if len(places) > 1:
            run_side_by_side(lab, shards)
        else:
            run_in_turn(shards)
        for shard in shards:
            shard.keep_report(lab.settings.state / "log")
    seconds = time.monotonic() - begin
    print(f"\n{total([shard.text() for shard in shards])}, in {seconds:.0f} s")
    if rung == QUICK:
        print(MORE)
    return int(any(shard.status != 0 for shard in shards))


@contextlib.contextmanager
def guests(lab: Lab, provider: Provider, halves: int) -> Iterator[list[Guest]]:
    """Gives the block a VM for each half if there is room for both, one otherwise."""
    if halves == 2 and isinstance(provider, Qemu) and room_for_two(lab):
        with provider.throwaways(2) as machines:
            yield [*machines]
    else:
        with provider.throwaway() as guest:
            yield [guest]


def room_for_two(lab: Lab) -> bool:
    processors = len(os.sched_getaffinity(0))
    return processors >= 2 and free_memory() >= 2 * lab.settings.megabytes + 500


class Shard:
    """Runs some of the tests in one place, and keeps what they print."""

    def __init__(self, guest: Guest, command: str, report: str) -> None:
        self.guest, self.command, self.report = guest, command, report
        self.pieces: list[str] = []
        self.status = 1
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Runs the tests to their end."""
        self.process = subprocess.Popen(
            self.guest.argv(self.command, False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.process.stdout
        read(self.process.stdout, self.pieces)
        self.status = self.process.wait()

    def text(self) -> str:
        return "".join(self.pieces)

    def keep_report(self, folder: pathlib.Path) -> None:
        """Copies the results as JUnit's XML, from which docs/PROOF.md is made."""
        path = folder / pathlib.Path(self.report).name
        fetch = f"sudo cat {self.report} && sudo rm -f {self.report}"
        with open(path, "wb") as file:
            self.guest.run(fetch, stdin=subprocess.DEVNULL, stdout=file)


def read(stream: IO[bytes], pieces: list[str]) -> None:
    """Collects output as soon as it comes, because pytest's dots do not end a line."""
    descriptor = stream.fileno()
    while True:
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return
        pieces.append(piece.decode(errors="replace"))


def run_in_turn(shards: list[Shard]) -> None:
    for shard in shards:
        follow([shard])


def run_side_by_side(lab: Lab, shards: list[Shard]) -> None:
    lab.say("the tests run in two VMs; the second one's output comes after the first's")
    follow(shards)


def follow(shards: list[Shard]) -> None:
    """Runs shards at the same time, and shows the output of one after the other."""
    threads = [threading.Thread(target=shard.run) for shard in shards]
    for thread in threads:
        thread.start()
    try:
        for shard, thread in zip(shards, threads):
            show(shard, thread)
    except BaseException:
        for shard in shards:
            if shard.process:
                shard.process.kill()
        raise


def show(shard: Shard, thread: threading.Thread) -> None:
    """Prints what a shard prints, until it ends."""
    shown = 0
    while True:
        ended = not thread.is_alive()
        new = shard.pieces[shown:]
        shown += len(new)
        sys.stdout.write("".join(new))
        sys.stdout.flush()
        if ended:
            return
        thread.join(0.2)


def total(outputs: list[str]) -> str:
    """Adds up the counts in pytest's last lines: "1 failed, 12 passed"."""
    counts: dict[str, int] = {}
    for output in outputs:
        lines = [line for line in output.splitlines() if SUMMARY.search(line)]
        for number, word in SUMMARY.findall(lines[-1]) if lines else []:
            counts[word] = counts.get(word, 0) + int(number)
    words = sorted(counts, key=lambda w: FIRST.index(w) if w in FIRST else len(FIRST))
    return ", ".join(f"{counts[word]} {word}" for word in words) or "no test ran"
