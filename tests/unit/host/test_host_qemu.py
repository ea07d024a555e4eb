"""Plain QEMU: disks, VMs that are thrown away, and virtualization. QEMU itself
is replaced by functions that do nothing."""

import dataclasses
import pathlib

import pytest

from host import accel, machine, packages
from host.machine import Machine
from host.ports import free_port
from host.providers.qemu import Qemu, jupyter_answers


@pytest.fixture
def provider(make_lab, monkeypatch, tmp_path):
    lab = make_lab(LAB="qemu")
    # A VM's start creates my/ in the project, and the checkout may be read-only.
    lab.settings = dataclasses.replace(lab.settings, project=tmp_path)
    image = lab.settings.image
    image.mkdir()
    (image / "inputs").write_text("first\n")
    (image / "megabytes").write_text("1454\n")
    monkeypatch.setattr(
        machine, "new_disk", lambda image, disk: disk.write_text(disk.name)
    )
    return Qemu(lab)


def said(provider):
    return provider.lab.progress.stream.getvalue()


# ---- the lab's disk


def test_disk_is_made_once(provider):
    provider.folder.mkdir()
    provider.make_disk()
    disk = provider.folder / "disk.qcow2"
    disk.write_text("what the learner changed")
    provider.make_disk()
    assert disk.read_text() == "what the learner changed"


def test_new_image_gets_a_new_disk_which_is_reported(provider):
    provider.folder.mkdir()
    provider.make_disk()
    (provider.folder / "disk.qcow2").write_text("above the old image")
    (provider.image.folder / "inputs").write_text("second\n")
    provider.make_disk()
    assert (provider.folder / "disk.qcow2").read_text() != "above the old image"
    assert "the image is new" in said(provider)


def test_disk_that_was_interrupted_is_made_again(provider, monkeypatch):
    def interrupted(image, disk):
        disk.write_text("half")
        raise KeyboardInterrupt

    provider.folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(machine, "new_disk", interrupted)
        with pytest.raises(KeyboardInterrupt):
            provider.make_disk()
    assert not (provider.folder / "disk.qcow2").exists()
    provider.make_disk()
    assert (provider.folder / "disk.qcow2").read_text() != "half"


def test_destroy_keeps_the_image_without_all(provider):
    provider.folder.mkdir()
    provider.make_disk()
    provider.destroy(everything=False)
    assert not provider.folder.exists() and provider.image.folder.exists()
    assert "kept: the image (1454 MB)" in said(provider)
    provider.destroy(everything=True)
    assert not provider.image.folder.exists()


# ---- thrown away


@pytest.fixture
def started(provider, monkeypatch):
    """Has VMs start without QEMU. Returns those that did."""
    vms = []
    monkeypatch.setattr(provider, "prepare", lambda: "tcg")
    monkeypatch.setattr(provider.lab, "need_memory", lambda megabytes: None)
    monkeypatch.setattr(Machine, "start", lambda self: vms.append(self))
    monkeypatch.setattr(Machine, "wait", lambda self: None)
    monkeypatch.setattr(Machine, "copy_project", lambda self: None)
    monkeypatch.setattr(
        Machine, "make_secrets", lambda self: self.folder.mkdir(mode=0o700)
    )
    return vms


def test_throwaway_reaches_nothing_and_changes_nothing(provider, started):
    with provider.throwaway() as vm:
        assert started == [vm]
        assert vm.spec.restrict and vm.spec.dies_with_us
        assert "readonly=on" in vm.spec.share_options
        assert vm.folder.is_relative_to(provider.lab.settings.state)
        assert vm.folder.exists()
    assert not vm.folder.exists() and not vm.folder.parent.exists()


def test_throwaways_have_a_processor_each(provider, started, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {5, 3})
    with provider.throwaways(2) as vms:
        prefixes = [vm.spec.prefix for vm in vms]
        assert len({vm.folder for vm in vms}) == 2
    assert prefixes == [("taskset", "-c", "3"), ("taskset", "-c", "5")]


def test_failure_leaves_no_throwaway(provider, started, monkeypatch):
    def wait(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(Machine, "wait", wait)
    with pytest.raises(KeyboardInterrupt), provider.throwaways(2):
        pass
    assert not list(provider.lab.settings.state.glob("test.*"))


def test_lock_is_free_while_a_throwaway_lives(provider, started):
    with provider.throwaway(), provider.lab.lock():
        pass
    assert "waiting" not in said(provider)


# ---- virtualization


def test_answer_about_kvm_holds_until_the_machine_restarts(
    provider, monkeypatch, tmp_path
):
    boot = tmp_path / "boot"
    boot.write_text("first\n")
    tries = []
    monkeypatch.setattr(accel, "BOOT_ID", boot)
    monkeypatch.setattr(accel, "try_kvm", lambda lab: tries.append(1) or "no VM runs")
    for _ in range(2):
        assert accel.choose(provider.lab) == ("tcg", "no VM runs")
    assert len(tries) == 1
    boot.write_text("second\n")
    accel.choose(provider.lab)
    assert len(tries) == 2


def test_damaged_answer_is_asked_for_again(provider, monkeypatch):
    monkeypatch.setattr(accel, "try_kvm", lambda lab: "")
    (provider.lab.settings.state / "accel").write_text("\n")
    assert accel.choose(provider.lab) == ("kvm", "")


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ("echo 'lab: this machine works'", ""),
        ("echo 'KVM internal error'; sleep 60", accel.NOTHING_RUNS),
        ("exit 1", accel.NOTHING_RUNS),
    ],
)
def test_kvm_is_tried(provider, monkeypatch, tmp_path, says, reason):
    device = tmp_path / "kvm"
    device.write_text("")
    monkeypatch.setattr(accel, "KVM", device)
    monkeypatch.setattr(accel, "probe_argv", lambda lab: ["sh", "-c", says])
    assert accel.try_kvm(provider.lab) == reason


def test_machine_without_kvm(provider, monkeypatch):
    monkeypatch.setattr(accel, "KVM", pathlib.Path("/no/such/device"))
    assert accel.try_kvm(provider.lab) == accel.NO_DEVICE


def test_kvm_is_not_tried_for_another_processor(make_lab):
    assert accel.choose(make_lab(LAB_ARCH="arm64"))[0] == "tcg"


def test_probe_dies_with_us_and_needs_no_disk(provider):
    words = accel.probe_argv(provider.lab)
    assert words[:3] == ["setpriv", "--pdeathsig", "KILL"]
    assert "-drive" not in words and "lab.probe" in words[words.index("-append") + 1]


# ---- JupyterLab


def test_jupyterlab_does_not_answer_if_nothing_listens():
    assert not jupyter_answers(free_port(0))


def test_packages_are_installed_before_the_image_is_made(make_lab, monkeypatch):
    order = []
    provider = Qemu(make_lab())
    monkeypatch.setattr(packages, "ensure", lambda lab, job: order.append(job))
    monkeypatch.setattr(provider.image, "take", lambda source: order.append("take"))
    monkeypatch.setattr(provider.image, "make", lambda: order.append("make"))
    monkeypatch.setattr(accel, "choose", lambda lab: ("kvm", ""))
    assert provider.prepare(pathlib.Path("/stick")) == "kvm"
    assert order == ["run", "take", "make"]
