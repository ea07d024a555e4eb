"""Vagrant, if it has a provider. It is the only way on macOS and Windows."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import urllib.parse

from host import processes, ssh, sums
from host.errors import LabError
from host.guest import Guest
from host.lab import Lab
from host.progress import Stage
from host.providers.base import Provider, kept
from host.providers.choose import libvirt_answers, output

DEFAULT = "VAGRANT_DEFAULT_PROVIDER"


class Vagrant(Provider):
    """Runs the VM that the Vagrantfile describes."""

    name = "vagrant"

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.config = lab.settings.state / "vagrant.ssh"
        # The host's name is the one that Vagrant gives it.
        self.connection = ssh.Connection(self.config, "default", shared=False)

    def argv(self, command: str, terminal: bool) -> list[str]:
        return self.connection.command(ssh.guide_command(command), terminal)

    def shell_argv(self, text: str, terminal: bool) -> list[str]:
        return self.connection.command(ssh.user_command(text), terminal)

    def is_running(self) -> bool:
        return self.config.exists() and self.connection.answers(5)

    def ssh_config(self) -> tuple[pathlib.Path, str]:
        if not self.config.exists():
            self.write_config()
        return self.config, "default"

    def vagrant(self, *words: str) -> int:
        """Runs Vagrant in the project's directory, on this terminal."""
        command = ["vagrant", *words]
        project = self.lab.settings.project
        return subprocess.run(command, check=False, cwd=project).returncode

    def write_config(self) -> None:
        """Saves the ssh_config(5) that Vagrant prints for the VM."""
        done = subprocess.run(
            ["vagrant", "ssh-config"],
            check=False,
            cwd=self.lab.settings.project,
            stdout=subprocess.PIPE,
        )
        if done.returncode != 0:
            raise LabError("vagrant ssh-config failed", "./lab up starts the VM.")
        self.config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.config.write_bytes(done.stdout)

    def up(self, source: pathlib.Path | None = None) -> None:
        if shutil.which("vagrant") is None:
            raise LabError("Vagrant is not installed", "./lab doctor says what to do.")
        if source:
            self.take_box(source)
        if self.vagrant("up") != 0:
            raise LabError("vagrant up failed", "./lab doctor says what is missing.")
        self.write_config()

    def welcome(self) -> int:
        return 0  # `vagrant up` has shown it already

    def down(self) -> None:
        if self.vagrant("halt") != 0:
            raise LabError("vagrant halt failed")

    def destroy(self, everything: bool) -> None:
        if self.vagrant("destroy", "-f") != 0:
            raise LabError("vagrant destroy failed")
        self.config.unlink(missing_ok=True)

    def status(self) -> int:
        print(f"way      {self.name}", flush=True)
        return self.vagrant("status")

    def throwaway(
        self, memory: int | None = None
    ) -> contextlib.AbstractContextManager[Guest]:
        """Gives the block the lab's own VM: making a second one would take minutes."""
        if not self.is_running():
            with self.lab.lock():
                self.up()
        return kept(self)

    # ---- a box from a directory of ./lab pack

    def take_box(self, source: pathlib.Path) -> None:
        """Adds the box in a directory to Vagrant, unless Vagrant has this version."""
        catalog = source / "box/catalog.json"
        if not catalog.exists():
            raise LabError(
                f"there is no Vagrant box in {source}",
                "LAB=qemu uses the image there instead.",
            )
        if os.environ.get(DEFAULT, "libvirt") != "libvirt" or not libvirt_answers():
            raise LabError(
                f"the Vagrant box in {source} is for libvirt, which does not answer here",
                f"For VirtualBox and VMware there is a VM to import, "
                f"{source}/ovf/workshop.ovf: see START.md there.",
            )
        os.environ[DEFAULT] = "libvirt"
        about = json.loads(catalog.read_text())
        version = about["versions"][0]["version"]
        if has_box(output("vagrant", "box", "list"), about["name"], version):
            return
        log = self.lab.log("pack")
        title = f"adding the box in {source} to Vagrant"
        with self.lab.progress.stage(title, "20 to 60 s") as stage:
            sums.check(source, "box", log)
            self.add_box(stage, about, source, log)

    def add_box(
        self,
        stage: Stage,
        about: dict[str, object],
        source: pathlib.Path,
        log: pathlib.Path,
    ) -> None:
        whole = self.lab.settings.state / "catalog.json"
        whole.write_text(json.dumps(with_whole_urls(about, source / "box")))
        processes.run_logged(stage, ["vagrant", "box", "add", str(whole)], log)


def has_box(listed: str, name: str, version: str) -> bool:
    """Returns whether `vagrant box list` shows this version of a box for libvirt."""
    for line in listed.splitlines():
        word, _, about = line.partition(" ")
        facts = [part.strip() for part in about.strip().strip("()").split(",")]
        if word == name and facts[:2] == ["libvirt", version]:
            return True
    return False


def with_whole_urls(
    about: dict[str, object], folder: pathlib.Path
) -> dict[str, object]:
    """Returns the catalog with a complete URL for each box, because Vagrant makes a
    broken one from a path with a space."""
    whole: dict[str, object] = json.loads(json.dumps(about))
    for version in whole["versions"]:  # type: ignore[attr-defined]
        for provider in version["providers"]:
            path = urllib.parse.quote(str(folder / provider["url"]))
            provider["url"] = f"file://{path}"
    return whole
