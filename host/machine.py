"""A QEMU virtual machine: keys, ports, start, stop, freeze and resume.

Everything about one VM is in one directory: its disk, keys, ports and pid.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tarfile
import time

from host import checkout, ssh
from host.errors import LabError
from host.guest import Guest
from host.lab import Lab
from host.ports import USUAL, Ports, free_ports, next_ports
from host.qemu_argv import Hardware, Spec, argv

LAST_LINES = 6  # of a log, in an error
START_LIMIT = 180  # seconds in which ssh must answer
FREEZE_LIMIT = 180
MONITOR_TO_FREEZE = """\
migrate_set_parameter max-bandwidth 10G
migrate "exec:cat >\\"$state_file\\""
info migrate
quit
"""
# The project comes as an archive on standard input.
RECEIVE = """sudo sh -ec '
    umount /workshop
    tar -C /workshop -xf - --no-same-owner
    chmod -R go=u-w /workshop'"""


class Machine(Guest):
    """Starts, stops, freezes and talks to one VM, whose files are in a directory."""

    def __init__(
        self, lab: Lab, folder: pathlib.Path, hardware: Hardware, spec: Spec
    ) -> None:
        self.lab = lab
        self.folder = folder
        self.hardware = hardware
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.connection = ssh.Connection(folder / "ssh")

    # ---- running commands in it

    def argv(self, command: str, terminal: bool) -> list[str]:
        return self.connection.command(ssh.guide_command(command), terminal)

    def shell_argv(self, text: str, terminal: bool) -> list[str]:
        return self.connection.command(ssh.user_command(text), terminal)

    # ---- keys and ports

    def make_secrets(self) -> None:
        """Makes the VM's keys and token, once. The guest gets those that it needs through
        QEMU's fw_cfg, as systemd credentials, so they are in no image and in no process
        list."""
        guest = self.folder / "guest"
        if (self.folder / "known_hosts").exists():
            return
        for place in self.folder, guest:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder / "key", guest / "host_key":
            path.unlink(missing_ok=True)
            generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "workshop"]
            subprocess.run([*generate, "-f", path], check=True, umask=0o077)
        secret(guest / "ssh_key", (self.folder / "key.pub").read_text())
        secret(guest / "token", secrets.token_hex(24))
        host_key = (guest / "host_key.pub").read_text()
        # Written last, because its presence says that the others are complete.
        secret(self.folder / "known_hosts", f"{ssh.HOST} {host_key}")

    def token(self) -> str:
        return (self.folder / "guest/token").read_text()

    def ports(self) -> Ports:
        """Returns the ports in use, or the last ones."""
        try:
            ssh_port, web_port = (self.folder / "ports").read_text().split()
            return Ports(int(ssh_port), int(web_port))
        except (FileNotFoundError, ValueError):
            return USUAL

    def set_ports(self, ports: Ports) -> None:
        (self.folder / "ports").write_text(f"{ports.ssh} {ports.web}\n")

    # ---- start and stop

    def pid(self) -> int | None:
        """Returns the process ID of this VM, if it is running."""
        try:
            pid = int((self.folder / "pid").read_text())
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        if self.process and self.process.poll() is not None:
            return None
        return pid if os.fsencode(self.folder / "pid") in words else None

    def is_running(self) -> bool:
        if self.process:
            return self.process.poll() is None
        return self.pid() is not None

    def start(self, move_web_port: bool = True) -> None:
        """Starts QEMU. If a port is taken, tries the next one."""
        wanted = self.ports()
        ports = wanted
        while True:
            ports = free_ports(ports, move_web_port)
            # Written before the VM runs: if we are killed now, the next ./lab needs it.
            self.set_ports(ports)
            config = ssh.config(self.folder, ports.ssh)
            (self.folder / "ssh").write_text(config)
            error = self._launch(ports)
            if error is None:
                break
            if "host forwarding rule" not in error:
                last = [f"| {line}" for line in error.splitlines()]
                raise LabError("QEMU does not start", *last)
            ports = next_ports(ports, error)
        if ports.web != wanted.web and wanted.web != 0:
            self.lab.say(
                f"port {wanted.web} is in use on this machine; "
                f"JupyterLab gets {ports.web}"
            )

    def _launch(self, ports: Ports) -> str | None:
        """Starts QEMU. Returns its error messages if it ends at once, or else None."""
        (self.folder / "pid").unlink(missing_ok=True)
        words = argv(self.hardware, self.spec, self.folder, ports)
        variables = dict(os.environ)
        variables["state_file"] = str(self.spec.resumes or self.folder / "state")
        with open(self.folder / "qemu.log", "wb") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE if self.spec.monitor else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=variables,
            )
        if not self.spec.dies_with_us:  # it goes on in the background
            stays = process.wait() == 0
        else:
            self.process = process
            try:
                process.wait(1)
                stays = False
            except subprocess.TimeoutExpired:
                stays = True
        return None if stays else self.last_words()

    def last_words(self) -> str:
        return (self.folder / "qemu.log").read_text(errors="replace")

    def last_lines(self) -> list[str]:
        """Returns the last lines that QEMU and the VM's console have printed. They are shown,
        not only named, because the files of a throw-away VM are removed with it."""
        lines = []
        for name in "qemu.log", "console.log":
            path = self.folder / name
            text = path.read_text(errors="replace") if path.exists() else ""
            lines += [f"{name}: {line}" for line in text.splitlines()[-LAST_LINES:]]
        return lines or ["Neither QEMU nor the VM's console has printed anything."]

    def wait(self, limit: float = START_LIMIT) -> None:
        """Waits until ssh answers, which means that the VM is ready."""
        deadline = time.monotonic() + limit
        while not self.connection.open():
            if not self.is_running():
                raise LabError("the VM stopped before it was ready", *self.last_lines())
            if time.monotonic() > deadline:
                stays = "./lab down stops it, ./lab up starts it again."
                raise LabError(
                    f"the VM runs, but has not answered for {limit:.0f} s",
                    *self.last_lines(),
                    *([] if self.spec.dies_with_us else [stays]),
                )
            time.sleep(0.5)

    def copy_project(self) -> None:
        """Copies the project to the VM's own disk, in place of the shared directory. From
        there an emulated VM starts a container in half the time, and its state can be
        frozen."""
        command = self.connection.command(RECEIVE, False)
        with subprocess.Popen(command, stdin=subprocess.PIPE) as receiver:
            assert receiver.stdin
            with contextlib.suppress(BrokenPipeError):  # its status says what happened
                with tarfile.open(mode="w|", fileobj=receiver.stdin) as archive:
                    checkout.add(archive, self.lab.settings.project, ".")
                receiver.stdin.close()
        if receiver.returncode != 0:
            raise LabError("the project could not be copied to the VM's disk")

    def power_off(self) -> None:
        """Has the VM shut itself down; pulls the plug if it does not within 40 s."""
        if self.is_running():
            command = self.connection.command("sudo systemctl poweroff", False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    command,
                    check=False,
                    timeout=10,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            deadline = time.monotonic() + 30
            while self.is_running() and time.monotonic() < deadline:
                time.sleep(0.2)
        self.kill()

    def kill(self) -> None:
        """Kills QEMU, which pulls the plug of the VM."""
        if self.process:
            self.process.kill()
            self.process.wait()
            if self.process.stdin:
                self.process.stdin.close()
        while True:
            pid = self.pid()
            if pid is None:
                break
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "pid").unlink()

    def discard(self) -> None:
        """Kills the VM and removes its directory."""
        self.kill()
        if (self.folder / "ssh").exists():
            self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---- freezing

    def freeze(self) -> None:
        """Saves the running VM's state in the file `state`, and ends the VM. The spec
        must have a monitor, and the VM must not be using its shared directory."""
        assert self.process and self.process.stdin
        self.connection.close()
        self.process.stdin.write(MONITOR_TO_FREEZE.encode())
        self.process.stdin.flush()
        try:
            self.process.wait(FREEZE_LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
        said = self.last_words()
        if "Migration status: completed" not in said:
            lines = [
                line for line in said.splitlines() if not line.startswith("(qemu)")
            ]
            raise LabError(
                "QEMU could not save the state of a VM",
                *[f"| {line}" for line in lines[-5:]],
                f"Is the disk full? {self.lab.free_disk()} MB are free.",
            )


def secret(path: pathlib.Path, text: str) -> None:
    """Writes a file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)


def new_disk(image: pathlib.Path, disk: pathlib.Path) -> None:
    """Makes a thin disk on top of the image's, which holds what the VM changes. Only its owner
    may read it, because JupyterLab's token is on it."""
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw"]
    subprocess.run([*create, "-b", image / "disk.raw", disk], check=True, umask=0o077)
