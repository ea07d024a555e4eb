"""Plain QEMU, on Linux: the VM is built from Debian's packages."""

from __future__ import annotations

import contextlib
import http.client
import os
import pathlib
import time
from collections.abc import Iterator

from host import accel, machine, packages, ports, scratch, ssh
from host.errors import LabError
from host.image import Image
from host.lab import Lab, disk_use, remove
from host.machine import Machine
from host.qemu_argv import Hardware, Spec
from host.progress import Stage
from host.providers.base import Provider

JUPYTER_LIMIT = 180

# JupyterLab takes 10 s to start in an emulated VM, and nobody opens one that is thrown away.
NO_JUPYTER = "systemd.mask=jupyter.service"


class Qemu(Provider):
    """Runs the lab's VM, whose disk stays, and VMs that are thrown away."""

    name = "qemu"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.image = Image(lab)
        self.folder = lab.settings.state / "vm"
        _ = lab.settings.arch  # raises LabError if no VM can run here

    def machine(self, accelerator: str = "tcg") -> Machine:
        """Returns the lab's own VM."""
        spec = Spec(share=self.lab.settings.project, dies_with_us=False)
        return Machine(self.lab, self.folder, self.hardware(accelerator), spec)

    def hardware(self, accelerator: str, memory: int | None = None) -> Hardware:
        settings = self.lab.settings
        return Hardware(
            arch=settings.arch,
            accel=accelerator,
            memory=memory or settings.megabytes,
            image=settings.image,
            cpus=settings.cpus,
        )

    def argv(self, command: str, terminal: bool) -> list[str]:
        return self.machine().argv(command, terminal)

    def shell_argv(self, text: str, terminal: bool) -> list[str]:
        return self.machine().shell_argv(text, terminal)

    def is_running(self) -> bool:
        return self.machine().is_running()

    def ssh_config(self) -> tuple[pathlib.Path, str]:
        return self.folder / "ssh", ssh.HOST

    # ---- up

    def prepare(self, source: pathlib.Path | None = None) -> str:
        """Installs what QEMU needs and makes the image. Returns the accelerator."""
        packages.ensure(self.lab, "run")
        if source:
            self.image.take(source)
        self.image.make()
        accelerator, reason = accel.choose(self.lab)
        accel.announce(self.lab, accelerator, reason)
        return accelerator

    def up(self, source: pathlib.Path | None = None) -> None:
        if self.is_running():
            self.lab.say("the lab is running")
            vm = self.machine()
        else:
            vm = self.machine(self.prepare(source))
            self.lab.need_memory(vm.hardware.memory)
            self.lab.need_disk(500)
            vm.make_secrets()
            self.make_disk()
            with self.starting():
                vm.start()
                vm.wait()
        if not vm.connection.is_open():
            with self.starting():
                vm.wait()
        elif not vm.connection.answers(20):
            raise LabError(
                "the VM runs, but does not answer",
                f"Is the disk full? {self.lab.free_disk()} MB are free.",
                "./lab down stops the VM, ./lab up starts it again.",
            )

    def starting(
        self, title: str = "starting the VM"
    ) -> contextlib.AbstractContextManager[Stage]:
        return self.lab.progress.stage(title, "5 to 10 s, emulated 15 to 40 s")

    def make_disk(self) -> None:
        """Makes the VM's thin disk on top of the image, unless it has one already."""
        disk, inputs = self.folder / "disk.qcow2", self.folder / "inputs"
        made_from = inputs.read_text().strip() if inputs.exists() else ""
        if made_from != self.image.made_from():
            if disk.exists():
                self.lab.say("the image is new, so the VM starts from a new disk")
            disk.unlink(missing_ok=True)
        if not disk.exists():
            new = disk.with_suffix(".qcow2.new")
            machine.new_disk(self.image.folder, new)
            new.rename(disk)
            inputs.write_text(f"{self.image.made_from()}\n")

    def welcome(self) -> int:
        port = self.machine().ports().web
        self.wait_for_jupyter(port)
        self.lab.say("a container, made by the last step:")
        return self.run(f"workshop welcome --port {port}")

    def wait_for_jupyter(self, port: int) -> None:
        """Shows a stage while JupyterLab starts, because that takes longest. If it does
        not start, `workshop welcome` reports that."""
        if jupyter_answers(port):
            return
        with self.lab.progress.stage("starting JupyterLab", "5 s, emulated 10 to 20 s"):
            deadline = time.monotonic() + JUPYTER_LIMIT
            while self.is_running() and time.monotonic() < deadline:
                if jupyter_answers(port):
                    return
                time.sleep(0.3)

    # ---- down, destroy, status

    def down(self) -> None:
        if not self.is_running():
            self.lab.say("the lab is not running")
            return
        with self.lab.progress.stage("stopping the VM", "5 to 20 s"):
            self.machine().power_off()
        self.lab.say("the VM is stopped; its disk is kept")

    def destroy(self, everything: bool) -> None:
        self.machine().kill()
        self.lab.say(f"removing {self.folder}: the VM's disk, keys and token")
        remove(self.folder)
        scratch.sweep(self.lab.settings.state)
        if everything:
            self.lab.say(f"removing {self.image.folder}: the image for new VMs")
            self.image.remove()
            (self.lab.settings.state / "accel").unlink(missing_ok=True)
        elif self.image.folder.exists():
            self.lab.say(
                f"kept: the image ({self.image.megabytes()} MB), so the next ./lab up "
                "is quick; ./lab destroy --all removes it"
            )

    def status(self) -> int:
        print(f"way      {self.name}")
        if self.image.megabytes():
            print(f"image    {self.image.megabytes()} MB, {self.image.folder}")
        else:
            print("image    not built yet")
        disk = self.folder / "disk.qcow2"
        if disk.exists():
            print(f"disk     {disk_use(disk)} MB, {disk}")
        vm = self.machine()
        pid = vm.pid()
        if pid is None:
            print("running  no (./lab up starts it)")
            return 3
        minutes = (time.time() - (self.folder / "pid").stat().st_mtime) / 60
        print(f"running  pid {pid}, for {minutes:.0f} minutes")
        print(f"Jupyter  http://127.0.0.1:{vm.ports().web}/lab?token={vm.token()}")
        print(f"ssh      ./lab ssh, or ssh -F {self.folder}/ssh workshop")
        return 0

    # ---- VMs that are thrown away

    @contextlib.contextmanager
    def throwaway(self, memory: int | None = None) -> Iterator[Machine]:
        with self.throwaways(1, memory) as machines:
            yield machines[0]

    @contextlib.contextmanager
    def throwaways(
        self, count: int, memory: int | None = None, monitor: bool = False
    ) -> Iterator[list[Machine]]:
        """Starts VMs with a copy of the project and no way to the internet. If there are
        several, each gets a processor of this machine to itself, if there are enough."""
        with contextlib.ExitStack() as stack:
            with self.lab.lock():
                accelerator = self.prepare()
                hardware = self.hardware(accelerator, memory)
                self.lab.need_memory(hardware.memory * count)
                self.lab.make_my()
                place = stack.enter_context(scratch.directory(self.lab.settings.state))
            vms = []
            processors = sorted(os.sched_getaffinity(0))
            pin = 1 < count <= len(processors)
            for number in range(count):
                spec = Spec(
                    share=self.lab.settings.project,
                    share_options="security_model=none,readonly=on",
                    restrict=True,
                    monitor=monitor,
                    kernel_options=NO_JUPYTER,
                    prefix=pinned(processors[number]) if pin else (),
                )
                vm = Machine(self.lab, place / str(number), hardware, spec)
                stack.callback(vm.discard)
                vms.append(vm)
                vm.make_secrets()
                machine.new_disk(self.image.folder, vm.folder / "disk.qcow2")
                vm.set_ports(ports.ANY)
            title = "starting the VM" if count == 1 else f"starting {count} VMs"
            with self.starting(title):
                for vm in vms:
                    vm.start()
                for vm in vms:
                    vm.wait()
                    vm.copy_project()
            yield vms


def pinned(processor: int) -> tuple[str, ...]:
    """Returns a command that keeps QEMU on one processor: two emulated VMs that swap
    processors only disturb each other's caches."""
    return "taskset", "-c", str(processor)


def jupyter_answers(port: int) -> bool:
    """Returns whether JupyterLab answers on this port of 127.0.0.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True
