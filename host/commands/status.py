"""Shows what exists, what is running, and where JupyterLab is.

Exit status: 0 if the lab runs, 3 if it does not.
"""

from __future__ import annotations

import argparse

from host.lab import Lab
from host.providers import choose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(lab: Lab, options: argparse.Namespace) -> int:
    return choose.provider(lab).status()
