"""Prints what is there, what runs, and where JupyterLab is.

Exit status: 0 if the lab runs, 3 if it does not.
"""

from __future__ import annotations

import argparse

from host import providers
from host.lab import Lab


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(lab: Lab, options: argparse.Namespace) -> int:
    return providers.choose(lab).status()
