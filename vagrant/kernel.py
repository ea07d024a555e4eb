#!/usr/bin/env python3
"""Runs a kernel in the VM for the user's own Jupyter or VS Code.

    sudo python kernel.py serve

host/commands/kernel.py starts this through ssh, and sends the connection file on standard
input, so that its key is on no command line. The kernel runs as root in notebooks/, as in the
lab's own JupyterLab, and ends when ssh hangs up.
"""

import pathlib
import subprocess
import sys
import tempfile
import threading

PROJECT = pathlib.Path(__file__).resolve().parent.parent


def serve():
    """Runs the kernel until it ends or ssh hangs up. Returns the kernel's exit status."""
    with tempfile.NamedTemporaryFile("w", prefix="kernel-", suffix=".json") as file:
        file.write(sys.stdin.readline())
        file.flush()
        kernel = subprocess.Popen(
            [sys.executable, "-P", "-m", "ipykernel_launcher", "-f", file.name],
            stdin=subprocess.DEVNULL,
            cwd=PROJECT / "notebooks",
            start_new_session=True,
        )
        threading.Thread(target=end_with_ssh, args=[kernel], daemon=True).start()
        status = kernel.wait()
    return status if status >= 0 else 128 - status


def end_with_ssh(kernel):
    """Ends the kernel, within 5 s, when ssh hangs up or the host is gone."""
    sys.stdin.read()
    kernel.terminate()
    try:
        kernel.wait(5)
    except subprocess.TimeoutExpired:
        kernel.kill()


if __name__ == "__main__":
    if sys.argv[1:] != ["serve"]:
        sys.exit("usage: kernel.py serve")
    sys.exit(serve())
