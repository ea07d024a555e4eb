"""A place where containers are made: a VM, or this machine itself with LAB=local."""

from __future__ import annotations

import abc
import os
import pathlib
import subprocess
import sys
from typing import IO, Union

from host.processes import quote
from host.progress import Stage

Stream = Union[int, IO[bytes], None]

# Runs as root. The bytecode goes to the VM's own disk, because the project is a shared
# directory. pytest loads no plugins of other packages: the suite needs none, and
# loading them takes a while.
VM_PYTHON = (
    "sudo PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache "
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 /opt/workshop/bin/python"
)


def at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


class Guest(abc.ABC):
    """Runs commands in the project's directory of the guest."""

    python = VM_PYTHON

    @abc.abstractmethod
    def argv(self, command: str, terminal: bool) -> list[str]:
        """Returns the command line, for this machine, that runs a command in the
        guest."""

    @abc.abstractmethod
    def shell_argv(self, text: str, terminal: bool) -> list[str]:
        """Returns the command line, for this machine, that runs any text as ssh
        does."""

    def run(
        self,
        command: str,
        *,
        terminal: bool | None = None,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
    ) -> int:
        """Runs a shell command. Returns its exit status."""
        if terminal is None:
            terminal = stdin is None and stdout is None and at_terminal()
        argv = self.argv(command, terminal)
        return subprocess.run(
            argv, check=False, stdin=stdin, stdout=stdout, stderr=stderr
        ).returncode

    def run_in_stage(
        self, stage: Stage, command: str, log: pathlib.Path | None = None
    ) -> int:
        """Runs a shell command, and shows each line of its output as a part of a stage.
        Returns its exit status.
        log: a file that gets the output as well, with the error messages."""
        argv = self.argv(command, False)
        errors = subprocess.STDOUT if log else None
        with (
            subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
            ) as process,
            open(log or os.devnull, "a") as copy,
        ):
            assert process.stdout
            for line in process.stdout:
                stage.note(line.strip())
                copy.write(line)
        return process.returncode

    def check(self, command: str) -> None:
        """Runs a shell command. Raises CalledProcessError if it fails."""
        argv = self.argv(command, False)
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)

    def fetch(self, source: str, target: pathlib.Path) -> None:
        """Copies the contents of a directory in the guest to one on this machine."""
        pack = self.argv(quote(["tar", "-C", source, "-cf", "-", "."]), False)
        unpack = ["tar", "-C", str(target), "-xf", "-"]
        with subprocess.Popen(
            pack, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as sender:
            subprocess.run(unpack, check=True, stdin=sender.stdout)
        if sender.returncode != 0:
            raise subprocess.CalledProcessError(sender.returncode, pack)


def become(argv: list[str]) -> int:
    """Replaces this process with another program. On Windows, which has no exec, waits
    for the program instead and returns its exit status."""
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(argv[0], argv)
    return subprocess.run(argv, check=False).returncode
