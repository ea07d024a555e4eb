"""What `./lab doctor` asks this machine. Tests give it another machine's answers."""

from __future__ import annotations

import os
import pathlib
import platform
import re
import stat
import subprocess
import tempfile

from host import accel, image, packages, processes
from host.lab import Lab, free_memory
from host.providers import choose
from host.providers.base import Provider
from host.settings import Arch

STEPS_STATE = pathlib.Path("/var/lib/workshop")  # where LAB=local has its images
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
        """Returns whether /dev/kvm can be opened. In a container it can exist and be
        closed even to root."""
        try:
            os.close(os.open(accel.KVM, os.O_RDWR))
        except OSError:
            return False
        return True

    def keeps_modes(self) -> bool:
        """Returns whether a file in the lab's directory can be private, as ssh demands of
        its keys. On FAT, NTFS and some network filesystems everyone may read it."""
        with tempfile.NamedTemporaryFile(dir=self.state()) as file:
            os.chmod(file.name, 0o600)
            return stat.S_IMODE(os.stat(file.name).st_mode) == 0o600

    def mount_flags(self) -> list[str]:
        """Returns those mount options of the lab's directory that keep Debian from being
        unpacked there."""
        flags = os.statvfs(self.state()).f_flag
        return [
            name
            for name, flag in (("nodev", os.ST_NODEV), ("noexec", os.ST_NOEXEC))
            if flags & flag
        ]

    def qemu_lacks(self) -> list[str]:
        """Returns what this QEMU was built without, but the VM needs."""
        qemu = self.lab.settings.arch.qemu
        needs = {
            "virtio-9p": ("-device", "help", "virtio-9p-pci"),
            "user networking": ("-netdev", "help", "user"),
        }
        return [
            what
            for what, (option, value, word) in needs.items()
            if not re.search(
                rf'^{word}$|"{word}"', self.output(qemu, option, value), re.MULTILINE
            )
        ]

    def build_problem(self) -> str:
        """Tries the namespaces in which the image is built. Returns why not, if they
        cannot be made."""
        return self.problem(*image.NAMESPACES, "true")

    def steps_problem(self) -> str:
        """Tries what the steps need from this kernel. Returns why not, if one cannot run:
        with the guide's own doctor if LAB=local is prepared, and otherwise only what most
        often fails."""
        doctor = self.state() / "local/bin/workshop"
        if doctor.exists():
            return self.problem(str(doctor), "doctor", last=True)
        mounts = "mount -t proc proc /proc && mount -t sysfs -o ro sysfs /sys"
        new = "unshare --user --map-root-user --mount --pid --fork --net".split()
        place = STEPS_STATE
        while not place.exists():
            place = place.parent
        kind = self.output("stat", "-f", "-c", "%T", str(place)).strip()
        if kind == "overlayfs":
            return f"{place} is on overlayfs: steps 05 to 07 need ext4, xfs or btrfs"
        return self.problem(*new, "sh", "-c", mounts)

    @staticmethod
    def problem(*command: str, last: bool = False) -> str:
        """Runs a command. Returns nothing if it succeeds, and else the first line that it
        prints, or with `last` the last but one."""
        try:
            done = subprocess.run(
                command,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                errors="replace",
                timeout=120,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode == 0:
            return ""
        lines = done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
        return lines[-2:][0] if last else lines[0]

    def accelerator(self) -> tuple[str, str] | None:
        """Returns kvm, or tcg and why; None before there is an image to try it with."""
        settings = self.lab.settings
        if not (settings.image / "initrd").exists() or not self.has(settings.arch.qemu):
            return None
        return accel.choose(self.lab)

    def libvirt_answers(self) -> bool:
        return choose.libvirt_answers()
