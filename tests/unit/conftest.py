"""The first rung: nothing here needs root, a VM, a container or a network, and nothing is
written outside a test's own directory. `python3 -m pytest tests/unit`"""

import pytest
from people import learner_with

from workshop import containers, images, layers, oci, origins


@pytest.fixture(scope="session", autouse=True)
def ip_netns_has_been_used():
    """Replaces the fixture of this name, which only the other tests need."""


@pytest.fixture(name="learner")
def learner_fixture(tmp_path):
    with learner_with(tmp_path / "my") as one:
        yield one


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty place for images and layers, instead of the machine's. Returns its path."""
    place = tmp_path / "store"
    for name in "images", "layers", "containers", "origins":
        (place / name).mkdir(parents=True)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(images, "IMAGES", place / "images")
    monkeypatch.setattr(layers, "LAYERS", place / "layers")
    monkeypatch.setattr(containers, "CONTAINERS", place / "containers")
    monkeypatch.setattr(origins, "ORIGINS", place / "origins")
    monkeypatch.setattr(oci, "BLOBS", place / "blobs")
    return place
