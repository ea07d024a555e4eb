"""Virtual environments on this machine, with exactly the packages that a file pins."""

from __future__ import annotations

import filecmp
import importlib.util
import pathlib
import shutil
import sys

from host import packages
from host.lab import Lab
from host.processes import run_logged


def ensure(
    lab: Lab, folder: pathlib.Path, requirements: pathlib.Path, title: str
) -> pathlib.Path:
    """Makes a virtual environment in a directory, unless there is one with the packages of
    this file, whose hashes pip checks. Returns its Python."""
    done, python = folder / "requirements.txt", folder / "bin/python"
    if same(requirements, done):
        return python
    if importlib.util.find_spec("ensurepip") is None:  # Debian has it in this package
        packages.install(lab, ["python3-venv"])
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    pip += ["--require-hashes", "--only-binary", ":all:", "-r", str(requirements)]
    with lab.progress.stage(title, "20 to 60 s") as stage:
        log = lab.log(f"{folder.name}-packages")
        for command in [sys.executable, "-m", "venv", "--clear", str(folder)], pip:
            run_logged(stage, command, log)
    shutil.copy(requirements, done)
    return python


def same(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Returns whether two files have the same content; the second one may not exist."""
    return other.exists() and filecmp.cmp(one, other, shallow=False)
