"""`./lab doctor`, on machines made of canned answers."""

import pathlib
import re

import pytest

from host.doctor_rows import at_least
from host.commands.doctor import report
from host.doctor_probes import Probe
from host.settings import ARCHS

TOOLS = "qemu-system-x86_64 qemu-img mmdebstrap mkfs.ext4 ssh setpriv sudo apt-get"


class Machine(Probe):
    """A machine with everything that plain QEMU needs, except what the arguments change."""

    def __init__(self, without=(), commands=None, **facts):
        self.programs = set(TOOLS.split()) - set(without)
        self.commands = commands or {}
        self.programs |= {command.split()[0] for command in self.commands}
        self.facts = {
            "system": "Linux",
            "processor": "x86_64",
            "arch": ARCHS["amd64"],
            "release": "6.1.0",
            "is_root": False,
            "state": pathlib.Path("/home/ada/.lab"),
            "has_image": False,
            "free_disk": 50000,
            "free_memory": 8000,
            "is_running": False,
            "kvm_usable": False,
            "accelerator": None,
            "libvirt_answers": False,
        }
        self.facts.update(facts)
        for name in self.facts:
            setattr(self, name, lambda name=name: self.facts[name])

    def has(self, program):
        return program in self.programs

    def output(self, *command):
        return self.commands.get(" ".join(command), "")


def vagrant(version, plugins=""):
    return {
        "vagrant --version": f"Vagrant {version}\n",
        "vagrant plugin list": plugins,
    }


def row(text, what):
    """Returns the mark of a row, and what to type: the line below it, or ""."""
    lines = text.splitlines() + [""]
    number = next(n for n, line in enumerate(lines) if line[6:].startswith(what + " "))
    below = lines[number + 1].strip()
    return lines[number].split()[0], below if below.startswith("type: ") else ""


def test_machine_with_everything():
    text, status = report(Machine(), "qemu")
    assert status == 0, text
    assert row(text, "mmdebstrap") == ("ok", "")
    assert text.endswith("Nothing is missing. Type: ./lab up")


def test_each_missing_tool_is_named_with_what_to_type():
    text, status = report(Machine(without=["qemu-img", "mmdebstrap"]), "qemu")
    assert status == 1
    assert row(text, "qemu-img")[0] == "NO"
    assert "apt-get install qemu-utils" in row(text, "qemu-img")[1]
    assert "apt-get install mmdebstrap" in row(text, "mmdebstrap")[1]
    assert "Missing: 2, marked NO above." in text


def test_without_apt_the_debian_package_is_named():
    text, status = report(Machine(without=["qemu-img", "apt-get"]), "qemu")
    assert status == 1 and "Debian's name for it is qemu-utils" in text


@pytest.mark.parametrize(
    ("facts", "without", "mark", "found"),
    [
        ({"is_root": True}, ["sudo"], "ok", "you are"),
        ({}, [], "ok", "by sudo"),
        ({}, ["sudo"], "NO", "there is no sudo"),
    ],
)
def test_root_comes_from_sudo_or_is_missing(facts, without, mark, found):
    text, _ = report(Machine(without=without, **facts), "qemu")
    assert row(text, "root")[0] == mark
    assert re.search(rf"root .*{found}", text)


def test_too_little_disk_and_memory():
    text, status = report(Machine(free_disk=3000, free_memory=1000), "qemu")
    assert status == 1
    assert row(text, "disk") == (
        "NO",
        "type: df -h /home/ada/.lab   # and make room there",
    )
    assert row(text, "memory")[0] == "NO"


def test_less_disk_is_needed_if_there_is_an_image():
    text, status = report(Machine(free_disk=1200, has_image=True), "qemu")
    assert status == 0 and row(text, "disk")[0] == "ok"


def test_memory_is_not_checked_while_the_lab_runs():
    text, status = report(Machine(free_memory=100, is_running=True), "qemu")
    assert status == 0 and "memory" not in text


@pytest.mark.parametrize(
    ("facts", "mark", "found"),
    [
        ({"accelerator": ("kvm", "")}, "ok", "KVM works"),
        ({"accelerator": ("tcg", "no VM runs")}, "slow", "is emulated: no VM runs"),
        ({"kvm_usable": True}, "ok", "./lab up tries it"),
        ({}, "slow", "no /dev/kvm that you may use"),
        ({"arch": ARCHS["arm64"]}, "slow", "not tried"),
    ],
)
def test_virtualization(facts, mark, found):
    text, _ = report(Machine(**facts), "qemu")
    assert row(text, "virtualization")[0] == mark and found in text


