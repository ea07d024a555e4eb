"""The settings: environment variables that begin with LAB, as one dataclass."""

from __future__ import annotations

import dataclasses
import pathlib
import platform
from collections.abc import Mapping

from host.errors import LabError

PROJECT = pathlib.Path(__file__).resolve().parent.parent
WAYS = ("qemu", "vagrant", "local")
DEFAULT_MEMORY = 2048


@dataclasses.dataclass(frozen=True)
class Arch:
    """Holds the names that Debian and QEMU use for one kind of processor."""

    name: str  # Debian's name
    qemu: str
    package: str
    console: str


ARCHS = {
    "amd64": Arch("amd64", "qemu-system-x86_64", "qemu-system-x86", "ttyS0"),
    "arm64": Arch("arm64", "qemu-system-aarch64", "qemu-system-arm", "ttyAMA0"),
}
DEBIAN_NAMES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Holds the settings; `memory` and `cpus` are None if the environment does not set them."""

    project: pathlib.Path
    state: pathlib.Path  # LAB_DIR: the image, the disk, the keys
    way: str | None  # LAB: qemu, vagrant or local
    mirror: str  # LAB_MIRROR: a Debian mirror, or empty
    memory: int | None  # LAB_MEMORY, in megabytes
    cpus: int | None  # LAB_CPUS
    arch_name: str  # LAB_ARCH, or this machine's processor
    native_arch: str
    suite: str  # LAB_SUITE: the code name of a Debian release
    commands: pathlib.Path | None  # LAB_COMMANDS: a log of the commands run

    @property
    def image(self) -> pathlib.Path:
        return self.state / "image"

    @property
    def arch(self) -> Arch:
        """Returns the VM's processor. Raises LabError if there is no image for it."""
        if self.arch_name not in ARCHS:
            raise LabError(
                f"the lab's VM needs an x86_64 or aarch64 processor; "
                f"this one is {self.arch_name}"
            )
        return ARCHS[self.arch_name]

    @property
    def is_emulated(self) -> bool:
        """Returns whether the VM's processor differs from this machine's."""
        return self.arch_name != self.native_arch

    @property
    def megabytes(self) -> int:
        return self.memory or DEFAULT_MEMORY


def read(environment: Mapping[str, str], cwd: pathlib.Path | None = None) -> Settings:
    """Returns the settings in the environment. Raises LabError if one is wrong."""
    state = pathlib.Path(environment.get("LAB_DIR") or PROJECT / ".lab")
    state = (cwd or pathlib.Path.cwd()) / state
    check_path(state)
    way = environment.get("LAB") or None
    if way is not None and way not in WAYS:
        raise LabError(f"LAB is {way!r}, but must be qemu, vagrant or local")
    machine = platform.machine()
    native = DEBIAN_NAMES.get(machine, machine)
    return Settings(
        project=PROJECT,
        state=state,
        way=way,
        mirror=environment.get("LAB_MIRROR", ""),
        memory=_number(environment, "LAB_MEMORY", "a number of megabytes"),
        cpus=_number(environment, "LAB_CPUS", "a number of processors"),
        arch_name=environment.get("LAB_ARCH") or native,
        native_arch=native,
        suite=environment.get("LAB_SUITE") or "trixie",
        commands=_path(environment, "LAB_COMMANDS"),
    )


def check_path(state: pathlib.Path) -> None:
    """Raises LabError if ssh_config(5) cannot express this path."""
    for text, name in ("\n", "a line break"), ("\r", "a line break"), ("${", "'${'"):
        if text in str(state):
            raise LabError(
                f"ssh cannot read a path that contains {name}: {str(state)!r}",
                "Set LAB_DIR to another directory.",
            )


def _path(environment: Mapping[str, str], name: str) -> pathlib.Path | None:
    text = environment.get(name)
    return pathlib.Path(text).absolute() if text else None


def _number(environment: Mapping[str, str], name: str, what: str) -> int | None:
    text = environment.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise LabError(f"{name} is {text!r}, but must be {what}")
    return int(text)
