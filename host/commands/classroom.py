"""JupyterHub on this server, with a VM for each student: docs/classroom.md.

add gives each student a password; up opens the classroom; status shows who is in;
collect copies what students wrote; down closes it.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from host import packages, passwords
from host.accel import announce, choose
from host.errors import LabError, UsageError
from host.hub import Hub
from host.lab import Lab
from host.providers.qemu import Qemu


def add_arguments(parser: argparse.ArgumentParser) -> None:
    jobs = parser.add_subparsers(
        dest="job", metavar="add | up | status | collect | down"
    )
    add = jobs.add_parser("add", help="give each of these students a new password")
    add.add_argument(
        "--teacher", action="store_true", help="let them stop other people's VMs"
    )
    add.add_argument("names", nargs="+", metavar="NAME")
    up = jobs.add_parser("up", help="open the classroom")
    up.add_argument("--port", type=port, default=8000, help="on 127.0.0.1 (8000)")
    jobs.add_parser("status", help="show whose VM is running, and its memory")
    collect = jobs.add_parser("collect", help="copy each student's runtime and report")
    collect.add_argument("directory", type=pathlib.Path, metavar="DIRECTORY")
    jobs.add_parser("down", help="close the classroom; what students wrote stays")


def port(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536 - 81:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a port")


def run(lab: Lab, options: argparse.Namespace) -> int:
    lab.prepare_state()
    hub = Hub(lab)
    hub.students.mkdir(parents=True, exist_ok=True)
    job = options.job or "status"
    if job == "add":
        return add(hub, options.names, options.teacher)
    if job == "up":
        return up(lab, hub, options.port)
    if job == "collect":
        return collect(hub, options.directory)
    return status(lab, hub) if job == "status" else down(lab, hub)


def add(hub: Hub, names: list[str], teacher: bool) -> int:
    for name in names:
        if not passwords.NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} cannot be a student's name: use a letter from a to z, "
                "then at most 30 letters and digits"
            )
    given = passwords.add(hub.roster, names, ["teacher"] if teacher else [])
    for name, password in given.items():
        print(f"{name}\t{password}")
    return 0


def up(lab: Lab, hub: Hub, port: int) -> int:
    has_class = hub.roster.exists() and hub.roster.stat().st_size
    if not has_class and not (hub.folder / "config.py").exists():
        raise LabError(
            "the class has no members",
            "./lab classroom add NAME… gives each student a password.",
        )
    with lab.lock():
        if hub.pid() is not None:
            lab.say(f"the classroom is open: {hub.address()}")
            return 0
        provider = Qemu(lab)  # each student gets a VM of their own
        packages.ensure(lab, "run")
        provider.image.make()
        announce(lab, *choose(lab))
        packages.ensure(lab, "classroom")
        hub.install()
        hub.sweep()
        hub.start(port)
    lab.say(f"the classroom is open: {hub.address()}")
    lab.say("./lab classroom status shows who is in; ./lab classroom down closes it")
    return 0


def status(lab: Lab, hub: Hub) -> int:
    if hub.roster.exists():
        lab.say(f"members of the class: {len(passwords.read(hub.roster))}")
    if hub.pid() is None:
        print("closed (./lab classroom up opens it)")
        return 3
    print(f"open at {hub.address()}, for {hub.minutes():.0f} minutes")
    for name, megabytes in hub.occupied().items():
        print(f"{name}: {megabytes} MB")
    return 0


MOST = 1_000_000  # bytes that are collected of one file
COLLECTED = ("container.py", "report/report.json")


def collect(hub: Hub, folder: pathlib.Path) -> int:
    """Copies these two files of each student to where `lab grade` and `workshop class`
    look for them. Copies at most MOST bytes of each."""
    copied = 0
    for student in sorted(hub.students.iterdir()):
        for name in COLLECTED:
            source = student / "project/my" / name
            if not source.is_file() or source.is_symlink():
                continue
            target = folder / student.name / source.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with open(source, "rb") as file:
                target.write_bytes(file.read(MOST))
            copied += 1
    print(f"{folder}: {copied} files")
    sys.stdout.flush()
    return 0


def down(lab: Lab, hub: Hub) -> int:
    with lab.lock():
        if hub.pid() is None:
            lab.say("the classroom is closed")
            return 0
        with lab.progress.stage("closing the classroom and its VMs", "5 to 20 s"):
            hub.stop()
    lab.say(f"closed; the students' directories are kept, in {hub.students}")
    return 0
