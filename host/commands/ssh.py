"""Opens a shell in the VM, or runs one command: ./lab ssh [-- COMMAND]

It does what `ssh HOST COMMAND` does, in the project's directory.
"""

from __future__ import annotations

import argparse
import sys

from host.guest import at_terminal, become
from host.lab import Lab
from host.providers import choose

OWN_OPTIONS = {"-h": False, "--help": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "./lab ssh [-- COMMAND]"


def run(lab: Lab, options: argparse.Namespace) -> int:
    provider = choose.provider(lab)
    provider.need_running()
    # With a terminal in the VM, stderr arrives with stdout, not where it is redirected to.
    command = text(options.arguments)
    terminal = at_terminal() and (not command or sys.stderr.isatty())
    return become(provider.shell_argv(command, terminal))


def text(words: list[str]) -> str:
    """Joins the words of the command with spaces, as ssh does."""
    return " ".join(words[1:] if words[:1] == ["--"] else words)
