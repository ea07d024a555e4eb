"""Freezes a VM when it is ready to grade, and resumes copies of it.

Because of that, no submission has to wait until a VM has booted.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator

from host import ports
from host.machine import Machine
from host.qemu_argv import Spec
from host.providers.qemu import Qemu


@contextlib.contextmanager
def frozen(provider: Qemu) -> Iterator[Machine]:
    """Freezes a VM: saves its state in a file, so that the block can resume copies."""
    with provider.throwaways(1, monitor=True) as (vm,):
        with provider.lab.progress.stage("collecting the facts, once for all grades"):
            collect = "pytest -q --collect-only tests/test_0*.py >/dev/null"
            vm.check(f"{vm.python} -m {collect}")
        with provider.lab.progress.stage("freezing the VM", "2 to 10 s"):
            vm.freeze()
        (vm.folder / "nothing").mkdir()  # shared with the submissions' VMs
        yield vm


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
