"""Stops the VM. Its disk stays, and so does my/."""

from __future__ import annotations

import argparse

from host.lab import Lab
from host.providers import choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(lab: Lab, options: argparse.Namespace) -> int:
    with lab.lock():
        choose.provider(lab).down()
    return 0
