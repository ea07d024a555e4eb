#!/usr/bin/python3 -S
"""Step 00: run a program. fork(2), execve(2), wait(2)."""

import os
import sys

# linux.py and process.py are in the parent directory, for my/container.py in ../steps.
# They come first, so that no other module of the same name replaces them.
# -S in the first line skips site-packages, which makes the start faster.
sys.path[:0] = [os.path.join(sys.path[0], where) for where in ("../steps", "..")]
import process

USAGE = "run COMMAND..."


def parent(args):
    """On the host: starts the container and waits for its end. Returns its status."""
    container = process.start(child, args)
    return process.wait(container)


def child(args):
    """In the container: prepares it, then becomes the command."""
    # The caller's session, keys, terminal and open files stay behind: isolation.py
    process.execute(args.command)


if __name__ == "__main__":
    process.main(parent, USAGE)
