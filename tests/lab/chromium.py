"""Debian's Chromium, without a window, for the tests of what people see in a browser."""

import os
import pathlib
import shutil
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parents[2]
VENV = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab") / "browser"
# As new as Debian's Chromium, which changes its protocol now and then.
PLAYWRIGHT = "playwright==1.65.2"


def prepare():
    """Installs what is missing, and goes on with the Python that has playwright."""
    missing = [] if shutil.which("chromium") else ["chromium"]
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        missing.append("python3-venv")
    if missing:
        quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
        subprocess.run(["apt-get", "update", "-q"], check=True, env=quiet)
        subprocess.run([*install, *missing], check=True, env=quiet)
    python = VENV / "bin/python"
    if not (VENV / PLAYWRIGHT).exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, PLAYWRIGHT], check=True)
        (VENV / PLAYWRIGHT).touch()
    if pathlib.Path(sys.prefix) != VENV:
        os.execv(python, [python, *sys.argv])


def launch(playwright):
    """A browser; close() ends it."""
    return playwright.chromium.launch(executable_path=shutil.which("chromium"))
