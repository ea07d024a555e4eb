"""What the tests of host/ have in common. They need no root, no VM and no network."""

from __future__ import annotations

import io
import pathlib
import sys

import pytest

PROJECT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(PROJECT))

from host import settings
from host.lab import Lab
from host.progress import Progress


@pytest.fixture(autouse=True)
def not_logged(monkeypatch):
    """There is no VM here, so a command in these tests does not count as run: see
    tests/documented.py."""
    monkeypatch.delenv("LAB_COMMANDS", raising=False)


@pytest.fixture
def make_lab(tmp_path, monkeypatch):
    """Makes a Lab with these settings, in a directory of the test's own."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")

    def make(**environment):
        variables = {"LAB_DIR": str(tmp_path / "lab"), **environment}
        lab = Lab(settings.read(variables), Progress(io.StringIO()))
        lab.prepare_state()
        return lab

    return make


@pytest.fixture
def lab(make_lab):
    return make_lab()
