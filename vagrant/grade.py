#!/usr/bin/env python3
"""Marks for a class: each runtime checked in a virtual machine of its own, which is thrown away.
One machine is started and frozen when it is ready; those of all submissions go on from there.

    ./lab grade --out DIR [--upto N] [--jobs J] [--minutes M] SUBMISSION...

SUBMISSION: a container.py, or a folder with such files at any depth; one has the name of its
folder, or of its file where that is not container.py. DIR gets a NAME.json for each as soon as
it is there, and at the end marks.csv and marks.xml (JUnit). What is there already, of the same
file, is not done again: what was interrupted goes on. A submission may hang, fork, fill the disk
or halt the machine: the machine is its own, has no network, sees nothing of the host, and is
ended after M minutes (20). Exit status 0: all have a mark; 1: a file cannot be read, or a machine
does not start, which is told; 2: wrong usage; 130: interrupted.

It is no proof against somebody who rewrites the checks from inside: read what passes.

On the host, with Python 3.9 and nothing else: ./lab calls it.
"""

import argparse
import concurrent.futures
import contextlib
import csv
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

LAB = pathlib.Path(__file__).resolve().parent.parent / "lab"
FROZEN = os.environ["LAB_FROZEN"]  # the folder for the machine that all go on from
STEPS = [f"{number:02}" for number in range(8)]
READY = b"the machine goes on\n"  # said by `lab mark` before a submission can do harm
_machines = []  # that were started and may still run


def submissions(paths):
    """{name: path}, of files and of what is in folders. SystemExit: two have one name."""
    found = {}
    for path in paths:
        inside = sorted(path.rglob("container.py")) if path.is_dir() else [path]
        for one in inside:
            own = one.stem if one.name != "container.py" else one.resolve().parent.name
            name = re.sub(r"[^\w.-]", "_", own)
            if name in found:
                sys.exit(f"lab grade: {found[name]} and {one} are both called {name}")
            found[name] = one
    return found


@contextlib.contextmanager
def machine(*words, **streams):
    """A `lab WORD…` that has a machine, as a Popen; both end with the block."""
    # And when we do, whatever ends us.
    command = ["setpriv", "--pdeathsig", "KILL", "sh", str(LAB), *words]
    with subprocess.Popen(command, start_new_session=True, **streams) as one:
        _machines.append(one)
        try:
            yield one
        finally:
            end(one)
            _machines.remove(one)


def mark(path, upto, minutes):
    """The mark of a file, as `workshop grade` tells it in a machine of its own. SystemExit: the
    machine does not start, which is nobody's mark."""
    source, pipe = path.read_bytes(), subprocess.PIPE
    with machine("mark", upto, FROZEN, stdin=pipe, stdout=pipe, stderr=pipe) as one:
        try:
            said, told = one.communicate(source, timeout=60 * minutes)
            # What comes after that word may be the submission's.
            if READY not in told:
                sys.exit(f"lab grade: {path} has no mark yet:\n{told.decode()}")
            why = "its machine has stopped"
        except subprocess.TimeoutExpired:
            said, why = b"", f"it was not done after {minutes} minutes"
    try:
        told = json.loads(said.splitlines()[-1])
        steps = {
            str(step): [int(n) for n in told["steps"][step]] for step in told["steps"]
        }
        passed = [step for step in STEPS if step in told["passed"]]
        wrong = None if told["wrong"] is None else str(told["wrong"])[:300]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        steps, passed, wrong = {}, [], why
    digest = hashlib.sha256(source).hexdigest()
    return {
        "sha256": digest,
        "upto": upto,
        "steps": steps,
        "passed": passed,
        "wrong": wrong,
    }


def end(one):
    """Have a `lab` end its machine, and then itself."""
    if one.poll() is None:
        os.killpg(one.pid, signal.SIGTERM)
        one.wait()


