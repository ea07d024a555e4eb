#!/usr/bin/python3 -S
"""Step 01: a host name of its own. uts_namespaces(7), ipc_namespaces(7)."""

import os
import sys

# linux.py and process.py are in the parent directory, for my/container.py in ../steps.
# They come first, so that no other module of the same name replaces them.
# -S in the first line skips site-packages, which makes the start faster.
sys.path[:0] = [os.path.join(sys.path[0], where) for where in ("../steps", "..")]
import linux
import process

USAGE = "run [--hostname NAME] COMMAND..."

NAMESPACES = linux.CLONE_NEWUTS | linux.CLONE_NEWIPC  # host name; message queues


def parent(args):
    """On the host: starts the container and waits for its end. Returns its status."""
    container = process.start(child, args, flags=NAMESPACES)
    return process.wait(container)


def child(args):
    """In the container: prepares it, then becomes the command."""
    linux.sethostname(args.hostname or "container")
    # The caller's session, keys, terminal and open files stay behind: isolation.py
    process.execute(args.command)


if __name__ == "__main__":
    process.main(parent, USAGE)
