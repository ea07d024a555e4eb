"""The classroom's hub: its packages, its process, and the students' VMs behind it."""

from __future__ import annotations

import os
import pathlib
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from host import environments
from host.errors import LabError
from host.lab import Lab
from host.processes import run_logged, start_server

START_LIMIT = 180  # seconds; it takes 3 to 10, or a minute on a busy machine
STOP_LIMIT = 60


class Hub:
    """Installs, starts and stops JupyterHub, in the lab's directory."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.project = lab.settings.project
        self.folder = lab.settings.state / "classroom"
        # Each student has a directory here, with their copy of the project, VM and log.
        self.students = self.folder / "students"
        self.roster = self.folder / "class"
        self.venv = lab.settings.state / "jupyter"
        self.log = self.folder / "log"

    def pid(self) -> int | None:
        """Returns the hub's process ID, if it is running."""
        try:
            number = int((self.folder / "pid").read_text())
            words = pathlib.Path(f"/proc/{number}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return number if b"classroom/jupyterhub_config.py" in words else None

    def address(self) -> str:
        port = (self.folder / "port").read_text().strip()
        return f"http://localhost:{port}"

    def minutes(self) -> float:
        """Returns the minutes since the hub was started."""
        return (time.time() - (self.folder / "pid").stat().st_mtime) / 60

    def occupied(self) -> dict[str, int]:
        """Returns {student: memory of their VM, in MB} for each VM that runs."""
        found = {}
        for path in sorted(self.students.glob("*/vm/pid")):
            megabytes = vm_memory(path)
            if megabytes is not None:
                found[path.parent.parent.name] = megabytes
        return found

    # ---- packages

    def install(self) -> None:
        """Installs JupyterHub and its proxy, in the versions that the project pins."""
        wanted = self.project / "vagrant/requirements.txt"
        environments.ensure(
            self.lab, self.venv, wanted, "installing the hub's Python packages"
        )
        lock = self.project / "classroom/package-lock.json"
        if not environments.same(lock, self.folder / "node_modules/.this"):
            self.install_proxy(lock)

    def install_proxy(self, lock: pathlib.Path) -> None:
        shutil.rmtree(self.folder / "node_modules", ignore_errors=True)
        for path in lock, lock.with_name("package.json"):
            shutil.copy(path, self.folder / path.name)
        with self.lab.progress.stage(
            "fetching the hub's proxy from npm", "3 to 10 s"
        ) as stage:
            command = ["npm", "ci", "--no-audit", "--no-fund"]
            run_logged(stage, command, self.lab.log("npm"), cwd=self.folder)
            shutil.copy(lock, self.folder / "node_modules/.this")

    # ---- start and stop

    def sweep(self) -> None:
        """Removes what a power cut left, since others may have its process IDs now."""
        (self.folder / "proxy.pid").unlink(missing_ok=True)
        occupied = self.occupied()
        for vm in self.students.glob("*/vm"):
            if vm.parent.name not in occupied:
                shutil.rmtree(vm)

    def start(self, port: int) -> None:
        """Starts the hub and waits until it answers."""
        (self.folder / "port").write_text(f"{port}\n")
        variables = {
            "CLASSROOM_STATE": str(self.folder),
            "CLASSROOM_PORT": str(port),
            "LAB_DIR": str(self.lab.settings.state),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(self.project),
        }
        # The hub ends its children with SIGINT, which they would ignore if we do.
        words = ["env", "--default-signal=INT", f"{self.venv}/bin/python"]
        words += ["-m", "jupyterhub", "-f"]
        words += [str(self.project / "classroom/jupyterhub_config.py")]
        with self.lab.progress.stage("starting the hub", "3 to 10 s"):
            process = start_server(
                words, self.log, cwd=self.folder, variables=variables
            )
            (self.folder / "pid").write_text(f"{process.pid}\n")
            self.wait(process, port)

    def wait(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_LIMIT
        while not answers(f"http://127.0.0.1:{port}/hub/health"):
            if process.poll() is not None:
                raise LabError("the hub does not start", f"Its log is {self.log}")
            if time.monotonic() > deadline:
                raise LabError(
                    "the hub runs, but does not answer", f"Its log is {self.log}"
                )
            time.sleep(0.2)

    def stop(self) -> None:
        """Has the hub stop all VMs, then itself."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: self.pid() is None, STOP_LIMIT)
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)  # whatever it started ends with it
        if not wait_until(lambda: not self.occupied(), 20):
            raise LabError(f"these VMs did not stop: {' '.join(self.occupied())}")
        (self.folder / "pid").unlink(missing_ok=True)


def wait_until(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except (urllib.error.URLError, OSError):
        return False
    return True


def vm_memory(pid_file: pathlib.Path) -> int | None:
    """Returns the memory in MB of the QEMU with this pid file, if it runs."""
    try:
        number = int(pid_file.read_text())
        words = pathlib.Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        status = pathlib.Path(f"/proc/{number}/status").read_text()
    except (OSError, ValueError):
        return None
    if os.fsencode(pid_file) not in words:
        return None
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) >> 10
    return None