def test_other_ways_are_shown_but_do_not_change_the_status():
    text, status = report(Machine(), "qemu")
    assert status == 0
    assert "The other way, LAB=vagrant, is not needed:" in text
    assert row(text, "Vagrant")[0] == "NO"


def test_local_needs_neither_qemu_nor_ssh():
    machine = Machine(
        without=["qemu-img", "ssh", "qemu-system-x86_64"], commands={"python3 -V": ""}
    )
    text, status = report(machine, "local")
    assert status == 0, text
    assert "kernel" in text.partition("The other way")[0]


def test_unknown_processor():
    text, status = report(Machine(processor="riscv64"), "vagrant")
    assert status == 1 and row(text, "processor")[0] == "NO"


# ---- Vagrant


def test_no_vagrant():
    text, status = report(Machine(), "vagrant")
    assert status == 1
    assert row(text, "Vagrant") == (
        "NO",
        "type: see https://developer.hashicorp.com/vagrant/install",
    )


@pytest.mark.parametrize(
    ("version", "virtualbox", "mark"),
    [
        ("2.4.1", "7.1.4r165100", "NO"),
        ("2.4.2", "7.1.4r165100", "ok"),
        ("2.4.2", "7.2.0r170000", "NO"),
        ("2.4.9", "7.2.0r170000", "ok"),
        ("2.3.4", "6.1.0", "ok"),
    ],
)
def test_virtualbox_newer_than_vagrant_knows(version, virtualbox, mark):
    commands = vagrant(version) | {"VBoxManage --version": virtualbox}
    text, status = report(Machine(commands=commands), "vagrant")
    assert row(text, "VirtualBox")[0] == "ok"
    assert row(text, "Vagrant for it")[0] == mark
    assert status == (mark == "NO")


@pytest.mark.parametrize(("virtualbox", "mark"), [("7.0.20", "NO"), ("7.1.6", "ok")])
def test_virtualbox_on_apple_silicon(virtualbox, mark):
    commands = vagrant("2.4.9") | {"VBoxManage --version": virtualbox}
    mac = Machine(commands=commands, system="Darwin", processor="arm64")
    text, status = report(mac, "vagrant")
    assert text.startswith("The lab here: vagrant\n")
    assert row(text, "VirtualBox")[0] == mark and status == (mark == "NO")
    assert row(text, "system")[0] == "NO"  # QEMU, which is not needed


def test_plugin_that_is_missing():
    commands = vagrant("2.4.9") | {"prlctl": ""}
    text, status = report(Machine(commands=commands), "vagrant")
    assert status == 1
    expected = ("NO", "type: vagrant plugin install vagrant-parallels")
    assert row(text, "Parallels") == expected


@pytest.mark.parametrize(("version", "mark"), [("0.10.8", "NO"), ("0.11.2", "ok")])
def test_plugin_that_is_too_old(version, mark):
    commands = vagrant("2.4.9", f"vagrant-libvirt ({version}, global)\n")
    machine = Machine(commands=commands | {"virsh": ""}, libvirt_answers=True)
    text, status = report(machine, "vagrant")
    assert row(text, "libvirt, vagrant-libvirt")[0] == mark
    assert row(text, "libvirtd")[0] == "ok" and status == (mark == "NO")


def test_libvirt_that_does_not_answer():
    commands = vagrant("2.4.9", "vagrant-libvirt (0.11.2, system)\n") | {"virsh": ""}
    text, status = report(Machine(commands=commands), "vagrant")
    assert status == 1 and "usermod -aG libvirt" in row(text, "libvirtd")[1]


def test_vagrant_without_a_provider():
    text, status = report(Machine(commands=vagrant("2.4.9")), "vagrant")
    assert status == 1
    assert row(text, "provider")[0] == "NO"


@pytest.mark.parametrize(
    ("have", "need", "holds"),
    [
        ("2.4.9", "2.4.10", False),
        ("2.4.10", "2.4.9", True),
        ("2.4", "2.4.0", True),
        ("2.4.0", "2.4", True),
        ("3", "2.99", True),
        ("", "1", False),
    ],
)
def test_versions_are_compared_by_number(have, need, holds):
    assert at_least(have, need) == holds


def test_colours_are_for_terminals():
    assert "\033[1;32mok  \033[0m" in report(Machine(), "qemu", colour=True)[0]
    assert "\033" not in report(Machine(), "qemu")[0]
