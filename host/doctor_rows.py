"""The rows of `./lab doctor`: what each way to the lab needs, and what was found."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator

from host.doctor_probes import Probe

VAGRANT_PAGE = "see https://developer.hashicorp.com/vagrant/install"
VIRTUALBOX_PAGE = "see https://www.virtualbox.org/wiki/Downloads"
ARM = ("aarch64", "arm64")
PROCESSORS = ("x86_64", "AMD64", *ARM)
TOOLS = [
    ("qemu-img", "qemu-utils"),
    ("mmdebstrap", "mmdebstrap"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ssh", "openssh-client"),
    ("setpriv", "util-linux"),
]
# A program that a provider brings, and the plugin that Vagrant needs for that provider.
PLUGINS = [
    ("prlctl", "Parallels", "vagrant-parallels", "2.4.0"),
    ("vmrun", "VMware", "vagrant-vmware-desktop", "3.0.3"),
    ("virsh", "libvirt", "vagrant-libvirt", "0.11.0"),
]


@dataclasses.dataclass(frozen=True)
class Row:
    mark: str  # ok, slow (it works) or NO
    what: str
    found: str
    type: str = ""  # what to type


Rows = Iterator[Row]


def at_least(have: str, need: str) -> bool:
    """Returns whether a version is the needed one or newer, compared as numbers."""
    return numbers(have) >= numbers(need)


def numbers(version: str) -> list[int]:
    found = [int(number) for number in re.findall(r"\d+", version)]
    while found and found[-1] == 0:  # 2.4.0 is 2.4
        found.pop()
    return found


def version_row(what: str, have: str, need: str, typed: str) -> Row:
    if at_least(have, need):
        return Row("ok", what, have)
    return Row("NO", what, f"{have or '?'}, but {need} or newer is needed", typed)


def room_row(what: str, have: int, need: int, typed: str) -> Row:
    found = f"{have} MB free, {need} needed"
    return Row("ok", what, found) if have >= need else Row("NO", what, found, typed)


def tool_row(probe: Probe, program: str, package: str) -> Row:
    if probe.has(program):
        return Row("ok", program, "is installed")
    if probe.has("apt-get"):
        typed = f"sudo apt-get install {package}   (./lab up does it, too)"
        return Row("NO", program, "is missing", typed)
    return Row("NO", program, f"is missing: Debian's name for it is {package}")


def root_row(probe: Probe, purpose: str) -> Row:
    if probe.is_root():
        return Row("ok", "root", "you are")
    if probe.has("sudo"):
        return Row("ok", "root", f"by sudo, to {purpose}")
    found = f"is needed to {purpose}, and there is no sudo"
    return Row("NO", "root", found, 'su -c "./lab up"')


def machine_rows(probe: Probe, way: str) -> Rows:
    """Yields what every way needs."""
    processor = probe.processor()
    if processor in PROCESSORS:
        yield Row("ok", "processor", processor)
    else:
        yield Row("NO", "processor", f"{processor}, but must be x86_64 or 64-bit ARM")
    need = 1000 if probe.has_image() or way == "vagrant" else 3500
    typed = f"df -h {probe.state()}   # and make room there"
    yield room_row("disk", probe.free_disk(), need, typed)
    if not probe.is_running():
        typed = "free -h   # and close a large program"
        yield room_row("memory", probe.free_memory(), 2300, typed)


def qemu_rows(probe: Probe) -> Rows:
    if probe.system() != "Linux":
        found = f"{probe.system()}: plain QEMU is for Linux; use Vagrant here"
        yield Row("NO", "system", found)
        return
    yield root_row(probe, "build the image")
    arch = probe.arch()
    for program, package in [(arch.qemu, arch.package), *TOOLS]:
        yield tool_row(probe, program, package)
    yield directory_row(probe)
    lacks = probe.qemu_lacks() if probe.has(arch.qemu) else []
    if lacks:
        found = f"this QEMU was built without {' and '.join(lacks)}"
        yield Row(
            "NO", arch.qemu, found, f"install Debian's or Ubuntu's {arch.package}"
        )
    if probe.is_root() and not probe.has_image() and (why := probe.build_problem()):
        found = f"root may not make the namespaces to build the image in: {why}"
        yield Row(
            "NO", "namespaces", found, "./lab up on the machine, not in a container"
        )
    yield virtualization_row(probe)


def directory_row(probe: Probe) -> Row:
    """Returns the row about the lab's directory, with the VM's keys and image."""
    what, typed = "LAB_DIR", 'LAB_DIR="$HOME/.lab" ./lab up   (or another disk)'
    if not probe.keeps_modes():
        found = f"{probe.state()} lets everyone read the VM's keys, so ssh refuses them"
        return Row("NO", what, found, typed)
    flags = [] if probe.has_image() else probe.mount_flags()
    if flags:
        found = (
            f"{probe.state()} is mounted {' and '.join(flags)}: no place for an image"
        )
        return Row("NO", what, found, typed)
    return Row("ok", what, f"{probe.state()} has a filesystem that works")


def virtualization_row(probe: Probe) -> Row:
    what = "virtualization"
    if probe.arch().name == "arm64":
        return Row("slow", what, "not tried")
    answer = probe.accelerator()
    if answer and answer[0] == "kvm":
        return Row("ok", what, "KVM works")
    if answer:
        return Row("slow", what, f"the VM is emulated: {answer[1]}")
    if probe.kvm_usable():
        return Row("ok", what, "/dev/kvm exists; ./lab up tries it")
    typed = "sudo usermod -aG kvm YOUR-NAME   (if /dev/kvm exists)"
    found = "no /dev/kvm that you may use, so the VM is emulated"
    return Row("slow", what, found, typed)


def local_rows(probe: Probe) -> Rows:
    yield root_row(probe, "make containers")
    yield tool_row(probe, "python3", "python3")
    yield tool_row(probe, "mmdebstrap", "mmdebstrap")
    release = probe.release()
    if not probe.is_root():
        found = f"{release}; sudo ./lab doctor tries what the steps need"
        yield Row("ok", "kernel", found)
    elif why := probe.steps_problem():
        yield Row("NO", "kernel", f"{release}: {why}", "LAB=qemu ./lab up   (in a VM)")
    else:
        yield Row("ok", "kernel", f"{release} can run the steps")


def vagrant_rows(probe: Probe) -> Rows:
    """Yields what Vagrant needs. docs/providers.md has the reasons for the versions."""
    if not probe.has("vagrant"):
        yield Row("NO", "Vagrant", "is not installed", VAGRANT_PAGE)
        return
    vagrant = probe.version("vagrant", "--version")
    yield version_row("Vagrant", vagrant, "2.3.4", VAGRANT_PAGE)
    plugins = probe.output("vagrant", "plugin", "list")
    providers = 0
    if probe.has("VBoxManage"):
        providers += 1
        yield from virtualbox_rows(probe, vagrant)
    for program, provider, plugin, need in PLUGINS:
        if probe.has(program):
            providers += 1
            yield plugin_row(plugins, provider, plugin, need)
    if probe.has("virsh"):
        yield libvirt_row(probe)
    if not providers:
        yield Row("NO", "provider", "none is installed", "see docs/providers.md")


def virtualbox_rows(probe: Probe, vagrant: str) -> Rows:
    have, need = probe.version("VBoxManage", "--version"), "2.3.4"
    if at_least(have, "7.1"):
        need = "2.4.2"
    if at_least(have, "7.2"):
        need = "2.4.9"
    is_arm = probe.processor() in ARM
    lowest = "7.1.6" if is_arm else "6.1"
    if is_arm and not at_least(need, "2.4"):
        need = "2.4"
    yield version_row("VirtualBox", have, lowest, VIRTUALBOX_PAGE)
    yield version_row("Vagrant for it", vagrant, need, VAGRANT_PAGE)


def plugin_row(plugins: str, provider: str, plugin: str, need: str) -> Row:
    found = re.search(rf"^{re.escape(plugin)} \(([\d.]+)", plugins, re.M)
    if not found:
        missing = f"is installed, but Vagrant's plugin {plugin} is not"
        return Row("NO", provider, missing, f"vagrant plugin install {plugin}")
    typed = f"vagrant plugin update {plugin}"
    return version_row(f"{provider}, {plugin}", found[1], need, typed)


def libvirt_row(probe: Probe) -> Row:
    if probe.libvirt_answers():
        return Row("ok", "libvirtd", "answers")
    typed = "sudo systemctl start libvirtd; sudo usermod -aG libvirt YOUR-NAME"
    return Row("NO", "libvirtd", "does not answer you", typed)


WAYS: dict[str, Callable[[Probe], Rows]] = {
    "qemu": qemu_rows,
    "vagrant": vagrant_rows,
    "local": local_rows,
}
