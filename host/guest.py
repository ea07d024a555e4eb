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

# As root, with its bytecode on the VM's own disk: the project is a shared folder. Without
# pytest's plugins that the packages bring: none is needed, and they take a while to load.
VM_PYTHON = (
    "sudo PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache "
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 /opt/workshop/bin/python"
)


def at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


class Guest(abc.ABC):
    """Runs commands in the project's directory, over there."""

    python = VM_PYTHON

    @abc.abstractmethod
    def argv(self, command: str, terminal: bool) -> list[str]:
        """Returns the command line, here, that runs a shell command there."""

    @abc.abstractmethod
    def shell_argv(self, text: str, terminal: bool) -> list[str]:
        """Returns the command line, here, that runs any text there as ssh does."""

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

    def run_in_stage(self, stage: Stage, command: str) -> int:
        """Runs a shell command, and shows each line that it prints as a part of a stage.
        Returns its exit status."""
        argv = self.argv(command, False)
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            for line in process.stdout:
                stage.note(line.strip())
        return process.returncode

    def check(self, command: str) -> None:
        """Runs a shell command that has to succeed."""
        argv = self.argv(command, False)
        subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)

    def fetch(self, source: str, target: pathlib.Path) -> None:
        """Copies what is in a directory there into a directory here."""
        pack = self.argv(quote(["tar", "-C", source, "-cf", "-", "."]), False)
        unpack = ["tar", "-C", str(target), "-xf", "-"]
        with subprocess.Popen(
            pack, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        ) as sender:
            subprocess.run(unpack, check=True, stdin=sender.stdout)
        if sender.returncode != 0:
            raise subprocess.CalledProcessError(sender.returncode, pack)


def become(argv: list[str]) -> int:
    """Goes on as another program; where there is no exec, waits for it instead."""
    if os.name == "posix":
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(argv[0], argv)
    return subprocess.run(argv, check=False).returncode
