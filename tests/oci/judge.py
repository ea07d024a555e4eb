#!/usr/bin/env python3
"""Judges OCI runtimes by what other people wrote, and prints a table.

    tests/oci/judge.py SUITE [--suites DIRECTORY] [RUNTIME...]

SUITE: `podman` is what podman does with a runtime, `validation` the programs of
opencontainers/runtime-tools, and `crun` the tests of crun's makers. tests/oci/get builds the
last two in DIRECTORY (.lab/oci). RUNTIME: a program, by default steps/11_oci, runc and crun.

With --record FILE, the counts go into a JSON file, from which bench/proof.py makes a section of
docs/PROOF.md.

It needs root, but no network. It runs in a mount namespace of its own. If this machine has
cgroup version 1, it mounts version 2 there, so that runtimes can make cgroups, though without
controllers. Without systemd it also has a PID namespace, which ends whatever a runtime leaves
behind; with systemd it has none, because systemd makes cgroups for PIDs of its own namespace,
so use a VM that you throw away. The exit status is 1 if the first runtime fails something that
is not in known.txt, or passes something that is.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
OURS = PROJECT / "steps/11_oci/container.py"
KNOWN = HERE / "known.txt"


@dataclass
class Result:
    """What one runtime did in one suite: by name, "ok", "not ok" or "skip", and the number
    of single checks that passed."""

    runtime: str
    outcomes: dict[str, str] = field(default_factory=dict)
    checks: int = 0
    output: list[str] = field(default_factory=list)

    def count(self, outcome: str) -> int:
        return list(self.outcomes.values()).count(outcome)


def main() -> int:
    """Runs a suite with each runtime. Returns the exit status."""
    parser = argparse.ArgumentParser(usage=(__doc__ or "").split("\n")[2].strip())
    parser.add_argument("suite", choices=JUDGES)
    parser.add_argument("runtimes", nargs="*", default=[str(OURS), "runc", "crun"])
    parser.add_argument("--suites", type=pathlib.Path, default=PROJECT / ".lab/oci")
    parser.add_argument("-k", default="", metavar="WORD", help="only these programs")
    parser.add_argument("--without", metavar="WORD", help="not these programs")
    parser.add_argument(
        "--patience", type=int, default=1, help="a factor for slow machines"
    )
    parser.add_argument("--record", type=pathlib.Path, metavar="FILE")
    options = parser.parse_intermixed_args()
    if "OCI_JUDGE" not in os.environ:
        os.environ["OCI_JUDGE"] = "in namespaces"
        words = ["unshare", "--mount"]
        if not os.path.isdir("/run/systemd/system"):
            words += ["--pid", "--fork", "--kill-child", "--mount-proc"]
        os.execvp("unshare", [*words, sys.executable, __file__, *sys.argv[1:]])
    if not os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        subprocess.run(["umount", "-lR", "/sys/fs/cgroup"], check=True)
        command = ["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"]
        subprocess.run(command, check=True)
    before = set(cgroups())
    results = []
    for runtime in options.runtimes:
        path = shutil.which(runtime)
        if not path:
            parser.error(f"{runtime} is not installed")
        path = os.path.abspath(path)
        result, work = Result(runtime), pathlib.Path(tempfile.mkdtemp(dir="/var/tmp"))
        try:
            JUDGES[options.suite](result, path, options, work)
            results.append(result)
        finally:
            remove(work)
            for cgroup in cgroups():  # the deepest come first
                if cgroup not in before:
                    discard(cgroup)
        for line in result.output:
            print(line)
        print(summary(result), flush=True)
        if options.record and not options.k:
            record(options, result, path)
    return compare(options.suite, results[0], bool(options.k or options.without))


def cgroups() -> list[pathlib.Path]:
    """Returns all cgroups except systemd's own, those in others first."""
    found = os.walk("/sys/fs/cgroup", topdown=False)
    units = ".slice", ".service", ".scope"
    return [pathlib.Path(top) for top, _, _ in found if not top.endswith(units)]


def discard(cgroup: pathlib.Path) -> None:
    """Removes a cgroup that a runtime has left, with its processes. Leaves it alone if it has
    processes of others: in this PID namespace, those have the number 0."""
    pids = (cgroup / "cgroup.procs").read_text().split()
    if "0" in pids:
        return
    if pids:
        (cgroup / "cgroup.kill").write_text("1")
    for _ in range(100):
        try:
            cgroup.rmdir()
            return
        except OSError:
            time.sleep(0.05)


def remove(work: pathlib.Path) -> None:
    """Removes a directory. A runtime can have left mounts there, even of the host's own
    directories, so these go first, and nothing behind a mount is removed."""
    mounts = pathlib.Path("/proc/self/mounts").read_text().split("\n")[:-1]
    for line in reversed(mounts):
        if line.split()[1].startswith(f"{work}/"):
            subprocess.run(["umount", "-l", line.split()[1]], check=False)
    subprocess.run(["rm", "-rf", "--one-file-system", str(work)], check=False)


def summary(result: Result) -> str:
    """Returns one line about one runtime."""
    counts = [f"{result.count(word)} {word}" for word in ("ok", "not ok", "skip")]
    checks = f", {result.checks} single checks ok" if result.checks else ""
    return f"{result.runtime}: {', '.join(counts)}{checks}"


def chosen(options: argparse.Namespace, name: str) -> bool:
    """Returns whether to run a program with this name."""
    unwanted = options.without and options.without in name
    return options.k in name and not unwanted


