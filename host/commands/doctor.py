"""Checks this machine, and says what to type if something is missing.

It changes nothing. What it starts ends with it: a VM, once, to find out whether hardware
virtualization works, and if root runs it, what ./lab up would need root for. Exit status:
0 if everything needed is there, 1 if not.
"""

from __future__ import annotations

import argparse
import os
import sys

from host.doctor_rows import WAYS, Row, machine_rows
from host.lab import Lab
from host.doctor_probes import Probe
from host.providers import choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(lab: Lab, options: argparse.Namespace) -> int:
    lab.prepare_state()
    provider = choose.provider(lab)
    text, status = report(Probe(lab, provider), provider.name, wants_colour())
    print(text)
    return status


def wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def report(probe: Probe, way: str, colour: bool = False) -> tuple[str, int]:
    """Returns the whole table about a machine, and the exit status."""
    needed = [*machine_rows(probe, way), *WAYS[way](probe)]
    lines = [f"The lab here: {way}", *(show(row, colour) for row in needed)]
    for other in "qemu", "vagrant":
        if other != way:
            lines += ["", f"The other way, LAB={other}, is not needed:"]
            lines += [show(row, colour) for row in WAYS[other](probe)]
    missing = sum(row.mark == "NO" for row in needed)
    if missing:
        lines += ["", f"Missing: {missing}, marked NO above."]
        return "\n".join(lines), 1
    return "\n".join([*lines, "", "Nothing is missing. Type: ./lab up"]), 0


COLOURS = {"ok": 32, "slow": 33, "NO": 31}


def show(row: Row, colour: bool) -> str:
    mark = f"{row.mark:4}"
    if colour:
        mark = f"\033[1;{COLOURS[row.mark]}m{mark}\033[0m"
    line = f"{mark}  {row.what:22}  {row.found}"
    return line + (f"\n{'':30}type: {row.type}" if row.type else "")
