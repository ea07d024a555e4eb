"""ssh into a VM: its ssh_config(5), the connection that stays open, and quoting."""

from __future__ import annotations

import hashlib
import os
import pathlib
import stat
import subprocess
import tempfile
from collections.abc import Sequence

from host.errors import LabError
from host.processes import quote

HOST = "workshop"
GUEST_PROJECT = "/workshop"  # where the project is in the VM
CONFIG = """\
Host {host}
  HostName 127.0.0.1
  Port {port}
  User vagrant
  IdentityFile {key}
  IdentitiesOnly yes
  BatchMode yes
  HostKeyAlias {host}
  UserKnownHostsFile {known_hosts}
  StrictHostKeyChecking yes
  ConnectTimeout 10
  ServerAliveInterval 20
  ServerAliveCountMax 15
  LogLevel ERROR
"""


def config(folder: pathlib.Path, port: int) -> str:
    """Returns the ssh_config(5) of the VM, for other programs too: ssh -F … workshop"""
    return CONFIG.format(
        host=HOST,
        port=port,
        key=escaped(folder / "key"),
        known_hosts=escaped(folder / "known_hosts"),
    )


def escaped(path: pathlib.Path) -> str:
    """Escapes a path so that ssh_config(5) reads it back: quotes and %-tokens."""
    text = str(path).replace("%", "%%")
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def guide_command(command: str) -> str:
    """Returns the shell text that runs a command of the lab's own in the project's
    directory. The shell in the VM survives a Ctrl-C, so the exit status of a signal is
    128 + its number."""
    return f"trap : INT; cd {GUEST_PROJECT} && {command}; exit $?"


def user_command(text: str) -> str:
    """Returns the shell text that does what `ssh HOST TEXT` does, but in the project's
    directory."""
    if not text:
        return f"cd {GUEST_PROJECT} && exec bash -l"
    return f"cd {GUEST_PROJECT} && exec bash -c {quote([text])}"


def socket_directory() -> pathlib.Path:
    """Returns the directory for sockets of open connections: a short, private path."""
    user = os.getuid()
    runtime = pathlib.Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")
    if not os.access(runtime, os.W_OK):
        runtime = pathlib.Path("/tmp")
    folder = runtime / f"workshop-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if (
        not stat.S_ISDIR(status.st_mode)
        or status.st_uid != user
        or stat.S_IMODE(status.st_mode) != 0o700
    ):
        raise LabError(
            f"{folder} belongs to another user, or is open to others",
            "Remove it, then try again.",
        )
    return folder


class Connection:
    """Runs ssh into a VM. If `shared`, one open connection carries all commands: a
    handshake takes a second in an emulated VM."""

    def __init__(
        self, config: pathlib.Path, host: str = HOST, shared: bool = True
    ) -> None:
        self.config = config
        self.host = host
        self.shared = shared

    def socket(self) -> pathlib.Path:
        name = hashlib.sha256(os.fsencode(self.config)).hexdigest()[:12]
        return socket_directory() / name

    def argv(self, *words: str) -> list[str]:
        """Returns an ssh command line: options, or a command after the host's name."""
        base = ["ssh", "-F", str(self.config)]
        if self.shared:
            path = str(self.socket()).replace("%", "%%")
            base += ["-o", "ControlMaster=no", "-o", f"ControlPath={path}"]
        else:
            base += ["-o", "LogLevel=ERROR"]
        return [*base, *words]

    def command(self, text: str, terminal: bool) -> list[str]:
        """Returns the command line that runs a shell command in the VM."""
        return self.argv("-t" if terminal else "-T", self.host, text)

    def open(self) -> bool:
        """Opens the connection that the commands share. Returns whether ssh answered."""
        options = ["-o", "ControlMaster=yes", "-o", "ControlPersist=no"]
        return self._quietly(self.argv("-fNM", *options, self.host)) == 0

    def is_open(self) -> bool:
        return self._quietly(self.argv("-O", "check", self.host)) == 0

    def close(self) -> None:
        self._quietly(self.argv("-O", "exit", self.host))

    def forward(self, port: str) -> None:
        """Lets the VM reach an address of this machine at the same address inside."""
        subprocess.run(
            self.argv("-O", "forward", "-R", f"{port}:{port}", self.host), check=True
        )

    def answers(self, seconds: float) -> bool:
        """Returns whether a command runs in the VM within this time."""
        try:
            return self._quietly(self.argv("-T", self.host, "true"), seconds) == 0
        except subprocess.TimeoutExpired:
            return False

    @staticmethod
    def _quietly(argv: Sequence[str], seconds: float | None = None) -> int:
        # A file, because a connection that stays open would also keep a pipe open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                argv,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=seconds,
            )
        return done.returncode
