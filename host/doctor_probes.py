"""What `./lab doctor` asks this machine. Tests give it another machine's answers."""

from __future__ import annotations

import os
import pathlib
import platform
import re

from host import accel, packages, processes
from host.lab import Lab, free_memory
from host.providers import choose
from host.providers.base import Provider
from host.settings import Arch

VERSION = re.compile(r"\d+(?:\.\d+)+")


class Probe:
    """Asks this machine."""

    def __init__(self, lab: Lab, provider: Provider) -> None:
        self.lab = lab
        self.provider = provider

    def system(self) -> str:
        """Returns Linux, Darwin or Windows."""
        return platform.system()

    def processor(self) -> str:
        """Returns what uname -m prints."""
        return platform.machine()

    def arch(self) -> Arch:
        return self.lab.settings.arch

    def release(self) -> str:
        """Returns the kernel's version."""
        return platform.release()

    def is_root(self) -> bool:
        return processes.is_root()

    def has(self, program: str) -> bool:
        return packages.find(program)

    def output(self, *command: str) -> str:
        """Returns what a command prints, or nothing if it fails."""
        return choose.output(*command)

    def version(self, *command: str) -> str:
        """Returns the first thing in a command's output that looks like a version."""
        found = VERSION.search(self.output(*command))
        return found[0] if found else ""

    def state(self) -> pathlib.Path:
        return self.lab.settings.state

    def has_image(self) -> bool:
        return (self.lab.settings.image / "megabytes").exists()

    def free_disk(self) -> int:
        return self.lab.free_disk()

    def free_memory(self) -> int:
        """Returns megabytes; on macOS all of them, since it does not say what is free."""
        if self.system() == "Linux":
            return free_memory()
        if self.system() == "Darwin":
            return int(self.output("sysctl", "-n", "hw.memsize") or 0) >> 20
        query = "(Get-CimInstance Win32_OperatingSystem).FreePhysicalMemory"
        return int(self.output("powershell", "-Command", query) or 0) >> 10

    def is_running(self) -> bool:
        return self.provider.is_running()

    def kvm_usable(self) -> bool:
        """Returns whether /dev/kvm exists and may be used."""
        return os.access(accel.KVM, os.W_OK)

    def accelerator(self) -> tuple[str, str] | None:
        """Returns kvm, or tcg and why; None before there is an image to try it with."""
        settings = self.lab.settings
        if not (settings.image / "initrd").exists() or not self.has(settings.arch.qemu):
            return None
        return accel.choose(self.lab)

    def libvirt_answers(self) -> bool:
        return choose.libvirt_answers()
