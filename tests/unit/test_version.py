"""The project's version has one place, workshop/__init__.py, and pins of the same tool agree."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from workshop import __version__

PROJECT = Path(__file__).resolve().parents[2]


def printed(*command: str) -> str:
    done = subprocess.run(
        command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_workshop_prints_its_version() -> None:
    line = printed(sys.executable, "-m", "workshop", "--version")
    assert line == f"workshop {__version__}\n"


def test_lab_prints_the_same_version() -> None:
    assert printed("./lab", "--version") == f"lab {__version__}\n"


def test_changelog_begins_with_this_version() -> None:
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    found = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog, re.MULTILINE)
    assert found[0] == __version__


def test_static_checks_use_the_ruff_of_the_lab() -> None:
    """Steps are counted as ruff formats them: two versions could disagree."""
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    pins = pyproject["dependency-groups"]["static"]
    lab = (PROJECT / "vagrant/requirements.txt").read_text()
    found = re.findall(r"^(ruff==\S+)", lab, re.MULTILINE)
    assert len(found) == 1 and found[0] in pins
