"""The image: when it is rebuilt, and builds that are interrupted."""

import dataclasses
import os
import shutil
import subprocess

import pytest

from host import image, packages, processes, sums
from host.errors import LabError
from host.image import Image
from host.settings import PROJECT


class Killed(BaseException):
    pass


@pytest.fixture
def build(lab, monkeypatch):
    """An Image whose build is a function of the test: (directory to fill) -> None."""
    monkeypatch.setattr(packages, "ensure", lambda lab, job: None)
    monkeypatch.setattr(processes, "as_root", list)
    monkeypatch.setattr(processes, "ask_for_root", lambda *_: None)
    monkeypatch.setattr(lab, "free_disk", lambda: 100000)

    def make(fill):
        one = Image(lab, lambda stage, argv, log: fill(one.work))
        return one

    return make


def complete(work):
    shutil.rmtree(work, ignore_errors=True)  # as build.sh begins
    work.mkdir()
    for name in "disk.raw", "vmlinuz", "initrd":
        (work / name).write_text(name)
    (work / "megabytes").write_text("1454\n")


def interrupted(work):
    work.mkdir(exist_ok=True)
    (work / "disk.raw").write_text("half")
    raise Killed


def test_build_appears_when_it_is_complete(build):
    one = build(complete)
    one.make()
    assert one.made_from() == one.inputs() and one.megabytes() == "1454"
    assert not one.work.exists()


def test_up_to_date_image_is_not_rebuilt(build):
    build(complete).make()
    build(interrupted).make()  # would raise


def test_interrupted_build_leaves_the_old_image_and_nothing_else(build):
    one = build(complete)
    one.make()
    (one.folder / "inputs").write_text("older\n")
    with pytest.raises(Killed):
        build(interrupted).make()
    assert (one.folder / "disk.raw").read_text() == "disk.raw"
    assert one.made_from() == "older" and not one.work.exists()
    build(complete).make()
    assert one.made_from() == one.inputs()


def test_build_after_one_that_was_killed_starts_over(build):
    one = build(complete)
    one.work.mkdir()
    (one.work / "disk.raw").write_text("of a killed build")
    one.make()
    assert (one.folder / "disk.raw").read_text() == "disk.raw"


def test_space_that_a_killed_build_takes_counts_as_free(build, lab, monkeypatch):
    one = build(complete)
    one.work.mkdir()
    (one.work / "disk.raw").write_bytes(bytes(3 << 20))
    monkeypatch.setattr(lab, "free_disk", lambda: image.SPACE - 2)
    one.make()


def test_lack_of_space_is_reported_before_anything_is_built(build, lab, monkeypatch):
    monkeypatch.setattr(lab, "free_disk", lambda: 10)
    with pytest.raises(LabError, match="10 MB are free, 3000 MB are needed"):
        build(interrupted).make()


def test_link_to_another_image_is_replaced_not_followed(build, tmp_path):
    other = tmp_path / "other"
    complete(other)
    (other / "inputs").write_text("older\n")
    one = build(complete)
    one.folder.symlink_to(other)
    one.make()
    assert not one.folder.is_symlink() and (other / "disk.raw").exists()


def test_build_waits_for_another_one_to_end(build, lab, monkeypatch):
    from host import locks

    held = locks.take(lab.settings.state / "image.lock")
    one = build(complete)
    monkeypatch.setattr(image.time, "sleep", lambda _: os.close(held))
    one.make()  # waits once; then the other one is gone
    assert one.made_from()


def test_root_gets_all_settings_and_the_owner(build, make_lab):
    lab = make_lab(LAB_ARCH="arm64", LAB_SUITE="bookworm", LAB_MIRROR="http://mirror")
    words = Image(lab).command()
    assert words[0] == "env"
    for word in "LAB_ARCH=arm64", "LAB_SUITE=bookworm", "LAB_MIRROR=http://mirror":
        assert word in words
    assert words[-2:] == [str(Image(lab).work), f"{os.getuid()}:{os.getgid()}"]


# ---- what it is made from


@pytest.fixture
def copy(make_lab, tmp_path):
    """An Image of a copy of the project, which can be changed."""
    project = tmp_path / "project"
    shutil.copytree(PROJECT / "vagrant", project / "vagrant")

    def make(**environment):
        lab = make_lab(**environment)
        lab.settings = dataclasses.replace(lab.settings, project=project)
        return Image(lab)

    return make


