"""Builds the VM's image from Debian's packages, or copies one that ./lab pack made.

The image's directory appears only when it is complete. It includes a hash of what the
image was made from.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Callable

from host import locks, packages, processes, sums
from host.errors import LabError
from host.lab import Lab, disk_use, remove
from host.processes import Word
from host.progress import Stage

SPACE = 3000  # megabytes that a build needs
FILES = ("vmlinuz", "initrd", "inputs", "megabytes")
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
# New namespaces: when their first process dies, every process and mount in them goes.
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]

Runner = Callable[[Stage, Sequence[Word], pathlib.Path], None]


def run_build(stage: Stage, argv: Sequence[Word], log: pathlib.Path) -> None:
    processes.run_logged(stage, argv, log, lifeline=True)


class Image:
    """The image in the lab's directory."""

    def __init__(self, lab: Lab, runner: Runner = run_build) -> None:
        self.lab = lab
        self.folder = lab.settings.image
        self.work = self.folder.with_name("image.new")
        self.runner = runner

    def inputs(self) -> str:
        """Returns a hash of what the image is made from: a new hash, a new image."""
        vagrant = self.lab.settings.project / "vagrant"
        files = [vagrant / "init", vagrant / "provision.sh"]
        files += [vagrant / "requirements.txt", *vagrant.glob("image/*.sh")]
        files += [path for path in vagrant.glob("files/**/*") if path.is_file()]
        digest = hashlib.sha256()
        for path in sorted(files):
            name = path.relative_to(self.lab.settings.project).as_posix()
            digest.update(f"{sums.sha256(path)}  {name}\n".encode())
        settings = self.lab.settings
        settings_line = f"{settings.arch.name} {settings.suite} {settings.mirror}\n"
        digest.update(settings_line.encode())
        return digest.hexdigest()

    def made_from(self) -> str:
        """Returns the hash of what the image was made from; empty if there is none."""
        return self._read("inputs")

    def origin(self) -> str:
        """Returns the directory that the image was copied from; empty if built here."""
        return self._read("from")

    def megabytes(self) -> str:
        return self._read("megabytes")

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text().strip()
        except FileNotFoundError:
            return ""

    def make(self) -> None:
        """Builds the image, unless there is one that is up to date."""
        inputs = self.inputs()
        if self.made_from() == inputs:
            return
        if self.origin():
            self.lab.say(
                f"the image is from {self.origin()}, for another version of the project; "
                "./lab destroy --all removes it, so that ./lab up builds a new one"
            )
            return
        packages.ensure(self.lab, "image")
        # This build removes what an interrupted one left, so that space counts as free.
        left = disk_use(self.work) if self.work.exists() else 0
        self.lab.need_disk(SPACE, reusable=left)
        self.lab.ask_for_root("build the image")
        self.build(inputs)
        self.lab.say(f"the image is ready: {self.megabytes()} MB")

    def build(self, inputs: str) -> None:
        """Builds the image in another directory, then moves it into place."""
        log = self.lab.log("image")
        title = "building the VM image from Debian packages"
        with self.lab.progress.stage(title, "1 to 3 minutes") as stage:
            self._wait_for_another_build()
            try:
                self.runner(stage, processes.as_root(self.command()), log)
            except BaseException:
                self.discard_work()
                raise
            (self.work / "inputs").write_text(f"{inputs}\n")
            remove(self.folder)
            self.work.rename(self.folder)

    def command(self) -> list[str]:
        """Returns the command that root runs to build the image."""
        settings = self.lab.settings
        variables = {
            "LAB_ARCH": settings.arch.name,
            "LAB_SUITE": settings.suite,
            "LAB_MIRROR": settings.mirror,
            "LAB_LOCK": str(self.folder.with_name("image.lock")),
        }
        variables.update({n: os.environ[n] for n in PROXIES if n in os.environ})
        words = [*processes.environment_words(variables), *NAMESPACES]
        owner = f"{os.getuid()}:{os.getgid()}"
        script = settings.project / "vagrant/image/build.sh"
        return [*words, "sh", str(script), str(self.work), owner]

    def _wait_for_another_build(self, limit: float = 20) -> None:
        """Waits for the build of a killed ./lab, which ends soon after it."""
        deadline = time.monotonic() + limit
        path = self.folder.with_name("image.lock")
        while True:
            descriptor = locks.take(path)
            if descriptor is not None:
                os.close(descriptor)
                return
            if time.monotonic() > deadline:
                raise LabError(
                    "another build of the image is still running",
                    "Wait until it has ended, then run the command again.",
                )
            time.sleep(0.2)

    def discard_work(self) -> None:
        """Removes the files that a build left, which root owns."""
        if self.work.exists():
            command = ["rm", "-rf", "--one-file-system", str(self.work)]
            subprocess.run(processes.as_root(command), check=False)

    def remove(self) -> None:
        """Removes the image, and the files that a build left."""
        remove(self.folder)
        self.folder.with_name("image.lock").unlink(missing_ok=True)
        self.discard_work()

    # ---- from a directory of ./lab pack

    def take(self, source: pathlib.Path) -> None:
        """Copies the image that ./lab pack put into a directory, unless it is here."""
        arch = self.lab.settings.arch.name
        packed = source / "image"
        if not (packed / "arch").exists():
            raise LabError(f"{source} was not made by ./lab pack")
        theirs = (packed / "arch").read_text().strip()
        if theirs != arch:
            raise LabError(
                f"the image in {source} is for {theirs}; this machine is {arch}"
            )
        if (packed / "inputs").read_text().strip() == self.made_from():
            return
        self.lab.need_disk(2000)
        log = self.lab.log("pack")
        title = f"copying the image from {source}"
        with self.lab.progress.stage(title, "10 to 60 s") as stage:
            sums.check(source, "image", log)
            self._copy(stage, packed, log)

    def _copy(self, stage: Stage, packed: pathlib.Path, log: pathlib.Path) -> None:
        new = self.folder.with_name("image.copy")
        remove(new)
        new.mkdir()
        for name in FILES:
            shutil.copy(packed / name, new / name)
        convert = ["qemu-img", "convert", "-f", "qcow2", "-O", "raw"]
        disks = [packed / "disk.qcow2", new / "disk.raw"]
        processes.run_logged(stage, [*convert, *disks], log)
        (new / "from").write_text(f"{packed.parent}\n")
        remove(self.folder)
        new.rename(self.folder)
