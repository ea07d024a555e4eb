"""LAB=local: no VM. Root makes containers on this machine's own kernel."""

from __future__ import annotations

import contextlib
import json
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Iterator

from host import processes
from host.errors import LabError
from host.guest import Guest
from host.lab import Lab
from host.processes import quote
from host.providers.base import Provider

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WARNING = (
    "LAB=local: there is no VM; root makes containers on this machine's own kernel,",
    "so a mistake in a lesson is a mistake on this machine. "
    "Use a machine that you can throw away.",
)


class Local(Provider):
    """This machine. What needs root is in host/local_root.py."""

    name = "local"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.folder = lab.settings.state / "local"
        self.python = quote([str(self.folder / "venv/bin/python")])

    def environment(self) -> list[str]:
        variables = {
            "PATH": f"{self.folder}/bin:{SYSTEM_PATH}",
            "PYTHONPYCACHEPREFIX": f"{self.folder}/pycache",
        }
        return processes.environment_words(variables)

    def argv(self, command: str, terminal: bool) -> list[str]:
        return self.shell_argv(command, terminal)

    def shell_argv(self, text: str, terminal: bool) -> list[str]:
        shell = ["bash", "-c", text] if text else ["bash", "-l"]
        directory = f"--chdir={self.lab.settings.project}"
        env, *words = [*self.environment(), *shell]
        return [str(word) for word in processes.as_root([env, directory, *words])]

    def is_running(self) -> bool:
        return (self.folder / "bin/workshop").exists()  # no process needs to run

    def ssh_config(self) -> tuple[pathlib.Path, str]:
        raise LabError(
            "LAB=local has no VM to install a kernel for",
            "It runs its own JupyterLab, on this machine.",
        )

    # ---- the parts that need root

    def root_argv(self, job: str) -> list[str]:
        script = self.lab.settings.project / "host"
        words = [sys.executable, str(script), "local-root", job, str(self.folder)]
        return [str(word) for word in processes.as_root(words)]

    def ask(self, job: str) -> dict[str, object]:
        """Has root do a job. Returns its answer."""
        argv = self.root_argv(job)
        done = subprocess.run(argv, check=False, stdout=subprocess.PIPE)
        if done.returncode != 0:
            raise LabError(f"{shlex.join(argv)} failed")
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    def prepare(self) -> None:
        for line in WARNING:
            self.lab.say(line)
        self.lab.ask_for_root("make containers")
        title, usual = (
            "Python packages and root filesystems",
            "1 to 3 minutes, then 1 s",
        )
        log = self.lab.log("local")
        with self.lab.progress.stage(title, usual) as stage:
            processes.run_logged(stage, self.root_argv("prepare"), log)

    # ---- the interface

    def up(self, source: pathlib.Path | None = None) -> None:
        if source:
            raise LabError(
                "LAB=local cannot start from a directory",
                "Use --from with LAB=qemu or LAB=vagrant.",
            )
        self.prepare()
        self.ask("start")

    def welcome(self) -> int:
        if self.run("workshop doctor") != 0:
            self.lab.say("the steps named above cannot run here, or only in part")
        self.run("workshop welcome")
        print(f"\nJupyterLab, in your browser:\n  {self.address()}")
        return 0

    def address(self) -> str:
        with self.lab.progress.stage("starting JupyterLab", "3 to 10 s"):
            address = self.ask("address")["address"]
        if not address:
            raise LabError(
                "JupyterLab does not start",
                f"Its last words are in {self.folder}/jupyter.log.",
            )
        return str(address)

    def down(self) -> None:
        if self.folder.exists():
            self.ask("stop")
        self.lab.say("JupyterLab is stopped")

    def destroy(self, everything: bool) -> None:
        self.down()
        command = ["rm", "-rf", "--one-file-system", str(self.folder)]
        subprocess.run(processes.as_root(command), check=True)
        self.lab.say(
            "kept: the Debian packages, and /var/lib/workshop with the root filesystems"
        )

    def status(self) -> int:
        print(f"way      {self.name}", flush=True)
        if not self.folder.exists() or not self.ask("running")["running"]:
            print("running  no (./lab up starts JupyterLab)")
            return 3
        print(f"Jupyter  {self.ask('address')['address']}")
        return 0

    @contextlib.contextmanager
    def throwaway(self, memory: int | None = None) -> Iterator[Guest]:
        with self.lab.lock():
            self.prepare()
        yield self