def test_inputs_are_the_same_for_the_same_files(copy):
    assert copy().inputs() == copy().inputs()


@pytest.mark.parametrize(
    "name",
    [
        "init",
        "provision.sh",
        "requirements.txt",
        "image/build.sh",
        "image/customize.sh",
        "files/etc/motd",
        "files/opt/workshop/etc/jupyter/jupyter_server_config.py",
    ],
)
def test_change_to_any_file_of_the_image_causes_a_rebuild(copy, name):
    one = copy()
    before = one.inputs()
    path = one.lab.settings.project / "vagrant" / name
    path.write_text(path.read_text() + "\n")
    assert one.inputs() != before


def test_new_file_causes_a_rebuild_but_other_scripts_do_not(copy):
    one = copy()
    before = one.inputs()
    vagrant = one.lab.settings.project / "vagrant"
    (vagrant / "bootable.sh").write_text("# another one\n")
    assert one.inputs() == before
    (vagrant / "files/etc/new").write_text("")
    assert one.inputs() != before


def test_changed_setting_causes_a_rebuild(copy):
    found = {
        copy().inputs(),
        copy(LAB_ARCH="arm64").inputs(),
        copy(LAB_SUITE="bookworm").inputs(),
        copy(LAB_MIRROR="http://mirror").inputs(),
    }
    assert len(found) == 4


# ---- from a directory of ./lab pack


@pytest.fixture
def stick(tmp_path, monkeypatch):
    """A packed image; qemu-img, which unpacks its disk, is a copy."""
    folder = tmp_path / "stick"
    complete(folder / "image") if (folder / "image").mkdir(parents=True) else None
    complete(folder / "image")
    (folder / "image/disk.raw").rename(folder / "image/disk.qcow2")
    (folder / "image/inputs").write_text("theirs\n")
    (folder / "image/arch").write_text("amd64\n")
    names = sorted(f"image/{path.name}" for path in (folder / "image").iterdir())
    sums.write(folder, names)
    monkeypatch.setattr(
        processes, "run_logged", lambda stage, argv, log: shutil.copy(*argv[-2:])
    )
    return folder


def test_packed_image_is_copied_and_its_origin_is_saved(build, stick):
    one = build(interrupted)
    one.take(stick)
    assert one.made_from() == "theirs" and one.origin() == str(stick)
    assert (one.folder / "disk.raw").exists()
    shutil.rmtree(stick)  # the next person has the stick now
    one.make()  # and is not rebuilt, which is reported
    assert one.made_from() == "theirs"
    assert "the image is from" in one.lab.progress.stream.getvalue()


@pytest.mark.parametrize("name", ["disk.qcow2", "initrd"])
def test_damaged_image_is_refused(build, stick, name):
    (stick / "image" / name).write_text("damaged")
    one = build(interrupted)
    with pytest.raises(LabError, match="stick/image is damaged"):
        one.take(stick)
    assert not one.folder.exists()
    log = one.lab.settings.state / "log/pack.log"
    assert f"{name} is damaged" in log.read_text()


def test_image_with_a_missing_file_is_refused(build, stick):
    (stick / "image/vmlinuz").unlink()
    with pytest.raises(LabError, match="damaged"):
        build(interrupted).take(stick)


def test_image_that_the_checksums_do_not_list_is_refused(build, stick):
    (stick / "SHA256SUMS").write_text("")
    with pytest.raises(LabError, match="damaged"):
        build(interrupted).take(stick)


def test_image_for_another_processor_is_refused(build, stick):
    (stick / "image/arch").write_text("arm64\n")
    with pytest.raises(LabError, match="is for arm64; this machine is amd64"):
        build(interrupted).take(stick)


def test_any_other_directory_is_refused(build, tmp_path):
    with pytest.raises(LabError, match="was not made by ./lab pack"):
        build(interrupted).take(tmp_path)


def test_sums_are_those_of_sha256sum(tmp_path):
    (tmp_path / "a b").write_text("hello\n")
    sums.write(tmp_path, ["a b"])
    command = ["sha256sum", "--quiet", "-c", "SHA256SUMS"]
    subprocess.run(command, cwd=tmp_path, check=True)
