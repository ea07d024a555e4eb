"""Frozen VMs and the copies that resume from them: their files, and that nothing is left."""

import contextlib
import threading

import pytest
from host import frozen, grading
from host.commands import grade
from host.errors import LabError
from host.machine import Machine
from host.qemu_argv import Hardware, Spec
from host.settings import ARCHS


@pytest.fixture
def vm(lab, tmp_path, monkeypatch):
    """A frozen VM, with files as freezing leaves them; QEMU and ssh do nothing."""
    folder = tmp_path / "lab/test.1/0"
    (folder / "guest").mkdir(parents=True)
    for name in "state", "disk.qcow2", "key", "known_hosts", "guest/token":
        (folder / name).write_text(name)
    hardware = Hardware(ARCHS["amd64"], "tcg", 2048, lab.settings.image)
    monkeypatch.setattr(lab, "need_memory", lambda megabytes: None)
    monkeypatch.setattr(Machine, "start", lambda self: None)
    monkeypatch.setattr(Machine, "wait", lambda self: None)
    return Machine(lab, folder, hardware, Spec(share=tmp_path))


def test_copy_resumes_from_the_state_and_changes_neither_disk_nor_keys(vm):
    alive = []
    with frozen.resumed(vm, vm.folder.with_name("grade0"), alive) as copy:
        assert alive == [copy]
        assert copy.spec.resumes == vm.folder / "state" and copy.spec.snapshot
        assert (copy.folder / "disk.qcow2").resolve() == vm.folder / "disk.qcow2"
        assert (copy.folder / "guest/token").read_text() == "guest/token"
    assert not alive and not copy.folder.exists()
    assert (vm.folder / "disk.qcow2").read_text() == "disk.qcow2"


def test_copy_that_does_not_start_leaves_nothing(vm, monkeypatch):
    def start(self):
        raise LabError("QEMU does not start")

    monkeypatch.setattr(Machine, "start", start)
    alive = []
    with pytest.raises(LabError), frozen.resumed(vm, vm.folder / "grade0", alive):
        pass
    assert not alive and not (vm.folder / "grade0").exists()


# ---- a whole run


class Options:
    upto, jobs, minutes = "7", 2, 20.0

    def __init__(self, out):
        self.out = out
        out.mkdir()


@pytest.fixture
def work(lab, vm, tmp_path):
    found = {}
    for name in "ada", "bob", "eve":
        found[name] = tmp_path / f"{name}.py"
        found[name].write_text(name)
    return grade.Grading(lab, found, Options(tmp_path / "out"))


def said(name):
    passed = '"passed": ["00"], "wrong": null'
    return (
        f'{{"steps": {{"00": [5, 5]}}, {passed}}}\n'.encode() if name != "eve" else b""
    )


def test_each_submission_gets_its_own_grade(work, vm, monkeypatch):
    monkeypatch.setattr(
        work, "ask", lambda machine, path: (said(path.stem), "its VM stopped")
    )
    work.grade_all(vm)
    passed = {name: grade.passed for name, grade in work.grades.items()}
    assert passed == {"ada": ["00"], "bob": ["00"], "eve": []}
    assert work.grades["eve"].wrong == "its VM stopped"
    shown = work.lab.progress.stream.getvalue()
    assert "eve                      0 passed   its VM stopped\n" in shown
    again = grade.Grading(work.lab, work.found, work.options)
    assert again.grades == work.grades and not again.waiting


def test_changed_submission_is_graded_again(work, vm, monkeypatch):
    monkeypatch.setattr(work, "ask", lambda machine, path: (said(path.stem), ""))
    work.grade_all(vm)
    work.found["ada"].write_text("changed")
    again = grade.Grading(work.lab, work.found, work.options)
    assert list(again.waiting) == ["ada"]


def test_vm_that_does_not_start_gives_no_grade(work, vm, monkeypatch):
    def ask(machine, path):
        raise LabError("the VM stopped before it was ready")

    monkeypatch.setattr(work, "ask", ask)
    with pytest.raises(LabError, match=r"\.py could not be graded: the VM stopped"):
        work.grade_all(vm)
    assert not list(work.options.out.iterdir())


def test_interrupted_run_ends_its_vms_and_keeps_its_grades(work, vm, monkeypatch):
    killed, waiting = [], threading.Event()

    def ask(machine, path):
        if path.stem == "ada":
            return said("ada"), ""
        waiting.wait(20)
        return b"", "killed"

    def kill(machine):
        if threading.current_thread() is threading.main_thread():
            killed.append(machine)
            waiting.set()

    def show(name, stage):
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "ask", ask)
    monkeypatch.setattr(work, "show", show)
    monkeypatch.setattr(Machine, "kill", kill)
    with contextlib.suppress(KeyboardInterrupt):
        work.grade_all(vm)
    assert killed and [path.name for path in work.options.out.iterdir()] == ["ada.json"]
    assert grading.known_grade(work.file("ada"), grading.digest(work.found["ada"]), "7")
