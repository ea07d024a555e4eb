"""Stops the VM. Its disk stays, and so does my/."""

from __future__ import annotations

import argparse

from host import providers
from host.lab import Lab


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(lab: Lab, options: argparse.Namespace) -> int:
    with lab.lock():
        providers.choose(lab).down()
    return 0
