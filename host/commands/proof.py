"""Measures every figure in docs/PROOF.md again: three hours in an emulated VM.

./lab proof suite runs the tests only, or some files of them, and keeps the benchmark's
figures as they are in docs/proof.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from host.commands.bench import FIGURES, bench, measuring
from host.errors import LabError, UsageError
from host.guest import Guest
from host.lab import Lab
from host.processes import quote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", choices=("suite",), help="the tests only")
    parser.add_argument("files", nargs="*", metavar="tests/guide tests/unit | FILE")


def run(lab: Lab, options: argparse.Namespace) -> int:
    if options.what == "suite":
        with measuring(lab) as guest:
            return prove(guest, options.files)
    if options.files:
        raise UsageError("proof: files can only follow the word suite")
    lab.prepare_state()
    first, later = time_starts(lab)
    with measuring(lab) as guest:
        bench(guest, ["--ups", f"the first={first}", "--ups", f"later={later}"])
        return prove(guest, [])


def prove(guest: Guest, files: list[str]) -> int:
    return guest.run(f"{guest.python} bench/proof.py {FIGURES} {quote(files)}")


def time_starts(lab: Lab) -> tuple[int, int]:
    """Returns the seconds of ./lab up in a new directory: the first time, and later."""
    lab.say("building a lab from scratch, and starting it again")
    timed(lab, "destroy", "--all")
    first = timed(lab, "up")
    timed(lab, "down")
    later = timed(lab, "up")
    timed(lab, "destroy", "--all")
    return first, later


def timed(lab: Lab, *words: str) -> int:
    """Returns the seconds that a ./lab command takes, in a lab of its own."""
    begin = time.monotonic()
    command = [sys.executable, str(lab.settings.project / "host"), *words]
    variables = {**os.environ, "LAB_DIR": str(lab.settings.state / "proof")}
    log = lab.settings.state / "log/proof.log"
    with open(log, "ab") as output:
        done = subprocess.run(
            command,
            check=False,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    if done.returncode != 0:
        raise LabError(f"./lab {' '.join(words)} failed", f"Its output is in {log}.")
    return round(time.monotonic() - begin)
