"""Compares the runtime with others, in a VM that is thrown away.

The figures go to docs/proof.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator

from host.guest import Guest
from host.lab import Lab
from host.processes import quote
from host.providers import choose

MEMORY = 4096  # megabytes, for 500 containers
FIGURES = "/var/tmp/proof"  # in the VM; a copy of docs/proof and docs/PROOF.md


OWN_OPTIONS = {"-h": False, "--help": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "./lab bench [PART…] [OPTION OF bench/bench.py…]"


def run(lab: Lab, options: argparse.Namespace) -> int:
    with measuring(lab) as guest:
        return bench(guest, options.arguments)


def bench(guest: Guest, arguments: list[str]) -> int:
    words = quote(["--out", f"{FIGURES}/proof", *arguments])
    return guest.run(f"{guest.python} bench/bench.py {words}")


@contextlib.contextmanager
def measuring(lab: Lab) -> Iterator[Guest]:
    """Gives the block a VM with the figures so far, and copies them to docs/ after it."""
    memory = lab.settings.memory or MEMORY
    with choose.provider(lab).throwaway(memory) as guest:
        guest.check(f"mkdir -p {FIGURES} && cp -r docs/proof {FIGURES}")
        try:
            yield guest
        finally:
            guest.fetch(FIGURES, lab.settings.project / "docs")
