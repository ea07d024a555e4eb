#!/usr/bin/env python3
"""Runs everything that CI checks, part by part, and prints a table at the end.

    tests/ci.py [PART...]

Parts run side by side, one on each processor, because an emulated VM keeps one processor
busy. A part prints its output when it ends. Without PART all parts run; with names
from the table, only those, in the same order. Exit status: 0 if all parts passed.

docs/tests.md says which fact runs where; it is made from PHASES and from the suite itself.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

PROJECT = Path(__file__).resolve().parent.parent
LOGS = PROJECT / ".lab" / "ci"
RAN = LOGS / "lessons"  # those that need no VM, with their output
KEEP = f"--keep-lessons={RAN.relative_to(PROJECT)}"
NATIVE = "tests/native.py --seconds 2000 --all --half"
REHEARSE = "tests/lab/run.py test_rehearse.py"
# The part `rehearse` plays this cut.
CUT = "test_cut_plays_to_the_end_by_itself_within_its_minutes"
REHEARSED = f"--deselect tests/guide/test_demo.py::{CUT}[20]"
LESSONS = "--ignore tests/test_notebooks.py"  # the part `site` runs them
SITE = f"--ran {RAN.relative_to(PROJECT)}"
FACTS = "./lab test --durations 30 --where vm --not-quick tests"
# Where a part runs. Debian's own QEMU is what most learners have; a newer one saves time.
VM = "VM"
NEWER = "VM, newer QEMU"
QEMU = LOGS / "qemu"  # the newer one: see newer_qemu.py
# With fewer facts, and without the machine's warm-up: see docs/tab.md.
TAB = "tests/lab/run.py {} --tab-quick --busy"
COMMANDS = LOGS / "commands"  # that were really run: see tests/documented.py


@dataclass(frozen=True)
class Part:
    """One command of CI, and what the table says about it."""

    name: str
    where: str  # "host", "host's kernel", "browser", "Node", VM or NEWER
    commands: tuple[tuple[str, ...], ...]
    limit: int  # seconds; a part that takes longer is stopped and fails
    beside: bool = False  # it runs at the same time as the part before it in its chain


@dataclass
class Outcome:
    """How a part ended."""

    part: Part
    status: int
    seconds: float
    idle: float  # how much of this time its processors had nothing to do
    facts: int = 0
    failed: int = 0
    skipped: int = 0


def part(name: str, where: str, limit: int, *commands: str) -> Part:
    return Part(name, where, tuple(tuple(c.split()) for c in commands), limit)


def lab_test(name: str, limit: int, *files: str, where: str = NEWER) -> Part:
    words = " ".join(f"test_{file or name}.py" for file in files or [""])
    return part(name, where, limit, f"tests/lab/run.py {words}")


def beside(part: Part) -> Part:
    return replace(part, beside=True)


# A phase begins when the one before it has ended. It consists of chains, which two workers
# take in this order, each on a processor of its own. It is the order in which both end at about
# the same time. The parts of a chain run in order, except for those beside the one before: facts
# that run on the host's own kernel wait for a third of their time, which is enough for those of
# another part. A phase with a single chain gets both processors.
PHASES: list[list[list[Part]]] = [
    [
        [
            part("up", VM, 900, "./lab up", "./lab status", "./lab doctor"),
            lab_test("security", 900, "security", "boot", where=VM),
            lab_test("kernel", 900, where=VM),
            part("rehearse", VM, 900, REHEARSE, "./lab demo --outline"),
            lab_test("poweroff", 600, where=VM),
            part("down", VM, 120, "./lab down"),
        ],
        # Nothing here needs the image, which `./lab up` builds meanwhile.
        [
            part("static", "host", 300, "tests/static.py"),
            part(
                "qemu", "host", 300, f"tests/newer_qemu.py {QEMU.relative_to(PROJECT)}"
            ),
            part("native 1", "host's kernel", 2100, f"{NATIVE} 1 --where=native"),
            beside(
                part(
                    "native 2",
                    "host's kernel",
                    2100,
                    f"{NATIVE} 2 --where=native {KEEP}",
                )
            ),
            # `./lab site` runs the other lessons, and the slides are made of the same run.
            part(
                "site",
                NEWER,
                3600,
                f"tests/lab/run.py test_site.py {SITE}",
                f"tests/lab/run.py test_slides.py {SITE}",
            ),
        ],
        [part("vm", NEWER, 2700, f"{FACTS} {REHEARSED} {LESSONS}")],
        [part("tab", "browser", 2700, TAB.format("test_tab.py"))],
        [lab_test("offline", 1500, "offline", "ovf")],
        [lab_test("browser", 900)],
        [lab_test("vagrant", 1500, where=VM)],
        # The part `tab` has built the machine long before.
        [part("tab lessons", "Node", 2700, TAB.format("test_tab_lessons.py"))],
        [lab_test("grade", 1800)],
    ],
    [[part("test", NEWER, 1200, "./lab test")]],
    [
        [
            # It waits half of the time, too: for a VM to become idle, and for VMs that start.
            lab_test("classroom", 1200),
            beside(lab_test("firewalls", 600, where="host's kernel")),
            beside(lab_test("local", 600, where="host's kernel")),
            beside(lab_test("alpine", 600, where="host's kernel")),
            beside(part("unit", "host", 600, "tests/native.py --unit")),
        ]
    ],
    [[part("documented", "host", 60, "tests/documented.py .lab/ci/commands")]],
]
SUMMARY = re.compile(r"(\d+) (passed|failed|errors?|skipped)")


@dataclass
class Runner:
    """Runs parts, and can stop all that are running."""

    print_lock: threading.Lock = field(default_factory=threading.Lock)
    running: set[subprocess.Popen[bytes]] = field(default_factory=set)
    stopped: bool = False

    def say(self, text: str) -> None:
        with self.print_lock:
            print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)

    def run(self, part: Part, core: int | None) -> Outcome:
        """Run a part to its end or its limit. core: the processor that it may use."""
        log = LOGS / f"{part.name.replace(' ', '-')}.log"
        begin, idle_before = time.monotonic(), idle_seconds(core)
        self.say(f"{part.name} begins")
        status = 0
        log.unlink(missing_ok=True)
        log.touch(mode=0o600)  # `./lab up` prints JupyterLab's token
        programs = f"{QEMU}/bin:" if part.where == NEWER else ""
        environment = os.environ | {"PATH": programs + os.environ["PATH"]}
        with log.open("wb") as output:
            for command in part.commands:
                left = part.limit - (time.monotonic() - begin)
                status = self.command(command, output, left, core, environment)
                if status:
                    break
        seconds = time.monotonic() - begin
        idle = (idle_seconds(core) - idle_before) / seconds
        outcome = Outcome(part, status, seconds, idle)
        text = log.read_text(errors="replace")
        count(outcome, text)
        with self.print_lock:
            end = "passed" if status == 0 else f"FAILED (status {status})"
            print(f"\n======== {part.name}: {end}, {outcome.seconds:.0f} s")
            print(text, flush=True)
        return outcome

    def command(
        self,
        words: tuple[str, ...],
        output: BinaryIO,
        seconds: float,
        core: int | None,
        environment: dict[str, str],
    ) -> int:
        """Return the exit status of a command, or 124 if its time was up."""
        pin = ["taskset", "-c", str(core)] if core is not None else []
        with subprocess.Popen(
            [*pin, *words],
            cwd=PROJECT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its children can be stopped, too
        ) as process:
            self.running.add(process)
            try:
                return process.wait(max(seconds, 1))
            except subprocess.TimeoutExpired:
                end(process)
                return 124
            finally:
                self.running.discard(process)

    def chain(
        self, parts: list[Part], cores: queue.SimpleQueue[int] | None
    ) -> list[Outcome]:
        """Run parts one after the other; a failed one does not keep the next from running.
        cores: the processors that are free now, or None if the chain gets all."""
        core = cores.get() if cores else None
        groups: list[list[Part]] = []
        for part in parts:
            if part.beside and groups:
                groups[-1].append(part)
            else:
                groups.append([part])
        outcomes: list[Outcome] = []
        try:
            for group in groups:
                if self.stopped:
                    break
                with concurrent.futures.ThreadPoolExecutor(len(group)) as pool:
                    outcomes += pool.map(lambda part: self.run(part, core), group)
            return outcomes
        finally:
            if cores and core is not None:
                cores.put(core)

    def stop(self) -> None:
        self.stopped = True
        for process in list(self.running):
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a command and its children, which get a minute to clean up."""
    for number, seconds in ((signal.SIGTERM, 60), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def idle_seconds(core: int | None) -> float:
    """Returns for how long a processor has had nothing to do since the machine's start, or for
    None, the average of all. See proc_stat(5)."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *times = line.split()
        if name == ("cpu" if core is None else f"cpu{core}"):
            ticks = int(times[3]) + int(times[4])  # idle, and idle while a disk works
            share = os.cpu_count() or 1 if core is None else 1
            return ticks / os.sysconf("SC_CLK_TCK") / share
    raise ValueError(f"/proc/stat has no processor {core}")


def count(outcome: Outcome, text: str) -> None:
    """Add up the counts in pytest's last lines."""
    for line in text.splitlines():
        if not re.search(r"\bin \d+\.\d+s\b", line):
            continue
        for number, word in SUMMARY.findall(line):
            if word == "passed":
                outcome.facts += int(number)
            elif word == "skipped":
                outcome.skipped += int(number)
            else:
                outcome.facts += int(number)
                outcome.failed += int(number)


def table(outcomes: list[Outcome], seconds: float) -> str:
    lines = [
        f"{'part':18} {'where':16} {'facts':>6} {'failed':>6} {'skipped':>7} {'s':>6}"
        f" {'idle':>5}"
    ]
    for o in outcomes:
        mark = "" if o.status == 0 else f"   status {o.status}"
        lines.append(
            f"{o.part.name:18} {o.part.where:16} {o.facts:6} {o.failed:6} "
            f"{o.skipped:7} {o.seconds:6.0f} {o.idle:5.0%}{mark}"
        )
    facts = sum(o.facts for o in outcomes)
    failed = sum(o.failed for o in outcomes)
    skipped = sum(o.skipped for o in outcomes)
    lines.append(f"{'all':18} {'':16} {facts:6} {failed:6} {skipped:7} {seconds:6.0f}")
    return "\n".join(lines)


def main() -> int:
    names = [p.name for phase in PHASES for lane in phase for p in lane]
    parser = argparse.ArgumentParser(description="Runs everything that CI checks.")
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[[], *names])
    chosen = parser.parse_args().parts or names
    LOGS.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(RAN, ignore_errors=True)  # of an older project
    RAN.mkdir()
    runner = Runner()

    def on_signal(*_: object) -> None:
        runner.stop()
        sys.exit(143)

    signal.signal(signal.SIGTERM, on_signal)
    os.environ["LAB_COMMANDS"] = str(COMMANDS)
    COMMANDS.write_text("")
    COMMANDS.chmod(0o666)  # ordinary users run commands, too
    begin = time.monotonic()
    outcomes: list[Outcome] = []
    for phase in PHASES:
        chains = [[p for p in chain if p.name in chosen] for chain in phase]
        chains = [chain for chain in chains if chain]
        available = sorted(os.sched_getaffinity(0))[:2]
        cores: queue.SimpleQueue[int] | None = None
        if len(phase) > 1 and len(available) > 1:
            cores = queue.SimpleQueue()
            for core in available:
                cores.put(core)
        workers = len(available) if len(phase) > 1 else 1
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(runner.chain, chain, cores) for chain in chains]
            try:
                for job in jobs:
                    outcomes += job.result()
            except BaseException:
                runner.stop()
                raise
    print(f"\n{table(outcomes, time.monotonic() - begin)}", flush=True)
    return int(any(o.status for o in outcomes) or len(outcomes) < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
