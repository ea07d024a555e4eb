"""The smaller parts: scratch directories, packages, boxes, disks, classes, totals."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

import pytest

from host import bootable_disk, ovf, packages, passwords, scratch
from host.commands import box, kernel, pack, seat
from host.commands.test import ALL, HALVES, QUICK, has_floor, total
from host.errors import LabError
from host.lab import FIRST_USER, contents, disk_use
from host.providers import choose
from host.providers.vagrant import has_box, with_whole_urls
from host.settings import ARCHS, PROJECT

# ---- what is thrown away


def test_scratch_directory_is_gone_after_the_block(tmp_path):
    with scratch.directory(tmp_path) as place:
        assert place.name == f"test.{os.getpid()}"
        assert place.stat().st_mode & 0o777 == 0o700
        (place / "disk").write_text("x")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import pathlib
from host import scratch
with scratch.directory(pathlib.Path(sys.argv[2])) as place:
    (place / "disk").write_text("x")
    if sys.argv[3] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_only_directories_of_killed_processes_are_removed(tmp_path):
    command = [sys.executable, "-c", KILLED, str(PROJECT), str(tmp_path)]
    subprocess.run([*command, "dies"], check=False)
    (dead,) = tmp_path.iterdir()
    with subprocess.Popen(
        [*command, "lives"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"  # and it has swept
        assert not dead.exists()
        scratch.sweep(tmp_path)
        assert (tmp_path / f"test.{process.pid}/disk").exists()


# ---- packages


def test_only_what_is_missing_is_installed():
    everything = packages.missing("image", ARCHS["amd64"], lambda what: False)
    assert {"qemu-system-x86", "mmdebstrap", "openssh-client"} <= set(everything)
    assert packages.missing("image", ARCHS["amd64"], lambda what: True) == []
    found = packages.missing("run", ARCHS["arm64"], lambda what: what != "ssh")
    assert found == ["openssh-client"]


def test_without_apt_the_packages_are_named(lab, monkeypatch):
    monkeypatch.setattr(packages.shutil, "which", lambda name, path=None: None)
    with pytest.raises(LabError, match="qemu-utils"):
        packages.install(lab, ["qemu-utils"])


# ---- the way


def test_way_is_the_one_used_before_unless_lab_names_another(make_lab):
    lab = make_lab()
    (lab.settings.state / "way").write_text("vagrant\n")
    assert choose.provider(lab).name == "vagrant"
    assert choose.provider(make_lab(LAB="qemu")).name == "qemu"


@pytest.mark.parametrize(
    ("system", "usable", "way"),
    [
        ("Linux", False, "qemu"),
        ("Linux", True, "vagrant"),
        ("Darwin", False, "vagrant"),
        ("Windows", False, "vagrant"),
    ],
)
def test_way_is_chosen_by_what_the_machine_has(lab, monkeypatch, system, usable, way):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr(choose, "vagrant_works", lambda: usable)
    assert choose.provider(lab).name == way


def test_damaged_file_about_the_way_is_reported(lab):
    (lab.settings.state / "way").write_text("docker\n")
    with pytest.raises(LabError, match="says 'docker'"):
        choose.provider(lab)


# ---- Vagrant's boxes

LISTED = """\
bento/debian-13          (virtualbox, 202510.26.0, (amd64))
cloud-image/debian-13    (libvirt, 20260819.2575.0)
"""


def test_box_is_known_by_name_provider_and_version():
    assert has_box(LISTED, "cloud-image/debian-13", "20260819.2575.0")
    assert has_box(
        LISTED.replace(")", ", (amd64))"), "cloud-image/debian-13", "20260819.2575.0"
    )
    assert not has_box(LISTED, "cloud-image/debian-13", "20260819.2575")
    assert not has_box(LISTED, "cloud-image/debian", "20260819.2575.0")
    assert not has_box(LISTED, "bento/debian-13", "202510.26.0")
    assert not has_box("There are no installed boxes!", "a", "1")


def test_url_of_a_box_is_complete_for_any_path():
    about = {"versions": [{"providers": [{"url": "lab.box"}]}]}
    whole = with_whole_urls(about, pathlib.Path("/a stick/100%,#?&"))
    url = whole["versions"][0]["providers"][0]["url"]
    assert url == "file:///a%20stick/100%25%2C%23%3F%26/lab.box"
    assert about["versions"][0]["providers"][0]["url"] == "lab.box"


def test_catalog_names_what_the_vagrantfile_asks_for(tmp_path):
    (tmp_path / "lab.box").write_text("a box")
    box.write_catalog(PROJECT / "Vagrantfile", tmp_path / "lab.box")
    catalog = json.loads((tmp_path / "catalog.json").read_text())
    text = (PROJECT / "Vagrantfile").read_text()
    assert f'override.vm.box = "{catalog["name"]}"' in text
    version = catalog["versions"][0]
    assert f'override.vm.box_version = "{version["version"]}"' in text
    assert version["providers"][0]["url"] == "lab.box"


# ---- disks and packs


def test_holes_stay_holes_and_data_is_at_its_offset(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    with open(source, "wb") as file:
        file.truncate(64 << 20)
        file.seek(8 << 20)
        file.write(b"data" * 1000)
    with open(target, "wb") as file:
        file.truncate(80 << 20)
    bootable_disk.copy_sparse(source, target, 1 << 20)
    with open(target, "rb") as file:
        file.seek(9 << 20)
        assert file.read(4000) == b"data" * 1000
    assert target.stat().st_blocks * 512 < 2 << 20
    assert target.stat().st_size == 80 << 20


def test_packed_project_is_like_a_new_checkout(tmp_path):
    project = tmp_path / "project"
    for name in (
        "steps/a.py",
        "my/container.py",
        ".git/x",
        ".lab/vm/key",
        "steps/__pycache__/y",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("x")
    (project / "lab").write_text("x")
    (project / "link").symlink_to("steps")
    (project / "stick").mkdir()
    archive = project / "stick/project.tar.gz"
    pack.pack_project(project, archive)
    with tarfile.open(archive) as file:
        names = {member.name for member in file if not member.isdir()}
        directories = {member.name for member in file if member.isdir()}
        assert {member.uid for member in file} == {0}
    top = "container-workshop"
    assert names == {f"{top}/steps/a.py", f"{top}/lab", f"{top}/link"}
    assert directories == {top, f"{top}/steps", f"{top}/my"}


@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_start_page_is_for_this_processor(make_lab, arch):
    page = pack.start_page(make_lab(LAB_ARCH=arch))
    assert f"Linux machine ({arch})" in page and "$" not in page
    assert ("VirtualBox" in page) == (arch == "amd64")


def test_description_names_the_disk_and_its_size(tmp_path):
    vmdk = tmp_path / "workshop.vmdk"
    vmdk.write_bytes(b"x" * 1234)
    ovf.describe(vmdk, bootable_disk.SIZE)
    text = (tmp_path / "workshop.ovf").read_text()
    assert 'ovf:size="1234"' in text and f'ovf:capacity="{bootable_disk.SIZE}"' in text
    lines = (tmp_path / "workshop.mf").read_text().splitlines()
    assert [line.partition("=")[0] for line in lines] == [
        "SHA1(workshop.ovf)",
        "SHA1(workshop.vmdk)",
    ]


# ---- the kernel


def test_kernel_starts_the_project_that_installed_it():
    spec = kernel.kernelspec(PROJECT, pathlib.Path("/a b/ssh"), "workshop")
    assert spec["argv"][1:4] == [str(PROJECT / "host"), "kernel", "connect"]
    assert spec["argv"][4:] == ["/a b/ssh", "workshop", "{connection_file}"]


def test_ports_of_a_kernel_are_forwarded_from_loopback():
    about = {name: 1000 + n for n, name in enumerate(kernel.PORTS)} | {
        "ip": "127.1.2.3"
    }
    words = kernel.ssh_argv("/config", "workshop", about)
    forwards = [words[n + 1] for n, word in enumerate(words) if word == "-L"]
    assert forwards[0] == "127.0.0.1:1000:127.1.2.3:1000" and len(forwards) == 5
    assert words[-2:] == ["workshop", kernel.SERVE]


def test_kernel_that_cannot_reach_the_vm_says_what_to_do(tmp_path):
    connection = tmp_path / "connection.json"
    connection.write_text(json.dumps(dict.fromkeys(kernel.PORTS, 1)))
    (tmp_path / "ssh").write_text("Host workshop\n  HostName 127.0.0.1\n  Port 1\n")
    words = [PROJECT / "host", "kernel", "connect", tmp_path / "ssh", "workshop"]
    command = [sys.executable, *words, connection]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 255 and "./lab up" in done.stderr, done


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"JUPYTER_DATA_DIR": "/data"}, "/data"),
        ({"XDG_DATA_HOME": "/xdg"}, "/xdg/jupyter"),
    ],
)
def test_jupyters_directory(environment, folder, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert kernel.jupyter_directory(environment) == pathlib.Path(folder)


# ---- the class


def test_password_works_for_its_owner_only(tmp_path):
    file = tmp_path / "class"
    given = passwords.add(file, ["ada", "grace"], [])
    assert passwords.knows(file, "ada", given["ada"])
    assert passwords.knows(file, "grace", given["grace"])
    wrong = [("ada", given["grace"]), ("ada", ""), ("linus", given["ada"]), ("", "")]
    for name, password in wrong:
        assert not passwords.knows(file, name, password)
    assert file.stat().st_mode & 0o777 == 0o600
    assert given["ada"] not in file.read_text(), "the password itself is kept"


def test_new_password_replaces_the_old_one(tmp_path):
    file = tmp_path / "class"
    old = passwords.add(file, ["ada"], [])["ada"]
    new = passwords.add(file, ["ada"], ["teacher"])["ada"]
    assert old != new
    assert not passwords.knows(file, "ada", old) and passwords.knows(file, "ada", new)
    assert passwords.teachers(file) == {"ada"}


@pytest.mark.parametrize(
    "name", ["", "Ada", "a b", "../ada", "1a", "a" * 32, "a\n", "ä"]
)
def test_name_that_cannot_be_a_directory_or_a_host_name_is_refused(tmp_path, name):
    command = [sys.executable, str(PROJECT / "host"), "classroom", "add", name]
    environment = {**os.environ, "LAB_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and done.stderr.startswith("lab: "), done
    assert not (tmp_path / "classroom/class").exists()


def test_copy_of_a_student_keeps_their_work_and_gets_our_new_files(tmp_path):
    copy = tmp_path / "copy"
    seat.renew(PROJECT, copy)
    (copy / "my/container.py").write_text("theirs")
    (copy / "notebooks/01_uts.ipynb").write_text("theirs")
    (copy / "steps/00_run/container.py").write_text("changed")
    (copy / "steps/new").write_text("of a student")
    seat.renew(PROJECT, copy)
    assert (copy / "my/container.py").read_text() == "theirs"
    assert (copy / "notebooks/01_uts.ipynb").read_text() == "theirs"
    ours = (PROJECT / "steps/00_run/container.py").read_text()
    assert (copy / "steps/00_run/container.py").read_text() == ours
    assert not (copy / "steps/new").exists()
    assert os.access(copy / "steps/00_run/container.py", os.X_OK)


# ---- the tests' own totals


@pytest.mark.parametrize(
    ("summaries", "text"),
    [
        (
            ["== 3 passed in 1.2s ==", "== 1 failed, 4 passed in 2s =="],
            "1 failed, 7 passed",
        ),
        (["1 error in 0.1s"], "1 error"),
        (["no tests ran in 0.01s"], "no test ran"),
        (["2 passed, 1 skipped in 1s"], "2 passed, 1 skipped"),
    ],
)
def test_totals_of_several_runs(summaries, text):
    assert total(summaries) == text


def test_coverage_has_a_floor_where_all_of_the_guides_tests_run():
    assert has_floor(ALL, 2, ["--where=native", "--keep-lessons=.lab/ci/lessons"])
    assert not has_floor(ALL, 2, ["--where=native", "-k", "box"])
    assert not has_floor(ALL, 1, []) and not has_floor(QUICK, 2, [])


def test_every_file_with_a_quick_fact_is_in_a_half_of_the_quick_rung():
    """The marker says which facts `./lab test` runs, and HALVES says in which files."""
    chosen = [word for half in HALVES[QUICK] for word in half if word[0] != "-"]
    marked = [
        path.relative_to(PROJECT).as_posix()
        for path in (PROJECT / "tests").rglob("test_*.py")
        if "pytest.mark.quick" in path.read_text() and "unit" not in path.parts
    ]
    assert len(marked) >= 6
    assert [name for name in marked if not name.startswith(tuple(chosen))] == []


# ---- my/, the learner's directory


@pytest.fixture
def given(make_lab, tmp_path, monkeypatch):
    """Calls make_my() with a project and a my/ of these owners. Returns to whom each file
    was given, as the call of lchown(2) that only root may make."""

    def call(project_owner, root_runs_it, in_vm=True):
        project = tmp_path / "project"
        (project / "my/deep").mkdir(parents=True)
        (project / "my/deep/file").touch()
        (project / "my/mine").touch()
        (project / "my/link").symlink_to("/etc/passwd")
        lab = make_lab()
        lab.settings = dataclasses.replace(lab.settings, project=project)
        owners, calls = {"project": project_owner, "mine": 1005}, {}
        real = os.lstat

        def lstat(path):
            values = list(real(path))
            values[4] = values[5] = owners.get(os.path.basename(path), 0)
            return os.stat_result(values)

        def lchown(path, uid, gid):
            calls[str(path.relative_to(project))] = uid, gid

        monkeypatch.setattr("host.processes.is_root", lambda: root_runs_it)
        monkeypatch.setattr(os, "lstat", lstat)
        monkeypatch.setattr(os, "lchown", lchown)
        lab.make_my(in_vm)
        return calls

    return call


@pytest.mark.parametrize(
    ("project_owner", "in_vm", "user"),
    [(1000, True, 1000), (1003, True, 1003), (0, True, 1000), (33, True, 1000)]
    + [(1003, False, 1003), (0, False, 0)],
)
def test_what_root_makes_in_my_is_given_to_the_user_in_the_vm(
    given, project_owner, in_vm, user
):
    names = "my", "my/deep", "my/deep/file", "my/link"
    assert given(project_owner, True, in_vm) == dict.fromkeys(names, (user, user))


def test_ordinary_user_gives_nothing_away(given):
    assert given(1000, False) == {}


def test_uid_is_the_one_that_the_vm_uses():
    setup = (PROJECT / "vagrant/files/usr/local/lib/workshop-setup").read_text()
    assert "owner=$(stat -c %u /workshop)" in setup
    assert f'"$owner" -ge {FIRST_USER}' in setup


def test_a_directory_that_is_removed_meanwhile_is_left_out(tmp_path):
    for name in ("first/a", "second/b"):
        (tmp_path / name).mkdir(parents=True)
    found = contents(tmp_path)
    assert {next(found), next(found)} == {tmp_path / "first", tmp_path / "second"}
    shutil.rmtree(tmp_path / "first")
    assert list(found) == [tmp_path / "second/b"]
    assert disk_use(tmp_path / "first") == 0
