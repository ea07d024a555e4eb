#!/usr/bin/env python3
"""Start to exit of /bin/true, side by side with other runtimes on one root filesystem.

    sudo bench/start.py [--runs 40] [--json FILE]

Every runtime takes its turns in random order, so that whatever else the machine does hits
all of them alike; quote the ratios, not the times. One that is missing or does not run
here is named below the table, with its complaint.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent
ROOTFS = "/var/lib/workshop/rootfs/busybox"
OURS = str(PROJECT / "steps" / "07_overlay" / "container.py")
NETWORK = str(PROJECT / "steps" / "network.sh")


def bundle(folder, tool, *, network):
    """Make an OCI bundle for crun or runc: the tool's own default, with our root and
    command. network: a namespace of its own, as the default has it."""
    subprocess.run([tool, "spec"], cwd=folder, check=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["root"] = {"path": ROOTFS, "readonly": False}
    config["process"]["args"] = ["/bin/true"]
    config["process"]["terminal"] = False
    if not network:
        namespaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [
            n for n in namespaces if n["type"] != "network"
        ]
    path.write_text(json.dumps(config))
    return str(folder)


def contenders(scratch):
    """{name: command}. "ID" in a command becomes a name that no container has."""
    found = {
        "plain exec": ["/bin/true"],
        "unshare": ["unshare", "-muipnC", "--fork", "--root", ROOTFS, "/bin/true"],
        "bwrap": "bwrap --unshare-all --bind".split()
        + [ROOTFS, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"],
        "07, --net none": [OURS, "run", "--net", "none", "busybox", "/bin/true"],
        "07, with network": [OURS, "run", "busybox", "/bin/true"],
        "07, with limits": [
            OURS,
            "run",
            "--net",
            "none",
            "--memory",
            "64M",
            "--pids",
            "32",
        ]
        + ["--cpus", "0.5", "busybox", "/bin/true"],
    }
    for tool in ("crun", "runc"):
        if shutil.which(tool):
            folder = pathlib.Path(scratch) / tool
            folder.mkdir()
            found[tool] = [
                tool,
                "run",
                "--bundle",
                bundle(folder, tool, network=True),
                "ID",
            ]
    return {
        name: command for name, command in found.items() if shutil.which(command[0])
    }


def once(command):
    """Run it. Returns the milliseconds from start to exit. CalledProcessError: it failed."""
    words = [f"bench-{random.getrandbits(48):x}" if w == "ID" else w for w in command]
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def measure(commands, runs):
    """Returns ({name: [milliseconds]}, {name: why it does not run})."""
    times, refused = {}, {}
    for name, command in commands.items():
        try:
            once(command)  # warm, and a try
            times[name] = []
        except subprocess.CalledProcessError as error:
            refused[name] = error.stderr.decode().strip().splitlines()[-1]
    turns = [name for name in times for _ in range(runs)]
    random.shuffle(turns)
    for name in turns:
        times[name].append(once(commands[name]))
    return times, refused


def growth(alive, runs):
    """Returns ([milliseconds], [milliseconds]): starts with no container alive, and with so
    many. In four turns of each, so that a machine that is busy for a while hits both."""
    command = [OURS, "run", "--net", "none", "busybox", "/bin/true"]
    sleeper = [OURS, "run", "--net", "none", "busybox", "sleep", "600"]
    first, last = [], []
    for _ in range(4):
        first += [once(command) for _ in range(runs // 4)]
        with contextlib.ExitStack() as stack:
            for _ in range(alive):
                process = subprocess.Popen(sleeper, stdin=subprocess.DEVNULL)
                stack.callback(process.wait)
                stack.callback(process.kill)  # PID 1 would not heed SIGTERM
            settle(command)
            last += [once(command) for _ in range(runs // 4)]
        settle(command)
    return first, last


def settle(command):
    """Wait until a start of command takes no longer than the one before: all that was started, or
    ended, is through with it. At most 30 s."""
    before, end = float("inf"), time.monotonic() + 30
    while time.monotonic() < end:
        now = statistics.median(once(command) for _ in range(3))
        if now > before * 0.95:
            return
        before = now


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=40, help="of each runtime (40)")
    parser.add_argument(
        "--alive", type=int, default=100, help="containers, for growth (100)"
    )
    parser.add_argument("--json", help="write every single time to this file")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/start.py starts containers: it needs root, try sudo")
    subprocess.run([NETWORK, "on"], check=True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            times, refused = measure(contenders(scratch), options.runs)
        first, last = growth(options.alive, options.runs)
    finally:
        subprocess.run([NETWORK, "off"], check=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    base = {tool: medians.get(tool, float("nan")) for tool in ("crun", "runc")}
    print("| runtime | median ms | p95 ms | ratio to crun | ratio to runc |")
    print("|---|---|---|---|---|")
    for name, median in sorted(medians.items(), key=lambda item: item[1]):
        p95 = statistics.quantiles(times[name], n=20)[-1]
        ratios = " | ".join(f"{median / base[tool]:.2f}" for tool in ("crun", "runc"))
        print(f"| {name} | {median:.1f} | {p95:.1f} | {ratios} |")
    ratio = statistics.median(last) / statistics.median(first)
    print(
        f"\nWith {options.alive} containers alive a start takes {ratio:.2f} of the first."
    )
    for name, reason in refused.items():
        print(f"\nNot measured: {name}: {reason}")
    if options.json:
        pathlib.Path(options.json).write_text(
            json.dumps(
                {"times": times, "refused": refused, "first": first, "last": last}
            )
        )


if __name__ == "__main__":
    main()
