"""Makes a disk from the image that boots on any PC with a BIOS, for VMs that are not
started by host/machine.py."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

from host import packages, processes
from host.lab import Lab
from host.progress import Stage
from host.providers.qemu import Qemu

SIZE = 8 << 30  # bytes
START = 1 << 20  # where the only partition begins
BOOT_CODE = pathlib.Path("/usr/lib/EXTLINUX/mbr.bin")
BOOT_CODE_SIZE = 440  # bytes, before the partition table


def prepare(lab: Lab, provider: Qemu) -> None:
    """Makes the image, and installs what is needed to make a disk from it."""
    packages.ensure(lab, "disk")
    provider.image.make()
    lab.need_disk(3000)
    lab.ask_for_root("make a disk with a bootloader")


@contextlib.contextmanager
def work(lab: Lab, name: str) -> Iterator[pathlib.Path]:
    """Makes a directory next to the image, and removes it after the block."""
    folder = lab.settings.state / f"image.{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make(
    lab: Lab,
    stage: Stage,
    raw: pathlib.Path,
    kind: str,
    log: pathlib.Path,
    project: pathlib.Path | None = None,
) -> None:
    """Makes a disk from the image. Its kind is `vagrant`, or `alone` for a disk that
    also has the project, a tar.gz, on it."""
    partition(lab.settings.image, raw)
    script = lab.settings.project / "vagrant/bootable.sh"
    words = ["unshare", "--mount", "sh", str(script), str(raw)]
    words += [str(lab.settings.image), kind, *([str(project)] if project else [])]
    processes.run_logged(stage, processes.as_root(words), log, lifeline=True)


def partition(image: pathlib.Path, raw: pathlib.Path) -> None:
    """Writes a partition table, the program that starts the active partition, and the
    image as that partition. Holes in the image take no room."""
    with open(raw, "wb") as file:
        file.truncate(SIZE)
    sfdisk = shutil.which("sfdisk") or "/sbin/sfdisk"
    table = b"start=1MiB, type=83, bootable\n"
    command = [sfdisk, "-q", "--label", "dos", str(raw)]
    subprocess.run(command, check=True, input=table, stdout=subprocess.DEVNULL)
    copy_sparse(image / "disk.raw", raw, START)
    with open(raw, "r+b") as file:
        file.write(BOOT_CODE.read_bytes()[:BOOT_CODE_SIZE])


def copy_sparse(source: pathlib.Path, target: pathlib.Path, offset: int) -> None:
    """Copies a file into another one at an offset, leaving out the holes."""
    with open(source, "rb") as reader, open(target, "r+b") as writer:
        size, position = os.fstat(reader.fileno()).st_size, 0
        while position < size:
            try:
                begin = os.lseek(reader.fileno(), position, os.SEEK_DATA)
            except OSError:  # nothing but a hole is left
                return
            end = os.lseek(reader.fileno(), begin, os.SEEK_HOLE)
            reader.seek(begin)
            writer.seek(offset + begin)
            left = end - begin
            while left:
                block = reader.read(min(left, 1 << 20))
                writer.write(block)
                left -= len(block)
            position = end
