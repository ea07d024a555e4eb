"""Chooses the way to a VM: plain QEMU, Vagrant, or none (LAB=local)."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable

from host.errors import LabError
from host.lab import Lab
from host.providers.base import Provider


def provider(lab: Lab, way: str | None = None) -> Provider:
    """Returns the way that LAB names, or the one used before, or the best one here."""
    from host.providers.local import Local
    from host.providers.qemu import Qemu
    from host.providers.vagrant import Vagrant

    name = way or lab.settings.way or remembered(lab) or detect(lab)
    classes: dict[str, Callable[[Lab], Provider]]
    classes = {"qemu": Qemu, "vagrant": Vagrant, "local": Local}
    if name not in classes:
        raise LabError(
            f"{lab.settings.state}/way says {name!r}, which is unknown",
            "Remove that file, or set LAB to qemu, vagrant or local.",
        )
    if name == "local" and platform.system() != "Linux":
        raise LabError("LAB=local runs on Linux only")
    return classes[name](lab)


def remembered(lab: Lab) -> str:
    try:
        return (lab.settings.state / "way").read_text().strip()
    except FileNotFoundError:
        return ""


def remember(lab: Lab, provider: Provider) -> None:
    (lab.settings.state / "way").write_text(f"{provider.name}\n")


def detect(lab: Lab) -> str:
    """Returns Vagrant if it works here or this is not Linux, plain QEMU otherwise."""
    if platform.system() != "Linux" or vagrant_works():
        return "vagrant"
    if shutil.which("vagrant"):
        lab.say("Vagrant is installed, but without a provider, so this uses plain QEMU")
    return "qemu"


def vagrant_works() -> bool:
    """Returns whether Vagrant is installed, with a provider that it can use."""
    if shutil.which("vagrant") is None:
        return False
    if any(shutil.which(name) for name in ("VBoxManage", "prlctl", "vmrun")):
        return True
    return libvirt_answers() and "vagrant-libvirt" in output(
        "vagrant", "plugin", "list"
    )


def libvirt_answers() -> bool:
    if shutil.which("virsh") is None:
        return False
    command = ["virsh", "-q", "-c", "qemu:///system", "uri"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def output(*command: str) -> str:
    """Returns what a command prints, or nothing if it fails."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
