"""Writes a web site: the lessons with their output, the code of the steps, and the docs.

The site can be opened from its directory or put on any web server; it needs no other
machine. The lessons run in a VM that is thrown away, unless they have not changed
since they ran last. Sphinx makes the pages, in a virtual environment of its own.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

from host import environments, lessons, processes
from host.errors import LabError
from host.lab import Lab

PYTHON = (3, 11)  # Sphinx needs it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    path = pathlib.Path
    parser.add_argument("folder", type=path, metavar="FOLDER")
    text = "run these lessons only"
    parser.add_argument("lessons", nargs="*", metavar="N", help=text)
    text = "the machine in a browser tab, as its build made it, which becomes a part"
    parser.add_argument("--tab", type=path, metavar="DIRECTORY", help=text)
    text = "the address from which visitors can clone the project, for the first page"
    parser.add_argument("--repository", default="", metavar="URL", help=text)
    text = "take the lessons that have run from here; run none, except for N..."
    parser.add_argument("--notebooks", type=path, metavar="DIRECTORY", help=text)


def run(lab: Lab, options: argparse.Namespace) -> int:
    if sys.version_info < PYTHON:
        raise LabError(
            f"./lab site needs Python {PYTHON[0]}.{PYTHON[1]} or newer",
            f"This is Python {sys.version_info[0]}.{sys.version_info[1]}.",
        )
    tab: pathlib.Path | None = options.tab
    if tab and not (tab / "index.html").exists():
        raise LabError(f"there is no {tab}/index.html")
    lab.prepare_state()
    project = lab.settings.project
    title = "installing Sphinx and its theme"
    wanted = project / "site/web/requirements.txt"
    python = environments.ensure(lab, lab.settings.state / "site", wanted, title)
    notebooks, passed = [options.notebooks] if options.notebooks else [], True
    if options.lessons or not notebooks:
        ran = lessons.run(lab, options.lessons)
        notebooks, passed = [ran.notebooks, *notebooks], ran.passed
    folder: pathlib.Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [python, "-B", project / "site/web/make.py", folder, *notebooks]
    command += ["--tab", tab] if tab else []
    repository: str = options.repository
    command += ["--repository", repository] if repository else []
    with lab.progress.stage("making the pages", "10 to 30 s") as stage:
        processes.run_logged(stage, command, lab.log("site"))
    lab.say(f"the site is {folder}/index.html")
    return 0 if passed else 1
