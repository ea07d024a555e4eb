#!/usr/bin/env python3
"""The lab as a kernel of your own Jupyter or VS Code, over one ssh process.

    ./lab kernel install      "Container workshop (VM)" is in the list of kernels
    ./lab kernel remove       it is not any more

Jupyter starts `kernel.py connect` on the host, that starts `kernel.py serve` in the VM through
ssh, and that the kernel, as root and in notebooks/, like the lab's own JupyterLab. The key of
the connection goes over ssh's standard input: it is on no command line. Whichever end dies,
the other one ends as well. Only Python's standard library, so any Python 3.9 will do on the
host. Where there is no sh (Windows), `python vagrant/kernel.py install` asks Vagrant for the
way into the VM.

Exit status: the kernel's own; 128 + its signal; 255: ssh has found no way, and says why.
The formats: https://jupyter-client.readthedocs.io/en/stable/kernels.html
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

PROJECT = pathlib.Path(__file__).resolve().parent.parent
NAME = "container-workshop"
PORTS = ["shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"]
SERVE = "sudo -nH /opt/workshop/bin/python -P /workshop/vagrant/kernel.py serve"


def jupyter_folder():
    """Where Jupyter looks for what a user has installed: `jupyter --data-dir`."""
    if "JUPYTER_DATA_DIR" in os.environ:
        return pathlib.Path(os.environ["JUPYTER_DATA_DIR"])
    if sys.platform == "darwin":
        return pathlib.Path.home() / "Library/Jupyter"
    if os.name == "nt":
        return pathlib.Path(os.environ["APPDATA"], "jupyter")
    data = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share"
    return pathlib.Path(data, "jupyter")


def install(options):
    """Writes the kernelspec. It names this file, so it holds while the project stays here."""
    config = options.config
    if config is None:
        config = PROJECT / ".lab/vagrant.ssh"
        config.parent.mkdir(mode=0o700, exist_ok=True)
        vagrant = ["vagrant", "ssh-config"]
        told = subprocess.run(vagrant, cwd=PROJECT, check=True, capture_output=True)
        config.write_bytes(told.stdout)
    here = [sys.executable, str(pathlib.Path(__file__).resolve())]
    spec = {
        "argv": [*here, "connect", str(config), options.host, "{connection_file}"],
        "display_name": "Container workshop (VM)",
        "language": "python",
        "interrupt_mode": "message",  # no signal reaches the VM
        "metadata": {"debugger": True},
    }
    folder = jupyter_folder() / "kernels" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(spec, indent=1) + "\n")
    print(f"{folder}: in Jupyter and VS Code, choose {spec['display_name']!r}")


def remove(options):
    """Takes the kernelspec away again."""
    folder = jupyter_folder() / "kernels" / NAME
    shutil.rmtree(folder, ignore_errors=True)
    print(f"{folder}: removed")


def connect(options):
    """Runs on the host, for as long as the kernel lives. Returns its exit status."""
    about = json.loads(pathlib.Path(options.connection).read_text())
    # Linux has all of 127.0.0.0/8: on an address of its own, in the VM, no port is taken.
    about["ip"] = "127." + ".".join(str(random.randint(2, 250)) for _ in range(3))
    command = ["ssh", "-F", options.config, "-T", "-o", "BatchMode=yes"]
    command += ["-o", "ControlPath=none", "-o", "ExitOnForwardFailure=yes"]
    command += ["-o", "ServerAliveInterval=5"]  # a VM that hangs is one that has died
    for port in PORTS:
        command += ["-L", f"127.0.0.1:{about[port]}:{about['ip']}:{about[port]}"]
    ssh = subprocess.Popen([*command, options.host, SERVE], stdin=subprocess.PIPE)
    # Asked to end, hang up: then the VM's end of it does as well.
    signal.signal(signal.SIGTERM, lambda *_: ssh.stdin.close())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts go as messages
    try:
        ssh.stdin.write(json.dumps(about).encode() + b"\n")
        ssh.stdin.flush()
    except BrokenPipeError:
        pass  # ssh has ended, and said why
    jupyter = os.getppid()
    while True:
        try:
            status = ssh.wait(1)
            break
        except subprocess.TimeoutExpired:
            if os.getppid() != jupyter and not ssh.stdin.closed:
                ssh.stdin.close()  # Jupyter was killed
    if status == 255:
        print("kernel.py: no way into the lab. Is it up? ./lab up", file=sys.stderr)
    return status


def serve(options):
    """Runs in the VM, as root, for as long as the kernel and ssh live. Returns the kernel's
    exit status."""
    with tempfile.NamedTemporaryFile("w", prefix="kernel-", suffix=".json") as file:
        file.write(sys.stdin.readline())
        file.flush()
        kernel = subprocess.Popen(
            [sys.executable, "-P", "-m", "ipykernel_launcher", "-f", file.name],
            stdin=subprocess.DEVNULL,
            cwd=PROJECT / "notebooks",
            start_new_session=True,
        )
        threading.Thread(target=end_with_ssh, args=[kernel], daemon=True).start()
        status = kernel.wait()
    return status if status >= 0 else 128 - status


def end_with_ssh(kernel):
    """Ends the kernel when ssh has hung up, or the host is gone. At most 5 s."""
    sys.stdin.read()
    kernel.terminate()
    try:
        kernel.wait(5)
    except subprocess.TimeoutExpired:
        kernel.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = parser.add_subparsers(required=True, metavar="WORD")
    word = words.add_parser("install", help="put it into Jupyter's list of kernels")
    word.add_argument("--config", help="the way into the VM, as ssh_config(5)")
    word.add_argument("--host", default="default", help="its name in there")
    word.set_defaults(function=install)
    words.add_parser("remove", help="take it out again").set_defaults(function=remove)
    word = words.add_parser("connect", help="what Jupyter starts")
    for name in "config", "host", "connection":
        word.add_argument(name)
    word.set_defaults(function=connect)
    words.add_parser("serve", help="its end in the VM").set_defaults(function=serve)
    options = parser.parse_args()
    return options.function(options)


if __name__ == "__main__":
    sys.exit(main())
