"""The command line of a QEMU virtual machine."""

from __future__ import annotations

import dataclasses
import pathlib

from host import processes
from host.ports import Ports
from host.settings import Arch

KERNEL = "quiet panic=1 net.ifnames=0 systemd.show_status=0"
CREDENTIAL = (
    "name=opt/io.systemd.credentials/workshop.{name},file={folder}/guest/{name}"
)


@dataclasses.dataclass(frozen=True)
class Hardware:
    """Describes what a VM is made of, and the image that it starts from."""

    arch: Arch
    accel: str  # kvm or tcg
    memory: int  # megabytes
    image: pathlib.Path
    cpus: int | None = None

    @property
    def processors(self) -> int:
        # Two emulated processors that share memory take twice the time of one.
        return self.cpus or (2 if self.accel == "kvm" else 1)


@dataclasses.dataclass(frozen=True)
class Spec:
    """Describes the ways in which VMs differ."""

    share: pathlib.Path  # the directory that is /workshop in the VM
    share_options: str = "security_model=none"
    restrict: bool = False  # it can reach neither the internet nor this machine
    snapshot: bool = False  # what it writes to its disk is thrown away
    console: bool = True  # its console's output goes to console.log
    kernel_options: str = ""
    prefix: tuple[str, ...] = ()  # a command that starts QEMU, such as nice
    dies_with_us: bool = True
    monitor: bool = False  # QEMU reads commands from standard input
    resumes: pathlib.Path | None = None  # it resumes from the state in this file


def commas(path: pathlib.Path) -> str:
    """Doubles commas: in QEMU's options a single one ends a value."""
    return str(path).replace(",", ",,")


def argv(
    hardware: Hardware, spec: Spec, folder: pathlib.Path, ports: Ports
) -> list[str]:
    """Returns QEMU's command line."""
    words = [*spec.prefix]
    if spec.dies_with_us:
        words += processes.DIES_WITH_US
    words += processor(hardware)
    # No screen, CD-ROM or floppy: the VM would load their drivers at each start.
    words += ["-nodefaults"]
    words += ["-display", "none", "-monitor", "stdio" if spec.monitor else "none"]
    words += ["-no-reboot"] if spec.dies_with_us else ["-daemonize"]
    words += ["-kernel", f"{hardware.image}/vmlinuz"]
    words += ["-initrd", f"{hardware.image}/initrd"]
    append = f"console={hardware.arch.console} {KERNEL} {spec.kernel_options}".strip()
    words += ["-append", append]
    place = commas(folder)
    console = f"file:{place}/console.log" if spec.console else "null"
    words += ["-serial", console, "-pidfile", f"{folder}/pid"]
    drive = f"file={place}/disk.qcow2,if=virtio,format=qcow2"
    words += ["-drive", drive + (",snapshot=on" if spec.snapshot else "")]
    share = f"local,path={commas(spec.share)},mount_tag=workshop,multidevs=remap"
    words += ["-virtfs", f"{share},{spec.share_options}"]
    forwards = f"hostfwd=tcp:127.0.0.1:{ports.ssh}-:22"
    forwards += f",hostfwd=tcp:127.0.0.1:{ports.web}-:8888"
    restrict = ",restrict=on" if spec.restrict else ""
    words += ["-netdev", f"user,id=net,{forwards}{restrict}"]
    words += ["-device", "virtio-net-pci,netdev=net,romfile="]
    words += ["-device", "virtio-rng-pci"]
    if spec.resumes:
        words += ["-incoming", 'exec:cat <"$state_file"']
    for name in "token", "ssh_key", "host_key":
        words += ["-fw_cfg", CREDENTIAL.format(name=name, folder=place)]
    return words


def processor(hardware: Hardware) -> list[str]:
    """Returns QEMU's name, and its options about processor and memory."""
    words = [hardware.arch.qemu, "-m", str(hardware.memory)]
    if hardware.accel == "kvm":
        words += ["-accel", "kvm", "-cpu", "host"]
    else:
        # Emulating the pointer authentication of real ARM processors is slow.
        cpu = "max" if hardware.arch.name == "amd64" else "max,pauth-impdef=on"
        words += ["-accel", "tcg,thread=multi", "-cpu", cpu]
    words += ["-smp", str(hardware.processors)]
    if hardware.arch.name == "arm64":
        words += ["-machine", "virt"]
    return words
