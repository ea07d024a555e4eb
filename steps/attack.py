"""What the break-outs share: they run scripts in the runtime under attack, and report how each
attempt went.

A break-out is called as `breakout.py RUNTIME`. Exit status 0: at least one attempt worked,
1: all were stopped, 2: it could not be tried.
"""

import os
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


class Attack:
    """An attack on the runtime that the command line names, in one or more ways."""

    def __init__(self) -> None:
        """SystemExit: the command line has no runtime, or we are not root."""
        program, *words = sys.argv
        if len(words) != 1 or not os.access(words[0], os.X_OK):
            sys.exit(f"usage: {program} RUNTIME   (an executable container.py)")
        if os.geteuid() != 0:
            sys.exit(f"{program}: needs root, as the attacker has it inside: try sudo")
        self.runtime = os.path.abspath(words[0])
        command = [self.runtime, "--help"]
        self.usage = subprocess.run(command, capture_output=True, text=True).stdout
        self.worked = 0

    def inside(
        self,
        *command: str,
        options: "list[str] | None" = None,
        image: str = "debian",
        timeout: float = 60,
    ) -> "subprocess.CompletedProcess[str]":
        """Runs a command in a container, in this image if the runtime has images, and without
        a network if it has a choice. Returns the CompletedProcess."""
        words = options or []
        if "--net" in self.usage:
            words = [*words, "--net", "none"]
        if "IMAGE" in self.usage:
            words = [*words, image]
        argv = [self.runtime, "run", *words, *command]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout)

    def report(
        self, way: str, worked: bool, process: "subprocess.CompletedProcess[str]"
    ) -> None:
        """Prints whether one way worked, and the last line that the container printed."""
        if process.returncode in (125, 126, 127):  # the container did not even start
            print(process.stderr.strip(), file=sys.stderr)
            sys.exit(2)
        self.worked += worked
        lines = (process.stderr.strip() or process.stdout.strip()).splitlines()
        print(f"{'BROKEN IN' if worked else 'stopped  '}  {way}")
        if lines:
            print(f"           the container says: {lines[-1]}")

    def end(self) -> "NoReturn":
        """Ends the script with the exit status that its attack has earned."""
        sys.exit(0 if self.worked else 1)
