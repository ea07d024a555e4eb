"""Puts the lab into a directory, say on a USB stick, for machines without a network.

There, ./lab up --from DIRECTORY starts the lab with plain QEMU or Vagrant. VirtualBox
and VMware can import a VM. START.md in the directory says how. No file is larger than
4 GB, and none needs permissions or links, because FAT has neither.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import string
import tarfile

from host import bootable_disk, checkout, packages, processes, sums
from host.commands import box
from host.image import FILES
from host.lab import Lab, disk_use, remove
from host.ovf import make as make_ovf
from host.progress import Stage
from host.providers.qemu import Qemu

TEMPLATES = pathlib.Path(__file__).resolve().parent.parent / "templates"
NAME = "container-workshop"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=pathlib.Path, metavar="DIRECTORY")


def run(lab: Lab, options: argparse.Namespace) -> int:
    options.directory.mkdir(parents=True, exist_ok=True)
    folder: pathlib.Path = options.directory.resolve()
    with lab.lock():
        provider = Qemu(lab)
        if lab.settings.arch.name == "amd64":
            bootable_disk.prepare(lab, provider)
        else:
            packages.ensure(lab, "run")
            provider.image.make()
        with lab.progress.stage("packing the lab", "1 to 3 minutes") as stage:
            fill(lab, stage, folder)
    lab.say(
        f"{folder} has the lab, {disk_use(folder)} MB; START.md there says how to use it"
    )
    return 0


def fill(lab: Lab, stage: Stage, folder: pathlib.Path) -> None:
    """Fills the directory."""
    for name in "image", "box", "ovf", "project.tar.gz", "START.md", "SHA256SUMS":
        remove(folder / name)
    stage.note("the image")
    pack_image(lab, stage, folder / "image")
    stage.note("the project")
    pack_project(lab.settings.project, folder / "project.tar.gz")
    if lab.settings.arch.name == "amd64":
        box.make(lab, stage, folder / "box/lab.box")
        make_ovf(lab, stage, folder / "ovf", folder / "project.tar.gz")
    (folder / "START.md").write_text(start_page(lab))
    stage.note("checksums")
    names = ["START.md", "project.tar.gz"]
    for part in "image", "box", "ovf":
        names += sorted(f"{part}/{path.name}" for path in (folder / part).glob("*"))
    sums.write(folder, names)
    os.sync()


def pack_image(lab: Lab, stage: Stage, target: pathlib.Path) -> None:
    target.mkdir()
    image = lab.settings.image
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-c"]
    convert += ["-o", "compression_type=zstd"]
    disks = [image / "disk.raw", target / "disk.qcow2"]
    processes.run_logged(stage, [*convert, *disks], lab.log("pack"))
    for name in FILES:
        shutil.copyfile(image / name, target / name)
    (target / "arch").write_text(f"{lab.settings.arch.name}\n")


def pack_project(project: pathlib.Path, archive: pathlib.Path) -> None:
    """Packs the project like a new checkout, without the directory that the archive is in."""
    with tarfile.open(archive, "w:gz") as file:
        checkout.add(file, project, NAME, without=archive.parent)


def start_page(lab: Lab) -> str:
    """Returns START.md, for this processor."""
    arch = lab.settings.arch
    text = (TEMPLATES / "start.md").read_text()
    if arch.name == "amd64":
        text += (TEMPLATES / "start-amd64.md").read_text()
    values = {"arch": arch.name, "qemu": arch.package}
    return string.Template(text).substitute(values)
