"""The dev container of Codespaces and VS Code, as far as one can tell without them."""

import json
import shlex

from pages import PROJECT

from host import settings
from host.dispatch import COMMANDS
from host.providers import local

FILE = json.loads((PROJECT / ".devcontainer/devcontainer.json").read_text())


def test_lab_needs_no_vm_there():
    assert settings.read(FILE["containerEnv"]).way == local.Local.name


def test_command_at_its_start_is_one_of_the_lab():
    program, word = shlex.split(FILE["postStartCommand"])
    assert (PROJECT / program).exists() and word in COMMANDS


def test_images_and_layers_are_on_a_volume():
    """A dev container's own files are on overlayfs, on which steps 05 to 07 cannot run."""
    from workshop.project import STATE

    (mount,) = FILE["mounts"]
    assert mount["type"] == "volume" and mount["target"] == str(STATE)