def known(file, path, upto):
    """The mark that is there from an earlier run, if it is of this very file; or None."""
    try:
        told = json.loads(file.read_text())
        same = hashlib.sha256(path.read_bytes()).hexdigest() == told["sha256"]
        return told if same and told["upto"] == upto else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_tables(marks, folder):
    """marks.csv and marks.xml, by name: the same for the same marks."""
    with open(folder / "marks.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["name", "steps passed", *STEPS, "wrong"])
        for name, about in sorted(marks.items()):
            cells = ["/".join(map(str, about["steps"].get(step, []))) for step in STEPS]
            why = re.sub(r"^([=+@-])", r"'\1", about["wrong"] or "")  # no formula
            table.writerow([name, len(about["passed"]), *cells, why])
    top = ElementTree.Element("testsuites")
    for name, about in sorted(marks.items()):
        suite = ElementTree.SubElement(top, "testsuite", name=name)
        for step in STEPS[: int(about["upto"]) + 1]:
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=step)
            if step not in about["passed"]:
                text = printable(about["wrong"] or "")
                ElementTree.SubElement(case, "failure", message=text)
        failed = int(about["upto"]) + 1 - len(about["passed"])
        suite.set("tests", str(int(about["upto"]) + 1))
        suite.set("failures", str(failed))
    ElementTree.ElementTree(top).write(folder / "marks.xml", encoding="utf-8")


def printable(text):
    """Without what XML has no place for."""
    return "".join(c if c.isprintable() else "?" for c in text)


def show(done, count, name, about):
    """A line for each, below it how far all is, where somebody looks."""
    passed, wrong = len(about["passed"]), printable(about["wrong"] or "")
    line = f"{name:24} {passed} passed" + (f"   {wrong[:70]}" if wrong else "")
    if not sys.stdout.isatty():
        print(line, flush=True)
        return
    bar = "#" * (30 * done // count)
    print(f"\r\033[K{line}\n[{bar:30}] {done} of {count}", end="", flush=True)


def main():
    parser = argparse.ArgumentParser(
        prog="lab grade", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "submissions", nargs="+", type=pathlib.Path, metavar="SUBMISSION"
    )
    parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument(
        "--upto", default="7", choices=list("01234567"), help="last step"
    )
    parser.add_argument("--jobs", type=int, default=1, help="machines at the same time")
    parser.add_argument("--minutes", type=float, default=20, help="for each, at most")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    found = submissions(options.submissions)
    for path in found.values():
        if not path.is_file():
            sys.exit(f"lab grade: there is no {path}")
    options.out.mkdir(parents=True, exist_ok=True)
    marks, waiting = {}, {}
    for name, path in found.items():
        about = known(options.out / f"{name}.json", path, options.upto)
        if about:
            marks[name] = about
        else:
            waiting[name] = path
    if marks:
        print(f"{len(marks)} have a mark already", flush=True)
    try:
        mark_all(waiting, found, marks, options)
    finally:
        shutil.rmtree(FROZEN, ignore_errors=True)
    write_tables(marks, options.out)
    print(f"{options.out}: marks.csv, marks.xml, and each mark by itself")
    return 0


def mark_all(waiting, found, marks, options):
    """Add to marks what is waiting, and write each down."""
    if not waiting:
        return
    with machine("frozen", FROZEN, stdin=subprocess.DEVNULL) as one:
        if one.wait():
            sys.exit(one.returncode)  # it has told why
    with concurrent.futures.ThreadPoolExecutor(max(options.jobs, 1)) as pool:
        jobs = {
            pool.submit(mark, path, options.upto, options.minutes): name
            for name, path in waiting.items()
        }
        try:
            for job in concurrent.futures.as_completed(jobs):
                name = jobs[job]
                marks[name] = job.result()
                file = options.out / f"{name}.json"
                file.write_text(json.dumps(marks[name]) + "\n")
                show(len(marks), len(found), name, marks[name])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for one in list(_machines):
                end(one)
            raise
    print(flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
