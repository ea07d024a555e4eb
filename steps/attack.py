"""What the break-outs share: run a script in the runtime under attack, and tell how it went.

A break-out is called as `breakout.py RUNTIME`. Exit status 0: at least one attack worked,
1: all were stopped, 2: it could not be tried.
"""

import os
import subprocess
import sys

if len(sys.argv) != 2 or not os.access(sys.argv[1], os.X_OK):
    sys.exit(f"usage: {sys.argv[0]} RUNTIME   (an executable container.py)")
if os.geteuid() != 0:
    sys.exit(f"{sys.argv[0]}: the attacker is root in the container: type sudo first")
RUNTIME = os.path.abspath(sys.argv[1])
USAGE = subprocess.run([RUNTIME, "--help"], capture_output=True, text=True).stdout
_worked: list[bool] = []


def inside(*command, options=(), timeout=60):
    """Run a command in a container, in the debian image where the runtime has images and
    without network where it has a choice. Returns the CompletedProcess."""
    words = list(options)
    if "--net" in USAGE:
        words += ["--net", "none"]
    if "IMAGE" in USAGE:
        words.append("debian")
    argv = [RUNTIME, "run", *words, *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout)


def tell(attack, worked, process):
    """Tell how one attack went, with what the container said."""
    if process.returncode in (125, 126, 127):  # the attack has not even begun
        print(process.stderr.strip(), file=sys.stderr)
        sys.exit(2)
    _worked.append(worked)
    said = (process.stderr.strip() or process.stdout.strip()).splitlines()
    print(f"{'BROKEN IN' if worked else 'stopped  '}  {attack}")
    if said:
        print(f"           the container says: {said[-1]}")


def end():
    """End the break-out with the exit status that its attacks have earned."""
    sys.exit(0 if any(_worked) else 1)
