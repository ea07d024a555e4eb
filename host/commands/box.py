"""Makes a Vagrant box, for libvirt, from the VM's image.

A catalog.json beside it gives it the name and version that the Vagrantfile asks for.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import tarfile

from host import bootable_disk, processes, sums
from host.errors import LabError
from host.lab import Lab, disk_use
from host.progress import Stage
from host.providers.qemu import Qemu

METADATA = {"provider": "libvirt", "format": "qcow2", "virtual_size": 8}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=pathlib.Path, metavar="FILE")


def run(lab: Lab, options: argparse.Namespace) -> int:
    if lab.settings.arch.name != "amd64":
        raise LabError("boxes can be made on x86_64 only")
    box: pathlib.Path = options.file.absolute()
    with lab.lock():
        provider = Qemu(lab)
        bootable_disk.prepare(lab, provider)
        with lab.progress.stage("making a Vagrant box", "20 to 60 s") as stage:
            make(lab, stage, box)
    lab.say(f"the box is {box}, {disk_use(box)} MB; to add it:")
    lab.say(f"cd {processes.quote([str(box.parent)])} && vagrant box add catalog.json")
    return 0


def make(lab: Lab, stage: Stage, box: pathlib.Path) -> None:
    """Makes the box and its catalog."""
    log = lab.log("box")
    box.parent.mkdir(parents=True, exist_ok=True)
    with bootable_disk.work(lab, "box") as work:
        raw = work / "disk.raw"
        stage.note("a bootable disk")
        bootable_disk.make(lab, stage, raw, "vagrant", log)
        stage.note("the box")
        convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2"]
        processes.run_logged(stage, [*convert, raw, work / "box.img"], log)
        (work / "metadata.json").write_text(json.dumps(METADATA))
        pack(work, box)
    write_catalog(lab.settings.project / "Vagrantfile", box)


def pack(work: pathlib.Path, box: pathlib.Path) -> None:
    """Packs the box, a tar.gz, which appears only when it is complete."""
    part = box.with_name(f"{box.name}.part")
    with tarfile.open(part, "w:gz", compresslevel=1) as archive:
        for name in "metadata.json", "box.img":
            archive.add(work / name, name)
    part.replace(box)


def pinned(vagrantfile: str, word: str) -> str:
    """Returns the value that the Vagrantfile gives to a setting for libvirt."""
    found = re.search(rf'^ *override\.vm\.{word} = "(.*)"$', vagrantfile, re.M)
    if not found:
        raise LabError(f"the Vagrantfile does not set override.vm.{word}")
    return found[1]


def write_catalog(vagrantfile: pathlib.Path, box: pathlib.Path) -> None:
    text = vagrantfile.read_text()
    provider = {
        "name": "libvirt",
        "url": box.name,
        "checksum_type": "sha256",
        "checksum": sums.sha256(box),
    }
    version = {"version": pinned(text, "box_version"), "providers": [provider]}
    catalog = {"name": pinned(text, "box"), "versions": [version]}
    (box.parent / "catalog.json").write_text(json.dumps(catalog, indent=1) + "\n")
