"""The part of LAB=local that needs root. ./lab runs it, through sudo if need be."""

from __future__ import annotations

import argparse
import json
import pathlib

from host.lab import Lab
from host.local_root import JOBS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", choices=list(JOBS))
    parser.add_argument("directory", type=pathlib.Path)


def run(lab: Lab, options: argparse.Namespace) -> int:
    print(json.dumps(JOBS[options.job](options.directory)), flush=True)
    return 0
