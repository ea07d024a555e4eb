#!/usr/bin/env python3
"""Times step 11 beside runc and crun: a container that runs `true`, with the runtime alone and
with podman. The runtimes take turns, so that all of them have the same machine.

    tests/oci/speed.py [--rounds N] [--record FILE]

It needs root, podman, runc, crun, and the root filesystem of busybox. With --record the
medians go into a JSON file, from which bench/proof.py makes a section of docs/PROOF.md.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

from judge import OURS, remove

ROOTFS = "/var/lib/workshop/rootfs/busybox"


def main() -> int:
    """Times everything, and prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        medians = measure(jobs(work), work, options.rounds)
    finally:
        remove(work)
    for name, milliseconds in medians.items():
        print(f"{name:30} {milliseconds:6.0f} ms")
    for how in "alone", "podman":
        ours = medians[f"{how}, step 11"]
        ratios = [
            f"{ours / medians[f'{how}, {n}']:.2f} of {n}" for n in ("runc", "crun")
        ]
        print(f"{how}: step 11 takes {', '.join(ratios)}")
    if options.record:
        file = options.record
        all_ = json.loads(file.read_text()) if file.exists() else {}
        facts = {"when": datetime.date.today().isoformat(), "linux": os.uname().release}
        all_["speed"] = facts | {"medians": medians}
        file.write_text(json.dumps(all_, indent=1, sort_keys=True) + "\n")
    return 0


def jobs(work: pathlib.Path) -> dict[str, list[str]]:
    """Makes a bundle and an image. Returns what to time, by name."""
    subprocess.run(["cp", "-a", ROOTFS, work / "rootfs"], check=True)
    subprocess.run(["runc", "spec"], cwd=work, check=True)
    config = json.loads((work / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    (work / "config.json").write_text(json.dumps(config))
    own = ["podman", "--root", str(work / "storage"), "--runroot", str(work / "run")]
    archive = work / "box.tar"
    subprocess.run(["tar", "-cf", archive, "-C", work / "rootfs", "."], check=True)
    subprocess.run(
        [*own, "import", "-q", archive, "box"], check=True, stdout=subprocess.DEVNULL
    )
    run = "run --rm --network none box true".split()
    found = {}
    for name, runtime in ("step 11", str(OURS)), ("runc", "runc"), ("crun", "crun"):
        found[f"alone, {name}"] = [runtime, "run", work.name]
        found[f"podman, {name}"] = [*own, "--runtime", runtime, *run]
    # podman calls a runtime three times, and `create` starts Python twice: hide_program().
    found["Python alone"] = ["/usr/bin/python3", "-SE", "-c", "pass"]
    found["Python and step 11's modules"] = [str(OURS), "features"]
    return found


def measure(
    jobs: dict[str, list[str]], work: pathlib.Path, rounds: int
) -> dict[str, float]:
    """Runs each job once, and then all of them in turn. Returns the medians in ms."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for number in range(rounds + 1):
        for name, words in jobs.items():
            begin = time.monotonic()
            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
            subprocess.run(words, cwd=work, check=True, **streams)  # type: ignore[call-overload]
            if number:
                times[name].append((time.monotonic() - begin) * 1000)
    return {name: statistics.median(values) for name, values in times.items()}


if __name__ == "__main__":
    sys.exit(main())
