"""`./lab SUBCOMMAND …`: finds the subcommand's file in host/commands and runs it.

On Windows, type `py -m host SUBCOMMAND …`. The guide's subcommands go to
`workshop SUBCOMMAND …` in the VM.
"""

from __future__ import annotations

import os
import pathlib
import sys

if not __package__:  # started as `python3 …/host`, from any directory
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from host import streams
from host.dispatch import main

if __name__ == "__main__":
    streams.prepare()
    status = main(sys.argv[1:], os.environ)
    sys.exit(status)
