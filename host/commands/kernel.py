"""Makes the VM a kernel in your own Jupyter or VS Code, over one ssh connection.

install puts "Container workshop (VM)" into Jupyter's list of kernels, remove takes it
out again. Jupyter starts `kernel connect` on this machine, which starts
vagrant/kernel.py in the VM. The connection's key goes over ssh's standard input, so
it is on no command line. When either end dies, so does the other.

Exit status of a kernel: its own; 128 + its signal; 255 if ssh cannot reach the VM.
The formats: https://jupyter-client.readthedocs.io/en/stable/kernels.html
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

from host.lab import Lab
from host.providers import choose

NAME = "container-workshop"
TITLE = "Container workshop (VM)"
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
SERVE = "sudo -nH /opt/workshop/bin/python -P /workshop/vagrant/kernel.py serve"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    jobs = parser.add_subparsers(dest="job", required=True, metavar="install | remove")
    jobs.add_parser("install", help="put the VM into Jupyter's list of kernels")
    jobs.add_parser("remove", help="take it out again")
    connect = jobs.add_parser("connect")  # started by Jupyter
    for name in "config", "host", "connection":
        connect.add_argument(name)


def run(lab: Lab, options: argparse.Namespace) -> int:
    if options.job == "connect":
        return connect(options.config, options.host, options.connection)
    folder = jupyter_directory(os.environ) / "kernels" / NAME
    if options.job == "remove":
        shutil.rmtree(folder, ignore_errors=True)
        print(f"Removed {folder}")
        return 0
    config, host = choose.provider(lab).ssh_config()
    folder.mkdir(parents=True, exist_ok=True)
    spec = kernelspec(lab.settings.project, config, host)
    (folder / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
    print(f"Wrote {folder}. In Jupyter and VS Code, choose {TITLE!r}.")
    return 0


def jupyter_directory(environment: Mapping[str, str]) -> pathlib.Path:
    """Returns where Jupyter looks for what a user installed: `jupyter --data-dir`."""
    if "JUPYTER_DATA_DIR" in environment:
        return pathlib.Path(environment["JUPYTER_DATA_DIR"])
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library/Jupyter"
    if os.name == "nt":
        return pathlib.Path(environment["APPDATA"], "jupyter")
    data = environment.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share"
    return pathlib.Path(data, "jupyter")


def kernelspec(
    project: pathlib.Path, config: pathlib.Path, host: str
) -> dict[str, object]:
    """Returns the kernelspec. It has the project's path, so do not move the project."""
    start = [sys.executable, str(project / "host"), "kernel", "connect"]
    return {
        "argv": [*start, str(config), host, "{connection_file}"],
        "display_name": TITLE,
        "language": "python",
        "interrupt_mode": "message",  # no signal reaches the VM
        "metadata": {"debugger": True},
    }


def ssh_argv(config: str, host: str, about: Mapping[str, object]) -> list[str]:
    """Returns the ssh command line that carries a kernel's five ports."""
    words = ["ssh", "-F", config, "-T", "-o", "BatchMode=yes"]
    words += ["-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes"]
    words += ["-o", "ServerAliveInterval=5"]  # a VM that hangs counts as dead
    for port in PORTS:
        words += ["-L", f"127.0.0.1:{about[port]}:{about['ip']}:{about[port]}"]
    return [*words, host, SERVE]


def connect(config: str, host: str, connection: str) -> int:
    """Runs for as long as the kernel lives. Returns its exit status."""
    about = json.loads(pathlib.Path(connection).read_text())
    # All of 127.0.0.0/8 is loopback on Linux, and in the VM nothing else listens on
    # this address, so its ports are free.
    about["ip"] = "127." + ".".join(str(random.randint(2, 250)) for _ in range(3))
    ssh = subprocess.Popen(ssh_argv(config, host, about), stdin=subprocess.PIPE)
    assert ssh.stdin
    # When Jupyter asks us to end, hang up, so that the VM's end does the same.
    signal.signal(signal.SIGTERM, lambda *_: ssh.stdin.close())  # type: ignore[union-attr]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Jupyter sends interrupts as messages
    try:
        ssh.stdin.write(json.dumps(about).encode() + b"\n")
        ssh.stdin.flush()
    except BrokenPipeError:
        pass  # ssh has ended, and has said why
    status = wait(ssh)
    if status == 255:
        print("lab: ssh cannot reach the VM. ./lab up starts it.", file=sys.stderr)
    return status


def wait(ssh: subprocess.Popen[bytes]) -> int:
    """Waits until ssh ends; hangs up if Jupyter was killed. Returns ssh's status."""
    jupyter = os.getppid()
    while True:
        try:
            return ssh.wait(1)
        except subprocess.TimeoutExpired:
            if os.getppid() != jupyter and ssh.stdin and not ssh.stdin.closed:
                ssh.stdin.close()
