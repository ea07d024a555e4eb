"""Settings: what the environment says, and what is refused."""

import pathlib

import pytest

from host import settings
from host.errors import LabError


def test_defaults():
    found = settings.read({})
    assert found.state == settings.PROJECT / ".lab"
    assert (found.way, found.mirror, found.memory, found.cpus) == (None, "", None, None)
    assert found.megabytes == 2048 and found.suite == "trixie"


def test_everything_can_be_set():
    found = settings.read(
        {
            "LAB": "local",
            "LAB_DIR": "/state",
            "LAB_MIRROR": "http://mirror",
            "LAB_MEMORY": "4096",
            "LAB_CPUS": "3",
            "LAB_ARCH": "arm64",
            "LAB_SUITE": "bookworm",
        }
    )
    assert found.way == "local" and found.state == pathlib.Path("/state")
    assert (found.megabytes, found.cpus) == (4096, 3)
    assert found.arch.qemu == "qemu-system-aarch64"
    assert found.suite == "bookworm"


def test_directory_is_relative_to_the_working_directory(tmp_path):
    found = settings.read({"LAB_DIR": "a/b"}, cwd=tmp_path)
    assert found.state == tmp_path / "a/b"


def test_empty_setting_counts_as_not_set():
    names = ["LAB", "LAB_DIR", "LAB_MEMORY", "LAB_CPUS", "LAB_ARCH", "LAB_SUITE"]
    assert settings.read(dict.fromkeys(names, "")) == settings.read({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LAB", "docker"),
        ("LAB_MEMORY", "2G"),
        ("LAB_MEMORY", "-1"),
        ("LAB_MEMORY", "0"),
        ("LAB_CPUS", "many"),
        ("LAB_CPUS", "²"),
    ],
)
def test_wrong_value_is_refused_and_its_setting_named(name, value):
    with pytest.raises(LabError, match=f"{name} is '{value}', but must be"):
        settings.read({name: value})


@pytest.mark.parametrize(
    ("uname", "arch"), [("x86_64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64")]
)
def test_processors_have_their_debian_names(uname, arch, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: uname)
    assert settings.read({}).arch.name == arch


def test_other_processor_is_emulated(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert settings.read({"LAB_ARCH": "arm64"}).is_emulated
    assert not settings.read({}).is_emulated


def test_unknown_processor_is_an_error_when_it_is_needed(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    found = settings.read({"LAB": "local"})
    with pytest.raises(LabError, match="this one is riscv64"):
        _ = found.arch
