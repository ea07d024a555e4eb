"""Makes a VM that VirtualBox and VMware can import, as OVF 1.1 (DMTF's DSP0243).

Its devices have names that both programs know: a SATA controller, and an E1000 network
card on "nat".
"""

from __future__ import annotations

import pathlib
import string

from host import bootable_disk, processes, sums
from host.lab import Lab
from host.progress import Stage

TEMPLATE = pathlib.Path(__file__).resolve().parent / "templates/workshop.ovf"


def make(lab: Lab, stage: Stage, folder: pathlib.Path, project: pathlib.Path) -> None:
    """Makes the VM's description, its disk and their checksums. The project, a tar.gz,
    is on the disk."""
    log = lab.log("ovf")
    folder.mkdir()
    vmdk = folder / "workshop.vmdk"
    with bootable_disk.work(lab, "ovf") as work:
        raw = work / "disk.raw"
        stage.note("a bootable disk, with the project")
        bootable_disk.make(lab, stage, raw, "alone", log, project)
        stage.note("VMDK")
        options = "subformat=streamOptimized,adapter_type=lsilogic"
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", options]
        processes.run_logged(stage, [*convert, raw, vmdk], log)
    with open(vmdk, "ab") as file:
        # The format's end-of-stream marker is an empty sector, and VirtualBox reads
        # until it meets one. qemu-img pads the file to a multiple of 64 kB, usually
        # with such sectors, but sometimes there is nothing to pad.
        file.write(bytes(512))
    describe(vmdk, bootable_disk.SIZE)


def describe(vmdk: pathlib.Path, capacity: int) -> None:
    """Writes workshop.ovf, which describes a disk, and checksums in workshop.mf."""
    template = string.Template(TEMPLATE.read_text())
    values = {"size": vmdk.stat().st_size, "capacity": capacity}
    ovf = vmdk.with_name("workshop.ovf")
    ovf.write_text(template.substitute(values))
    # OVF 1.1 requires SHA-1.
    lines = [
        f"SHA1({path.name})= {sums.digest(path, 'sha1')}\n" for path in (ovf, vmdk)
    ]
    vmdk.with_name("workshop.mf").write_text("".join(lines))
