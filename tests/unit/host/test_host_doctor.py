"""`./lab doctor`, on machines made of canned answers."""

import os
import pathlib
import re

import pytest

from host.doctor_rows import at_least
from host.commands.doctor import report
from host.doctor_probes import Probe
from host.providers import choose
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
            "keeps_modes": True,
            "mount_flags": [],
            "qemu_lacks": [],
            "build_problem": "",
            "steps_problem": "",
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


@pytest.mark.parametrize(
    ("facts", "what", "found"),
    [
        ({"keeps_modes": False}, "LAB_DIR", "lets everyone read the VM's keys"),
        ({"mount_flags": ["nodev"]}, "LAB_DIR", "is mounted nodev: no place"),
        (
            {"qemu_lacks": ["virtio-9p", "user networking"]},
            "qemu-system-x86_64",
            "built without virtio-9p and user networking",
        ),
        (
            {"is_root": True, "build_problem": "unshare failed: not permitted"},
            "namespaces",
            "to build the image in: unshare failed: not permitted",
        ),
    ],
)
def test_what_would_make_up_fail_is_named_with_what_to_type(facts, what, found):
    text, status = report(Machine(**facts), "qemu")
    assert status == 1 and found in text, text
    line, below = next(
        (line, below)
        for line, below in zip(text.splitlines(), text.splitlines()[1:], strict=False)
        if line.startswith("NO") and line[6:].startswith(what)
    )
    assert found in line and "type: " in below


def test_image_that_exists_needs_no_place_to_be_built_in():
    facts = {"mount_flags": ["nodev"], "build_problem": "x", "is_root": True}
    text, status = report(Machine(has_image=True, **facts), "qemu")
    assert status == 0, text


@pytest.mark.parametrize(
    ("facts", "mark", "found"),
    [
        ({"is_root": True}, "ok", "6.1.0 can run the steps"),
        ({}, "ok", "sudo ./lab doctor tries what the steps need"),
        (
            {"is_root": True, "steps_problem": "on overlayfs"},
            "NO",
            "6.1.0: on overlayfs",
        ),
    ],
)
def test_kernel_without_a_vm_is_tried_by_root(facts, mark, found):
    text, status = report(Machine(commands={"python3": ""}, **facts), "local")
    assert row(text, "kernel")[0] == mark and found in text, text
    assert status == (mark == "NO")


# ---- this machine's own answers


@pytest.fixture
def probe(lab):
    return Probe(lab, choose.provider(lab, "qemu"))


def test_private_file_is_tried_in_the_labs_directory(probe, monkeypatch):
    assert probe.keeps_modes()
    monkeypatch.setattr(os, "chmod", lambda path, mode: None)  # as on FAT
    real = os.stat

    def everyone(path, **options):
        values = list(real(path, **options))
        values[0] |= 0o777
        return os.stat_result(values)

    monkeypatch.setattr(os, "stat", everyone)
    assert not probe.keeps_modes()
    assert not [path for path in probe.state().iterdir() if path.is_file()]


def test_mount_flags_are_those_of_the_labs_directory(probe, monkeypatch):
    class Answer:
        f_flag = os.ST_NODEV | os.ST_NOEXEC | os.ST_NOSUID

    monkeypatch.setattr(os, "statvfs", lambda path: path == probe.state() and Answer)
    assert probe.mount_flags() == ["nodev", "noexec"]


@pytest.mark.parametrize(
    ("devices", "networks", "lacks"),
    [
        ('name "virtio-9p-pci", bus PCI', "socket\nuser\ntap", []),
        ('name "virtio-net-pci"', "user", ["virtio-9p"]),
        ('name "virtio-9p-pci"', "vhost-user\n", ["user networking"]),
        ('name "virtio-9p-pci"', "socket\ntap\n", ["user networking"]),
        ("", "", ["virtio-9p", "user networking"]),
    ],
)
def test_qemu_is_asked_what_it_has(probe, monkeypatch, devices, networks, lacks):
    answers = {"-device": devices, "-netdev": networks}
    monkeypatch.setattr(probe, "output", lambda qemu, option, _: answers[option])
    assert probe.qemu_lacks() == lacks


def test_device_that_cannot_be_opened_is_not_usable(probe, monkeypatch, tmp_path):
    monkeypatch.setattr("host.accel.KVM", tmp_path / "kvm")
    assert not probe.kvm_usable()
    (tmp_path / "kvm").touch()
    assert probe.kvm_usable()
    (tmp_path / "kvm").unlink()
    (tmp_path / "kvm").symlink_to("/proc/self")  # a directory cannot be written
    assert not probe.kvm_usable()


def test_guide_that_is_installed_says_which_steps_can_run(probe):
    doctor = probe.state() / "local/bin/workshop"
    doctor.parent.mkdir(parents=True)
    for status, problem in (1, "These steps cannot run here: 07."), (0, ""):
        lines = "a table\nThese steps cannot run here: 07.\nThe other steps work."
        doctor.write_text(f"#!/bin/sh\necho '{lines}'\nexit {status}\n")
        doctor.chmod(0o755)
        assert probe.steps_problem() == problem


def test_without_the_guide_the_filesystem_of_the_images_is_named(probe, monkeypatch):
    monkeypatch.setattr(probe, "output", lambda *command: "overlayfs\n")
    assert "is on overlayfs: steps 05 to 07 need" in probe.steps_problem()
    monkeypatch.setattr(probe, "output", lambda *command: "ext2/ext3\n")
    tried = []
    monkeypatch.setattr(probe, "problem", lambda *words: tried.append(words) or "no")
    assert probe.steps_problem() == "no" and "--user" in tried[0]


@pytest.mark.parametrize(
    ("script", "problem"),
    [("true", ""), ("exit 3", "exit status 3"), ("echo a; echo b >&2; false", "a")],
)
def test_problem_is_the_first_line_of_a_command_that_fails(probe, script, problem):
    assert probe.problem("sh", "-c", script) == problem
    assert "No such file" in probe.problem("/nosuch")


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
