"""Freezes a VM when it is ready to grade, and resumes copies of it.

Because of that, no submission has to wait until a VM has booted.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

from host import ports
from host.errors import LabError
from host.machine import Machine
from host.qemu_argv import Spec
from host.providers.qemu import Qemu

# The parts of the project that the VM needs.
PROJECT_PARTS = ["pyproject.toml", "steps", "tests", "vagrant", "workshop", "notebooks"]
# The project goes to the VM's own disk: a shared directory cannot be frozen.
RECEIVE = """sudo sh -ec '
    umount /workshop
    tar -C /workshop -xf - --no-same-owner
    mkdir /workshop/my
    chmod -R go=u-w /workshop'"""


@contextlib.contextmanager
def frozen(provider: Qemu) -> Iterator[Machine]:
    """Freezes a VM: saves its state in a file, so that the block can resume copies."""
    with provider.throwaways(1, monitor=True) as (vm,):
        with provider.lab.progress.stage("collecting the facts, once for all grades"):
            send_project(vm)
            collect = "pytest -q --collect-only tests/test_0*.py >/dev/null"
            vm.check(f"{vm.python} -m {collect}")
        with provider.lab.progress.stage("freezing the VM", "2 to 10 s"):
            vm.freeze()
        (vm.folder / "nothing").mkdir()  # shared with the submissions' VMs
        yield vm


def send_project(vm: Machine) -> None:
    """Copies the project to the VM's disk, in place of the shared directory."""
    project = str(vm.lab.settings.project)
    pack = ["tar", "-C", project, "-cf", "-", *PROJECT_PARTS]
    receive = vm.connection.command(RECEIVE, False)
    with subprocess.Popen(pack, stdout=subprocess.PIPE) as sender:
        received = subprocess.run(receive, check=False, stdin=sender.stdout)
    if sender.returncode != 0 or received.returncode != 0:
        raise LabError("the project could not be copied to the VM's disk")


@contextlib.contextmanager
def resumed(
    vm: Machine, folder: pathlib.Path, alive: list[Machine]
) -> Iterator[Machine]:
    """Resumes a copy of a frozen VM in a new directory, and removes it after the block.
    The copy cannot see this machine. It is in the list `alive` from before it starts
    until it has ended, so that another thread can end it."""
    spec = Spec(
        share=vm.folder / "nothing",
        share_options="security_model=none,readonly=on",
        restrict=True,
        snapshot=True,
        resumes=vm.folder / "state",
    )
    vm.lab.need_memory(vm.hardware.memory)
    copy = Machine(vm.lab, folder, vm.hardware, spec)
    folder.mkdir(mode=0o700)
    alive.append(copy)
    try:
        shutil.copytree(vm.folder / "guest", folder / "guest")
        for name in "key", "known_hosts":
            shutil.copy(vm.folder / name, folder / name)
        os.symlink(vm.folder / "disk.qcow2", folder / "disk.qcow2")
        copy.set_ports(ports.ANY)
        copy.start()
        copy.wait()
        yield copy
    finally:
        copy.discard()
        alive.remove(copy)
