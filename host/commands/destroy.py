"""Removes the VM: its disk, keys and token. my/ stays, because it is yours."""

from __future__ import annotations

import argparse

from host.lab import Lab
from host.providers import choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--all", action="store_true", help="remove the image as well, to rebuild it"
    )


def run(lab: Lab, options: argparse.Namespace) -> int:
    with lab.lock():
        choose.provider(lab).destroy(options.all)
        (lab.settings.state / "way").unlink(missing_ok=True)
    lab.say("kept: my/, which is yours")
    return 0
