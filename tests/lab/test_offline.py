"""The lab from a USB stick, without a network.

The test unpacks the project from the stick, as a learner would. The lab starts in a network
namespace that has only a loopback interface, so there is no route to anywhere.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import driver
import pytest

Run = Callable[..., str]
pytestmark = [pytest.mark.timeout(1200), pytest.mark.in_order]


@pytest.fixture(scope="module")
def inside(stick: Path, place: Path) -> Iterator[driver.Namespaces]:
    """Namespaces without a network, in which the stick is mounted read-only."""
    with driver.namespaces("net", "mount", "pid") as inside:
        (place / "usb stick").mkdir()
        inside.run("mount", "--bind", "-o", "ro", stick, place / "usb stick")
        yield inside


@pytest.fixture(scope="module")
def usb(place: Path) -> Path:
    return place / "usb stick"


@pytest.fixture(scope="module")
def lab(inside: driver.Namespaces, place: Path) -> Run:
    """`./lab` of the project on the stick, with nothing in its environment."""

    def lab(*words: driver.Word) -> str:
        unset = ["env", "-u", "LAB_DIR", "-u", "LAB_MIRROR", "-u", "LAB"]
        folder = place / "container-workshop"
        return inside.run(*unset, "./lab", *words, cwd=folder, timeout=400).stdout

    return lab


def test_there_is_no_network(inside: driver.Namespaces) -> None:
    routes = ["ip", "route", "show", "table", "all", "type", "unicast"]
    assert not inside.run(*routes).stdout
    ping = inside.run("ping", "-c", "1", "-W", "1", "192.0.2.1", ok=None)
    assert ping.returncode != 0


def test_checksums_of_the_stick_match(inside: driver.Namespaces, usb: Path) -> None:
    inside.run("sha256sum", "--quiet", "-c", "SHA256SUMS", cwd=usb)


def test_project_can_be_unpacked_from_the_stick(
    inside: driver.Namespaces, usb: Path, place: Path
) -> None:
    inside.run("tar", "-xzf", usb / "project.tar.gz", "-C", place)
    assert (place / "container-workshop/lab").exists()


def test_lab_comes_up_from_the_stick(lab: Run, usb: Path) -> None:
    screen = lab("up", "--from", usb)
    assert "One kernel, two views" in screen
    assert re.search("http://127.0.0.1:[0-9]*/lab.*token=", screen)


def test_lab_keeps_working_when_the_stick_is_gone(
    lab: Run, inside: driver.Namespaces, usb: Path
) -> None:
    inside.run("umount", usb)
    lab("ssh", "--", "true")


def test_destroy_ends_the_vm(lab: Run, place: Path) -> None:
    assert driver.processes_with(place / "container-workshop/.lab/vm")
    lab("destroy")
    assert not driver.processes_with(place / "container-workshop/.lab/vm")
