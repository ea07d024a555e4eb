"""Runs a student's VM for the classroom's hub, and reports to it in lines of JSON.

    {"text": …}       what happens, for the page that the student sees while waiting
    {"ready": true}   the VM runs, and its notebook server starts
    {"error": …}      it could not be started

Each time, the VM gets a new thin disk on top of the image. The directory that it shares
with this machine is the student's own copy of the project, and stays. From inside the
VM, only the hub can be reached.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shutil
import subprocess
import urllib.parse

from host import accel, machine, processes
from host.errors import LabError
from host.hub import Hub
from host.lab import Lab
from host.machine import Machine
from host.qemu_argv import Hardware, Spec
from host.ports import Ports
from host.progress import JsonProgress

MEMORY = 1024  # megabytes
# The parts of the project in a student's copy, which are renewed at each start.
OURS = ("pyproject.toml", "steps", "tests", "vagrant", "workshop")
SERVER = r"""exec sudo sh -c '
    export HOME=/root PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache
    while IFS= read -r line; do export "$line"; done
    exec /opt/workshop/bin/python -P -m jupyterhub.singleuser --allow-root \
        >/var/log/notebook-server 2>&1'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")
    parser.add_argument("port", type=int)


def run(lab: Lab, options: argparse.Namespace) -> int:
    assert isinstance(lab.progress, JsonProgress)
    try:
        status = seat(lab, options.name, options.port)
    except LabError as error:
        lab.progress.event(error=error.sentence)
        return 1
    lab.progress.event(error=f"the notebook server ended, with status {status}")
    return 1


def seat(lab: Lab, name: str, port: int) -> int:
    """Runs a student's VM. Returns the exit status of the server in it."""
    assert isinstance(lab.progress, JsonProgress)
    home = Hub(lab).students / name
    vm = student_machine(lab, home)
    if vm.is_running():
        raise LabError("the VM is already running")
    lab.need_memory(vm.hardware.memory)
    lab.need_disk(500)
    shutil.rmtree(vm.folder, ignore_errors=True)
    try:
        os.umask(0o022)  # for the VM's user; here, LAB_DIR keeps others out
        renew(lab.settings.project, home / "project")
        vm.make_secrets()
        machine.new_disk(lab.settings.image, vm.folder / "disk.qcow2")
        vm.set_ports(Ports(0, port))
        with lab.progress.stage("starting the VM", "5 to 10 s, emulated 15 to 40 s"):
            vm.start(move_web_port=False)
            vm.wait()
        api = urllib.parse.urlsplit(os.environ["JUPYTERHUB_API_URL"]).netloc
        vm.connection.forward(api)
        lab.say("the notebook server starts")
        lab.progress.event(ready=True)
        return serve(vm)
    finally:
        vm.discard()


def student_machine(lab: Lab, home: pathlib.Path) -> Machine:
    accelerator, _ = accel.choose(lab)
    settings = lab.settings
    hardware = Hardware(
        arch=settings.arch,
        accel=accelerator,
        memory=settings.memory or MEMORY,
        image=settings.image,
        cpus=settings.cpus or 1,
    )
    spec = Spec(
        share=home / "project",
        # A device or setuid program that a student makes is a plain file here.
        share_options="security_model=mapped-xattr",
        restrict=True,
        # Its console could print without end, and fill this machine's disk.
        console=False,
        # The hub's server takes the place of the VM's own JupyterLab.
        kernel_options="systemd.mask=jupyter.service",
        prefix=("nice", "-n", "5"),
    )
    return Machine(lab, home / "vm", hardware, spec)


def renew(project: pathlib.Path, copy: pathlib.Path) -> None:
    """Refreshes the workshop's own files, and keeps what the student wrote."""
    (copy / "my").mkdir(parents=True, exist_ok=True)
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in OURS:
        source, target = project / name, copy / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=skip)
        else:
            shutil.copy2(source, target)
    for source in sorted((project / "notebooks").rglob("*")):
        target = copy / source.relative_to(project)
        if source.is_file() and not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def serve(vm: Machine) -> int:
    """Runs the notebook server in the VM, with the variables that the hub gave us."""
    command = vm.argv(SERVER, False)
    names = [name for name in os.environ if name.startswith("JUPYTERHUB_")]
    lines = "".join(f"{name}={os.environ[name]}\n" for name in names)
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stdin
        process.stdin.write(lines.encode())
        process.stdin.close()
        return process.wait()
    finally:
        processes.stop(process)
