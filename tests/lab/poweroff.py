#!/usr/bin/env python3
"""The VM loses its power while `workshop commit` copies a layer. Run on the host, while a lab
made with plain QEMU is up; it is up again afterwards.

What was there before is there still: every image as it was, and the learner's files. The image
that was being made is there as a whole, or not at all, and `workshop clean` takes away the
rest.
"""

import os
import pathlib
import signal
import subprocess
import time

PROJECT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab")
LIMIT = 600  # seconds for any one command, also for a start of the VM under emulation

DIGEST = """
cd /var/lib/workshop; find layers images rootfs -name '*cut-short*' -prune -o -type f -print0 |
sort -z | xargs -0 sha256sum | sha256sum; ls images | grep -v cut-short
"""
# 300 MB, so that there is time to pull the plug; that they are on the way is said.
COMMIT = """
cd /workshop; steps/07_overlay/container.py run --net none debian sh -c \
    'head -c 300M /dev/urandom >/big; touch /done; sleep 600' &
until [ -e /var/lib/workshop/containers/$!/upper/done ]; do sleep 0.5; done
workshop commit $! cut-short &
until ls -d /var/lib/workshop/layers/.cut-short.*/big 2>/dev/null; do sleep 0.1; done
sleep 600
"""


def lab(*words, check=True):
    """Run ./lab. Returns what it prints, as a terminal would not show it."""
    done = subprocess.run(
        [PROJECT / "lab", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0 or not check, f"{words}: {done.stdout}"
    return done.stdout.replace("\r", "")


def in_vm(script):
    return lab("ssh", "--", f"sudo sh -c '{quoted(script)}'")


def quoted(script):
    """A script as it stands between single quotes."""
    return script.replace("'", "'\\''")


def pull_the_plug():
    """Start a commit and end the VM in the middle of it, as a power cut does."""
    command = [PROJECT / "lab", "ssh", "--", f"sudo sh -c '{quoted(COMMIT)}'"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        line = process.stdout.readline()
        assert "cut-short" in line, f"no commit has begun: {line!r}"
        os.kill(int((STATE / "vm/pid").read_text()), signal.SIGKILL)


def main():
    mine = PROJECT / "my/of-the-learner.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("kept\n")
    before = in_vm(DIGEST)
    pull_the_plug()
    begin = time.monotonic()
    lab("up")
    print(f"up again after {time.monotonic() - begin:.0f} s", flush=True)
    assert in_vm(DIGEST) == before
    listed = in_vm("cd /workshop; workshop image ls")
    if "cut-short" in listed:
        in_vm("steps/07_overlay/container.py run --net none cut-short test -s /big")
    print(
        in_vm("workshop clean; ls -A /var/lib/workshop/layers /var/lib/workshop/images")
    )
    left = in_vm(
        "ls -A /var/lib/workshop/layers /var/lib/workshop/images /var/lib/workshop/containers"
    )
    assert ".cut-short" not in left, left
    in_vm("rm -f /var/lib/workshop/images/cut-short; workshop clean")
    assert (
        in_vm(
            "cd /workshop; steps/07_overlay/container.py run --net none debian echo runs"
        )
        == "runs\n"
    )
    assert mine.read_text() == "kept\n"
    mine.unlink()
    print("PASS  a power cut in the middle of a commit damages nothing")


if __name__ == "__main__":
    main()