def record(options: argparse.Namespace, result: Result, path: str) -> None:
    """Adds a result to a file of results, with the day, the machine and the version."""
    words = [path, "--version"]
    version = subprocess.run(words, capture_output=True, text=True).stdout.split("\n")[
        0
    ]
    file = options.record
    all_ = json.loads(file.read_text()) if file.exists() else {}
    counts = {word: result.count(word) for word in ("ok", "not ok", "skip")}
    failed = [name for name, word in result.outcomes.items() if word == "not ok"]
    all_.setdefault(options.suite, {})[version] = {
        "when": datetime.date.today().isoformat(),
        "linux": os.uname().release,
        **counts,
        "checks": result.checks,
        "without": options.without or "",
        "failed": sorted(failed),
    }
    file.write_text(json.dumps(all_, indent=1, sort_keys=True) + "\n")


def compare(suite: str, result: Result, partial: bool) -> int:
    """Prints what differs from known.txt, which lists each failure with its reason. Returns
    the exit status."""
    if pathlib.Path(result.runtime).resolve() != OURS:
        return 0
    known = {
        line.split()[1]
        for line in KNOWN.read_text().splitlines()
        if line.split()[:1] == [suite]
    }
    failed = {name for name, outcome in result.outcomes.items() if outcome == "not ok"}
    for name in sorted(failed - known):
        print(f"NEW FAILURE: {name}")
    gone = {name for name in known if result.outcomes.get(name) == "ok"}
    for name in sorted(gone):
        print(f"{name} passes now: take it out of {KNOWN.name}")
    if not result.outcomes:
        print("nothing ran")
    return int(bool(failed - known or gone or not result.outcomes) and not partial)


def progress(name: str, start: float, outcome: str) -> None:
    """Tells a waiting reader, on stderr, what has ended."""
    print(f"{name}: {outcome}, {time.monotonic() - start:.0f} s", file=sys.stderr)


def run(command: list[str], seconds: int, **options) -> tuple[int | None, str]:
    """Runs a program for at most this long. Returns its status and its output."""
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    streams |= {"stderr": subprocess.STDOUT}
    with subprocess.Popen(
        command, **streams, **options, start_new_session=True
    ) as process:
        try:
            output = process.communicate(timeout=seconds)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            return None, process.communicate()[0].decode(errors="replace")
        return process.returncode, output.decode(errors="replace")


def validation(result: Result, runtime: str, options, work: pathlib.Path) -> None:
    """Runs each validation program. It is ok if all of its checks are. Some programs print
    a diagnosis if something is wrong, and otherwise nothing."""
    suite = options.suites / "validation"
    for name in "runtimetest", *(path.name for path in suite.glob("rootfs-*")):
        shutil.copy2(suite / name, work / name)
    environment = os.environ | {"RUNTIME": runtime, "TMPDIR": str(work)}
    for program in sorted(suite.glob("*.t")):
        if not chosen(options, program.stem):
            continue
        start = time.monotonic()
        seconds = 120 * options.patience
        status, output = run([str(program)], seconds, cwd=work, env=environment)
        good = re.findall(r"^ok .*", output, re.M)
        skipped = [line for line in good if "# SKIP" in line]
        bad = [
            line
            for line in re.findall(r"^not ok .*", output, re.M)
            if "# TODO" not in line
        ]
        result.checks += len(good) - len(skipped)
        wrong = status != 0 or bad or (not good and "\n  ---" in output)
        outcome = "skip" if good and good == skipped else "ok"
        result.outcomes[program.stem] = "not ok" if wrong else outcome
        progress(program.stem, start, result.outcomes[program.stem])
        if wrong:
            result.output += [f"not ok {program.stem}: status {status}", *bad[:3]]
            result.output += output.splitlines()[-3:] if not bad else []


def crun(result: Result, runtime: str, options, work: pathlib.Path) -> None:
    """Runs each file of crun's tests, at a terminal, because without one some do nothing."""
    shutil.copytree(options.suites / "crun", work, dirs_exist_ok=True)
    environment = os.environ | {"OCI_RUNTIME": runtime, "INIT": str(work / "init")}
    for file in sorted(work.glob("test_*.py")):
        if not chosen(options, file.stem):
            continue
        command = ["script", "-qec", f"python3 {file.name}", "/dev/null"]
        start = time.monotonic()
        seconds = 300 * options.patience
        status, output = run(command, seconds, cwd=work, env=environment)
        found = re.findall(r"^(ok|not ok) \d+ - (\S+)( #SKIP)?", output, re.M)
        for outcome, name, skip in found:
            result.outcomes[f"{file.stem[5:]}/{name}"] = "skip" if skip else outcome
        if status is None:
            result.outcomes[f"{file.stem[5:]}/end"] = "not ok"
        progress(file.stem, start, f"{len(found)} tests")
        if any(outcome == "not ok" for outcome, _, _ in found) or status is None:
            lines = [line for line in output.splitlines() if line.startswith("not ok")]
            result.output += [f"{file.stem}: status {status}", *lines]


def podman(result: Result, runtime: str, options, work: pathlib.Path) -> None:
    """Has podman do with a runtime what its users do: podman.sh, one check a function."""
    environment = os.environ | {"RUNTIME": runtime, "WORK": str(work)}
    command = [str(HERE / "podman.sh"), *([options.k] if options.k else [])]
    _, output = run(command, 900 * options.patience, env=environment)
    for outcome, name, skip in re.findall(
        r"^(ok|not ok) (\S+)( # skip)?", output, re.M
    ):
        result.outcomes[name] = "skip" if skip else outcome
    if "not ok" in output or not result.outcomes:
        result.output.append(output)


JUDGES = {"podman": podman, "validation": validation, "crun": crun}

if __name__ == "__main__":
    sys.exit(main())
