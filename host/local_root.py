"""The part of LAB=local that needs root: Python packages, root filesystems, JupyterLab.

`python3 host local-root JOB DIRECTORY` makes what is missing, and leaves the rest
alone. It installs Debian packages, but changes no service, user or setting of the
machine.
"""

from __future__ import annotations

import filecmp
import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence

from host.errors import LabError
from host.machine import secret
from host.packages import INSTALL, UPDATE
from host.processes import quote, start_server
from host.settings import PROJECT

PACKAGES = """
    python3 python3-venv iproute2 iputils-ping nftables procps psmisc util-linux acl
    busybox-static mmdebstrap debian-archive-keyring crun runc bubblewrap stress-ng strace
""".split()
REQUIREMENTS = PROJECT / "vagrant/requirements.txt"
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+/lab")
START_LIMIT = 30


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL)


# ---- prepare


def prepare(folder: pathlib.Path) -> dict[str, object]:
    """Makes everything that LAB=local needs."""
    begin = time.monotonic()

    def say(part: str) -> None:
        print(f"  local {time.monotonic() - begin:3.0f}s  {part}", flush=True)

    folder.mkdir(parents=True, exist_ok=True)
    install_packages(say)
    install_python_packages(folder, say)
    write_guide(folder)
    run("sh", PROJECT / "vagrant/provision.sh", "roots")
    say("done")
    return {}


def installed(names: Sequence[str]) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}\n", *names]
    try:
        done = subprocess.run(query, check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return False
    return done.stdout.split() == ["installed"] * len(names)


def install_packages(say: Callable[[str], None]) -> None:
    if installed(PACKAGES):
        return
    say("Debian packages")
    if shutil.which("apt-get") is None:
        raise LabError(
            "Debian packages are missing, and there is no apt-get to install them",
            f"Install them, by their Debian names: {' '.join(PACKAGES)}",
        )
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run(*UPDATE)
    run(*INSTALL, *PACKAGES)


def install_python_packages(folder: pathlib.Path, say: Callable[[str], None]) -> None:
    done = folder / "requirements.txt"
    if done.exists() and filecmp.cmp(REQUIREMENTS, done, shallow=False):
        return
    say("Python packages")
    python = folder / "venv/bin/python"
    if not python.exists():
        run("/usr/bin/python3", "-m", "venv", folder / "venv")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run(*pip, "--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS)
    shutil.copy(REQUIREMENTS, done)


def write_guide(folder: pathlib.Path) -> None:
    """Writes the command `workshop`, which has the same name in the VM. The guide and the
    notebooks import the project from where it is."""
    (site,) = (folder / "venv/lib").glob("python3*/site-packages")
    (site / "workshop.pth").write_text(f"{PROJECT}\n{PROJECT / 'steps'}\n")
    pycache = quote([f"{folder}/pycache"])
    python = quote([f"{folder}/venv/bin/python"])
    guide = folder / "bin/workshop"
    guide.parent.mkdir(exist_ok=True)
    guide.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPYCACHEPREFIX={pycache}\n"
        f'exec {python} -P -m workshop "$@"\n'
    )
    guide.chmod(0o755)


# ---- JupyterLab: for this machine only, with a token that only root can read


def pid(folder: pathlib.Path) -> int | None:
    """Returns JupyterLab's process ID, if it is running."""
    try:
        number = int((folder / "pid").read_text())
        words = pathlib.Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return number if b"jupyterlab" in words else None


def start(folder: pathlib.Path) -> dict[str, object]:
    """Starts JupyterLab, unless it is running."""
    if pid(folder) is not None:
        return {}
    token = folder / "token"
    if not token.exists() or not token.stat().st_size:
        secret(token, secrets.token_hex(24))
    variables = {
        "JUPYTER_TOKEN": token.read_text(),
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "PYTHONPYCACHEPREFIX": f"{folder}/pycache",
        "JUPYTER_RUNTIME_DIR": f"{folder}/runtime",
    }
    words = [f"{folder}/venv/bin/python", "-P", "-m", "jupyterlab", "--allow-root"]
    words += ["--no-browser", "--ServerApp.ip=127.0.0.1", "--ServerApp.port=8888"]
    log = folder / "jupyter.log"
    process = start_server(words, log, cwd=PROJECT, variables=variables)
    secret(folder / "pid", f"{process.pid}\n")
    return {}


def running(folder: pathlib.Path) -> dict[str, object]:
    return {"running": pid(folder) is not None}


def address(folder: pathlib.Path) -> dict[str, object]:
    """Returns JupyterLab's address with its token; empty if it does not start."""
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and pid(folder) is not None:
        found = ADDRESS.findall((folder / "jupyter.log").read_text(errors="replace"))
        if found:
            token = (folder / "token").read_text()
            return {"address": f"{found[-1]}?token={token}"}
        time.sleep(0.2)
    return {"address": ""}


def stop(folder: pathlib.Path) -> dict[str, object]:
    """Stops JupyterLab, with SIGKILL if SIGTERM is not enough."""
    for number, limit in (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0):
        process = pid(folder)
        if process is None:
            break
        os.kill(process, number)
        deadline = time.monotonic() + limit
        while pid(folder) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
    return {}


JOBS = {
    "prepare": prepare,
    "start": start,
    "running": running,
    "address": address,
    "stop": stop,
}
