"""Starts the lab, and shows a container. The first time, it builds the VM.

With --from, the image (or with LAB=vagrant the box) comes from a directory that
`./lab pack` filled, and no network is needed.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from host.errors import LabError
from host.lab import Lab
from host.providers import choose
from host.providers.base import Provider


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="source",
        type=pathlib.Path,
        metavar="DIRECTORY",
        help="a directory that ./lab pack filled",
    )


def run(lab: Lab, options: argparse.Namespace) -> int:
    provider = start(lab, options.source)
    return provider.welcome()


def start(lab: Lab, source: pathlib.Path | None = None) -> Provider:
    """Starts the lab, if it is not up. Returns its provider."""
    if source is not None:
        if not source.is_dir():
            raise LabError(f"there is no directory {source}")
        source = source.resolve()
        lab.settings = dataclasses.replace(lab.settings, way=lab.settings.way or "qemu")
    with lab.lock():
        provider = choose.provider(lab)
        choose.remember(lab, provider)
        lab.make_my(in_vm=provider.name != "local")
        provider.up(source)
    return provider
