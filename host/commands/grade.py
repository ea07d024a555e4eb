"""Grades a class's runtimes, each in a virtual machine of its own.

SUBMISSION is a container.py, or a directory with such files at any depth. A submission
is named after its directory, or after its file if that is not called container.py.
DIRECTORY gets a NAME.json for each submission as soon as it is graded, and at the end
grades.csv and grades.xml (JUnit). A submission that has been graded is not graded again,
so an interrupted run continues where it stopped.

A submission may hang, fork, fill the disk or halt the machine: the VM has no network,
cannot see the host, and is stopped after --minutes. But somebody could rewrite the
checks from inside, so read the submissions that pass.

Exit status: 0 if all are graded; 1 if a file cannot be read or a VM does not start; 2
for wrong usage; 130 if interrupted.
"""

from __future__ import annotations

import argparse
import itertools
import pathlib
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed

from host import frozen, grading
from host.errors import LabError
from host.grading import Grade
from host.lab import Lab
from host.machine import Machine
from host.progress import Stage
from host.providers import choose
from host.providers.qemu import Qemu

MOST_OUTPUT = 1 << 20  # bytes that a submission's VM may print


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("submissions", nargs="+", type=pathlib.Path, metavar="SUBMISSION")
    add("--out", required=True, type=pathlib.Path, metavar="DIRECTORY")
    add("--upto", default="7", choices=list("01234567"), help="last step to run (7)")
    add("--jobs", type=int, default=1, help="VMs at the same time (1)")
    add("--minutes", type=float, default=20, help="at most, for each submission (20)")


def run(lab: Lab, options: argparse.Namespace) -> int:
    provider = choose.provider(lab, "qemu")  # each submission gets a VM of its own
    assert isinstance(provider, Qemu)
    found = grading.submissions(options.submissions)
    options.out.mkdir(parents=True, exist_ok=True)
    work = Grading(lab, found, options)
    if work.grades:
        print(f"{len(work.grades)} submissions were graded before", flush=True)
    if work.waiting:
        with frozen.frozen(provider) as vm:
            work.grade_all(vm)
    grading.write_csv(work.grades, options.out / "grades.csv")
    grading.write_junit(work.grades, options.out / "grades.xml")
    print(f"{options.out}: grades.csv, grades.xml, and a file for each submission")
    return 0


class Grading:
    """Grades submissions: keeps the grades so far, and the submissions without one."""

    def __init__(
        self, lab: Lab, found: dict[str, pathlib.Path], options: argparse.Namespace
    ) -> None:
        self.lab, self.found, self.options = lab, found, options
        self.grades: dict[str, Grade] = {}
        self.waiting: dict[str, pathlib.Path] = {}
        self.machines: list[Machine] = []
        self.numbers = itertools.count()
        for name, path in found.items():
            known = grading.known_grade(
                self.file(name), grading.digest(path), options.upto
            )
            if known:
                self.grades[name] = known
            else:
                self.waiting[name] = path

    def file(self, name: str) -> pathlib.Path:
        out: pathlib.Path = self.options.out
        return out / f"{name}.json"

    def grade_all(self, vm: Machine) -> None:
        """Grades the submissions that wait, and saves each grade."""
        jobs = max(self.options.jobs, 1)
        title = f"grading {len(self.waiting)} submissions"
        with self.lab.progress.stage(title) as stage, ThreadPoolExecutor(jobs) as pool:
            futures = {
                pool.submit(self.grade, vm, path): name
                for name, path in self.waiting.items()
            }
            try:
                for future in as_completed(futures):
                    name = futures[future]
                    self.grades[name] = future.result()
                    grading.write_grade(self.file(name), self.grades[name])
                    self.show(name, stage)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for machine in list(self.machines):
                    machine.kill()
                raise

    def grade(self, vm: Machine, path: pathlib.Path) -> Grade:
        """Returns the grade of a file. Raises LabError if its VM does not start, because
        that is not the submission's fault."""
        folder = vm.folder.with_name(f"grade{next(self.numbers)}")
        sha256 = grading.digest(path)
        try:
            with frozen.resumed(vm, folder, self.machines) as machine:
                said, why = self.ask(machine, path)
        except LabError as error:
            raise LabError(
                f"{path} could not be graded: {error.sentence}", *error.advice
            ) from None
        return grading.read_grade(said, sha256, self.options.upto, why)

    def ask(self, machine: Machine, path: pathlib.Path) -> tuple[bytes, str]:
        """Returns what the guide in the VM prints about a file, and the error to report
        if that is not a grade."""
        command = machine.argv(f"workshop grade --upto {self.options.upto}", False)
        seconds = 60 * self.options.minutes
        with (
            open(path, "rb") as source,
            subprocess.Popen(
                command, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process,
        ):
            said, in_time = listen(process, seconds)
        if not in_time:
            return b"", f"it did not finish within {self.options.minutes:g} minutes"
        return said, "its VM stopped"

    def show(self, name: str, stage: Stage) -> None:
        """Prints a line for a grade, and shows how many grades there are."""
        grade = self.grades[name]
        wrong = grading.printable(grade.wrong or "")[:70]
        self.lab.say(f"{name:24} {len(grade.passed)} passed   {wrong}".rstrip())
        stage.part = f"{len(self.grades)} of {len(self.found)}"


def listen(process: subprocess.Popen[bytes], seconds: float) -> tuple[bytes, bool]:
    """Returns what a process prints, up to a limit, and whether it ended in time. Ends
    the process."""
    said: list[bytes] = []
    assert process.stdout
    stream = process.stdout

    def read() -> None:
        said.append(stream.read(MOST_OUTPUT))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(seconds)
    in_time = not reader.is_alive()
    process.kill()
    process.wait()
    reader.join()
    return b"".join(said), in_time
