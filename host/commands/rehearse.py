"""Starts the VM, plays the whole demo and checks it: for the evening before a talk."""

from __future__ import annotations

import argparse
import shutil
import sys

from host.commands import up
from host.errors import LabError
from host.lab import Lab

WIDEST = 110  # columns of a terminal with type that is large enough for a stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "minutes",
        nargs="?",
        type=int,
        choices=(20, 45, 90),
        default=20,
        metavar="MINUTES",
        help="how long the talk is: 20 (the default), 45 or 90",
    )


def run(lab: Lab, options: argparse.Namespace) -> int:
    provider = up.start(lab)
    provider.welcome()
    if provider.run(f"workshop demo --minutes {options.minutes} --auto") != 0:
        raise LabError(
            "the demo did not show everything that it should",
            "What it showed instead is above.",
            "./lab destroy && ./lab up builds a new VM.",
        )
    lab.say(
        f"the {options.minutes}-minute demo ran, and showed everything it should; "
        "the VM stays up for tomorrow"
    )
    columns = shutil.get_terminal_size().columns
    if sys.stdout.isatty() and columns > WIDEST:
        lab.say(
            f"this terminal has {columns} columns: "
            "for the stage, enlarge the type until it has 90"
        )
    lab.say("read docs/speaking.md once more, and charge the clicker")
    return 0
