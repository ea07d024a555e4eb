"""Debian packages: which programs a job needs, and how to get those that are missing."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Sequence
from typing import Callable

from host import processes
from host.errors import LabError
from host.lab import Lab
from host.settings import Arch

# A program to look for (or a file, by its path), and the package that has it.
RUN = [("qemu-img", "qemu-utils"), ("ssh", "openssh-client")]
NEEDS: dict[str, list[tuple[str, str]]] = {
    "run": RUN,
    "image": [
        *RUN,
        ("mmdebstrap", "mmdebstrap"),
        ("mount", "mount"),
        ("mkfs.ext4", "e2fsprogs"),
        (
            "/usr/share/keyrings/debian-archive-keyring.gpg",
            "debian-archive-keyring",
        ),
    ],
    "disk": [
        *RUN,
        ("extlinux", "extlinux"),
        ("sfdisk", "fdisk"),
        ("mount", "mount"),
    ],
    "slides": [*RUN, ("npm", "npm")],
    "classroom": [
        *RUN,
        ("npm", "npm"),
        ("/usr/share/doc/python3-venv", "python3-venv"),
    ],
}
UPDATE = ["apt-get", "update", "-q"]
INSTALL = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
INSTALL += ["-o", "DPkg::Lock::Timeout=300"]


def find(what: str) -> bool:
    """Returns whether a program is installed, or a file exists."""
    if what.startswith("/"):
        return pathlib.Path(what).exists()
    sbin = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return shutil.which(what, path=sbin) is not None


def missing(job: str, arch: Arch, found: Callable[[str], bool] = find) -> list[str]:
    """Returns the packages that a job needs and this machine does not have."""
    needs = [(arch.qemu, arch.package), *NEEDS[job]]
    return [package for what, package in needs if not found(what)]


def ensure(lab: Lab, job: str) -> None:
    """Installs the packages that a job needs and that are missing."""
    install(lab, missing(job, lab.settings.arch))


def install(lab: Lab, names: Sequence[str]) -> None:
    """Installs Debian packages. Raises LabError where there is no apt."""
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise LabError(
            f"these packages are missing, by their Debian names: {' '.join(names)}",
            "Install them, or Vagrant with VirtualBox, then run the command again.",
        )
    lab.ask_for_root(f"install packages ({' '.join(names)})")
    quiet = processes.environment_words({"DEBIAN_FRONTEND": "noninteractive"})
    log = lab.log("packages")
    with lab.progress.stage(f"installing {' '.join(names)}", "20 to 60 s") as stage:
        for command in [*quiet, *UPDATE], [*quiet, *INSTALL, *names]:
            processes.run_logged(stage, processes.as_root(command), log)
