"""Runs the tests in VMs that are thrown away, without internet.

Without arguments: the quick ones, in two VMs at once where this machine has the
processors and the memory for both. With arguments, those go to pytest. --all runs
everything, and measures how much of the guide the tests cover. --here uses the lab
that is up.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from typing import IO

from host import providers
from host.errors import UsageError
from host.guest import Guest, at_terminal
from host.lab import Lab, free_memory
from host.processes import quote
from host.providers.base import Provider
from host.providers.qemu import Qemu

PYTEST = "-p no:cacheprovider"
# What each VM runs when nothing is asked for: lists of arguments for pytest.
QUICK = [
    ["tests/test_00_run.py", "tests/test_01_uts.py", "tests/test_02_pid.py"]
    + ["tests/test_03_mnt.py", "tests/test_04_net.py"],
    ["tests/test_05_user.py", "tests/test_06_cgroup.py", "tests/test_07_overlay.py"],
]
OWN_OPTIONS = {
    "--all": False,
    "--where": True,
    "--here": False,
    "-h": False,
    "--help": False,
}
COVERAGE = "/var/tmp/workshop-coverage"
SUMMARY = re.compile(
    r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|deselected)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--all", action="store_true", help="everything; takes long")
    parser.add_argument(
        "--where",
        choices=("native", "vm"),
        default="vm",
        help="with --all: in a VM, or on this machine's own kernel, as root",
    )
    parser.add_argument(
        "--here", action="store_true", help="in the lab that is up, which stays"
    )
    parser.usage = "./lab test [--all [--where native|vm]] [--here] [PYTEST-ARGUMENT…]"


def run(lab: Lab, options: argparse.Namespace) -> int:
    way = "local" if options.all and options.where == "native" else None
    if options.where == "native" and not options.all:
        raise UsageError(
            "test: --where needs --all", "Usage: ./lab test --all --where native"
        )
    provider = providers.choose(lab, way)
    if options.here:
        provider.need_running()
        return pytest(provider, options.arguments)
    if options.all:
        return everything(lab, provider)
    if options.arguments:
        with provider.throwaway() as guest:
            return pytest(guest, options.arguments)
    return quick(lab, provider)


def pytest(guest: Guest, arguments: list[str]) -> int:
    return guest.run(f"{guest.python} -m pytest {PYTEST} {quote(arguments)}")


def everything(lab: Lab, provider: Provider) -> int:
    """The whole suite; then the guide's, whose coverage has a floor."""
    with provider.throwaway() as guest:
        failed = pytest(guest, ["--ignore=tests/guide"]) != 0
        lab.say("the guide's tests, with their coverage measured, which has a floor:")
        guest.check(f"mkdir -p -m 1777 {COVERAGE}")
        coverage = f"{guest.python} -m coverage"
        failed |= guest.run(f"{coverage} run -m pytest {PYTEST} tests/guide") != 0
        report = f"{coverage} combine -q && {coverage} report --format=total"
        failed |= guest.run(report) != 0
        guest.run(f"rm -r {COVERAGE}")
    return int(failed)


# ---- the quick ones, in one VM or two


def quick(lab: Lab, provider: Provider) -> int:
    begin = time.monotonic()
    if isinstance(provider, Qemu) and room_for_two(lab):
        with provider.throwaways(len(QUICK)) as machines:
            shards = [Shard(vm, files) for vm, files in zip(machines, QUICK)]
            shown = Shards(lab, shards).run()
    else:
        with provider.throwaway() as guest:
            shard = Shard(guest, [file for files in QUICK for file in files])
            shown = Shards(lab, [shard]).run()
    seconds = time.monotonic() - begin
    print(f"\n{total(shown.summaries())}, in {seconds:.0f} s")
    print("These were the quick tests; ./lab test --all runs everything.")
    return shown.status()


def room_for_two(lab: Lab) -> bool:
    memory = 2 * lab.settings.megabytes + 500
    return (os.cpu_count() or 1) >= 2 and free_memory() >= memory


class Shard:
    """Some of the tests, and the place where they run."""

    def __init__(self, guest: Guest, files: list[str]) -> None:
        self.guest, self.files = guest, files
        self.lines: list[str] = []
        self.status = 1
        self.process: subprocess.Popen[bytes] | None = None


class Shards:
    """Runs shards at the same time. The first one's output is shown as it comes, the
    others' after it."""

    def __init__(self, lab: Lab, shards: list[Shard]) -> None:
        self.lab, self.shards = lab, shards
        self.last = time.monotonic()

    def run(self) -> Shards:
        if len(self.shards) == 1 and at_terminal():
            shard = self.shards[0]
            shard.status = pytest(shard.guest, shard.files)
            return self
        threads = [threading.Thread(target=self._run, args=[s]) for s in self.shards]
        for thread in threads:
            thread.start()
        try:
            for shard, thread in zip(self.shards, threads):
                self._follow(shard, thread)
        except BaseException:
            for shard in self.shards:
                if shard.process:
                    shard.process.kill()
            raise
        return self

    def _run(self, shard: Shard) -> None:
        words = f"{shard.guest.python} -m pytest {PYTEST} {quote(shard.files)}"
        shard.process = subprocess.Popen(
            shard.guest.argv(words, False),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert shard.process.stdout
        read_lines(shard.process.stdout, shard.lines)
        shard.status = shard.process.wait()

    def _follow(self, shard: Shard, thread: threading.Thread) -> None:
        """Prints a shard's output until it has ended."""
        shown = 0
        while True:
            ended = not thread.is_alive()
            text = "".join(shard.lines[shown:])
            shown += len(shard.lines[shown:])
            if text:
                sys.stdout.write(text)
                sys.stdout.flush()
                self.last = time.monotonic()
            if ended:
                return
            thread.join(0.2)

    def status(self) -> int:
        return max(shard.status for shard in self.shards)

    def summaries(self) -> list[str]:
        return ["".join(shard.lines[-3:]) for shard in self.shards]


def read_lines(stream: IO[bytes], pieces: list[str]) -> None:
    """Collects what comes, as soon as it comes: pytest's dots are no lines."""
    while True:
        piece = stream.read1(4096)  # type: ignore[attr-defined]
        if not piece:
            return
        pieces.append(piece.decode(errors="replace"))


def total(summaries: list[str]) -> str:
    """The counts of pytest's last lines, added up: "12 passed, 1 failed"."""
    counts: dict[str, int] = {}
    for summary in summaries:
        for number, word in SUMMARY.findall(summary):
            counts[word] = counts.get(word, 0) + int(number)
    order = ["failed", "error", "errors", "passed"]
    words = sorted(counts, key=lambda w: order.index(w) if w in order else len(order))
    return ", ".join(f"{counts[word]} {word}" for word in words) or "no test ran"
