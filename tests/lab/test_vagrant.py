"""The lab with Vagrant, on a bare Debian machine: the project's own Vagrantfile, a real
`vagrant up` with libvirt, and a box from a directory that `./lab pack` filled. The box
is made of the same packages and provision.sh as the lab with plain QEMU, and has the
name and version that the Vagrantfile asks for.

libvirt, its network and the VM run in namespaces made here, so they change nothing on
this machine, and end with this test. The VM is emulated, so it needs no hardware
virtualization.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import driver
import pytest
from driver import Done, Word, wait_until

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_order]
PACKAGES = """vagrant vagrant-libvirt libvirt-daemon-system dnsmasq-base qemu-system-x86
    qemu-utils iproute2 curl""".split()
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
remember_owner = 0
cgroup_controllers = []
namespaces = []
"""
# What a machine without hardware virtualization needs, and where the VM's disk goes. Vagrant
# reads this before the project's own Vagrantfile, which stays as it is.
VAGRANTFILE = """
Vagrant.configure("2") do |config|
  config.vm.guest = :debian # without this it tries all systems, one by one
  config.vm.provider :libvirt do |libvirt|
    libvirt.driver = "qemu"
    libvirt.cpu_mode = "maximum"
    libvirt.graphics_type = "none"
    libvirt.video_type = "none"
    libvirt.storage_pool_path = "POOL"
  end
end
"""
# What a second provision must not change: the list of files, with their sizes, modes
# and owners, and the contents of those that provision.sh itself writes.
FINGERPRINT = r"""sudo sh -c 'cd / && find etc usr opt var/lib/workshop home -xdev ! -type d
    ! -path \*__pycache__\* -printf "%p %s %m %u %l\n" | LC_ALL=C sort
    find etc usr/local opt/workshop/etc var/lib/workshop/images -xdev -type f |
    LC_ALL=C sort | xargs sha256sum'""".replace("-type d\n   ", "-type d")


class Site:
    """The project with a libvirt of its own, in namespaces."""

    def __init__(self, inside: driver.Namespaces, place: Path):
        self.inside, self.place = inside, place
        self.project, self.stick = place / "project", place / "a stick"
        self.env = {
            "LAB_DIR": str(self.project / ".lab"),
            "VAGRANT_HOME": str(place / "home"),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
        }
        self.url = ""  # of JupyterLab, with its token

    def run(
        self,
        *words: Word,
        cwd: Path | None = None,
        ok: tuple[int, ...] | None = (0,),
        **env: str,
    ) -> Done:
        log = os.environ.get("LAB_COMMANDS")
        if (
            log and words[0] == "vagrant"
        ):  # for tests/documented.py: the commands really run
            with open(log, "a") as file:
                file.write(" ".join(map(str, words)) + "\n")
        env = self.env | env
        where = cwd or self.project
        return self.inside.run(*words, env=env, cwd=where, ok=ok, timeout=500)

    def vagrant(self, *words: Word) -> str:
        return self.run("vagrant", *words).stdout

    def in_vm(self, command: str) -> str:
        """Returns what a command prints in the VM, over ssh: Vagrant starts slowly."""
        config = [".lab/vagrant.ssh", "-o", "LogLevel=ERROR"]
        return self.run("ssh", "-F", *config, "default", command).stdout

    def last_screen(self, screen: str) -> None:
        """Checks the last screen of a start: a container, and JupyterLab's address."""
        assert "One kernel, two views" in screen
        assert re.search("uts namespace.*differs", screen)
        url = re.search(r"http://127\.0\.0\.1:\d+/lab\S*token=[0-9a-f]+", screen)
        assert url, screen
        self.url = url[0]

    def jupyterlab_answers(self) -> bool:
        return self.inside.status(self.url) == 200


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    driver.install(*PACKAGES)
    # Only the part of `./lab pack` that this test needs. The name has a space in it.
    stick = place / "a stick"
    (stick / "box").mkdir(parents=True)
    driver.Lab.spare(place / "lab").run("box", stick / "box/lab.box", timeout=600)
    sums = driver.run("sh", "-c", "sha256sum box/*", cwd=stick).stdout
    (stick / "SHA256SUMS").write_text(sums)
    # A copy of the checkout, so that nothing written here changes the real one.
    driver.copy_project(place / "project")
    (place / "project/my").mkdir()
    place.chmod(0o755)
    with driver.namespaces("mount", "pid", "net", "uts", "ipc") as inside:
        site = Site(inside, place)
        start_libvirt(site)
        (place / "home").mkdir()
        (place / "pool").mkdir()
        pool = VAGRANTFILE.replace("POOL", str(place / "pool"))
        (place / "home/Vagrantfile").write_text(pool)
        yield site


def start_libvirt(site: Site) -> None:
    inside, place = site.inside, site.place
    inside.run("mount", "-t", "tmpfs", "run", "/run")
    for name in "lib", "cache", "log":
        inside.run("mount", "-t", "tmpfs", "libvirt", f"/var/{name}/libvirt")
    inside.run("mkdir", "-p", "/var/lib/libvirt/qemu/ram", "/run/libvirt")
    settings = place / "libvirt"
    settings.mkdir()
    (settings / "qemu.conf").write_text(QEMU_CONF)
    (settings / "libvirtd.conf").write_text('auth_unix_rw = "none"\n')
    inside.run("mount", "--bind", settings, "/etc/libvirt")
    for daemon in "virtlogd", "libvirtd":
        inside.run(daemon, "-d", "-p", place / f"{daemon}.pid")
    virsh = ["virsh", "-q", "-c", "qemu:///system", "uri"]
    answers = lambda: inside.run(*virsh, ok=None).returncode == 0  # noqa: E731
    wait_until(answers, 20, "libvirtd does not start")


def test_vagrantfile_is_valid(site: Site) -> None:
    site.vagrant("validate")


@pytest.fixture(scope="module")
def damaged(site: Site) -> Path:
    """A directory whose checksums belong to a different box."""
    folder = site.place / "damaged"
    (folder / "box").mkdir(parents=True)
    (folder / "box/lab.box").symlink_to(site.stick / "box/lab.box")
    catalog = (site.stick / "box/catalog.json").read_text()
    wrong = re.sub('"checksum": "..', '"checksum": "zz', catalog)
    assert wrong != catalog
    (folder / "box/catalog.json").write_text(wrong)
    shutil.copy(site.stick / "SHA256SUMS", folder)
    return folder


def test_lab_refuses_a_damaged_box(site: Site, damaged: Path) -> None:
    done = site.run("./lab", "up", "--from", damaged, ok=None, LAB="vagrant")
    assert done.returncode != 0
    assert "box is damaged" in done.stdout


def test_vagrant_refuses_a_damaged_box(site: Site, damaged: Path) -> None:
    add = ["vagrant", "box", "add", "catalog.json"]
    done = site.run(*add, cwd=damaged / "box", ok=None)
    assert done.returncode != 0
    assert "checksum" in done.stdout


def test_lab_up_starts_from_a_stick_through_vagrant(site: Site) -> None:
    """The last screen shows a container, and the address of JupyterLab."""
    screen = site.run("./lab", "up", "--from", site.stick, LAB="vagrant").stdout
    shutil.rmtree(site.stick)  # the next person has the stick now
    site.last_screen(screen)


def test_box_has_its_public_name_and_version(site: Site) -> None:
    text = (site.project / "Vagrantfile").read_text()
    name = re.search(r'^ *override\.vm\.box = "(.*)"$', text, re.M)[1]
    version = re.search(r'^ *override\.vm\.box_version = "(.*)"$', text, re.M)[1]
    boxes = site.vagrant("box", "list")
    assert re.fullmatch(
        rf"{re.escape(name)} +\(libvirt, {re.escape(version)}\b.*\)\n", boxes
    )


def test_jupyterlab_answers_given_its_token(site: Site) -> None:
    assert site.jupyterlab_answers()


def test_jupyterlab_refuses_without_its_token(site: Site) -> None:
    assert site.inside.status(re.sub("/lab/.*", "/api/contents", site.url)) == 403


def test_only_this_machine_can_reach_the_vm(site: Site) -> None:
    """Checks every port here, including the forwarded one, but not libvirt's name
    server."""
    port = re.search(r"127\.0\.0\.1:(\d+)/", site.url)[1]
    sockets = site.inside.run("ss", "-Hltnp").stdout.splitlines()
    assert any(f" 127.0.0.1:{port} " in line for line in sockets)
    for line in sockets:
        assert "dnsmasq" in line or line.split()[3].startswith(
            ("127.0.0.1:", "[::1]:")
        ), line


def test_key_that_all_boxes_share_gives_no_access(site: Site) -> None:
    keys = site.in_vm("cat ~/.ssh/authorized_keys")
    assert re.search("^ssh-", keys, re.M)
    assert "insecure" not in keys
    key = site.project / ".vagrant/machines/default/libvirt/private_key"
    assert key.stat().st_mode & 0o777 == 0o600


def test_no_password_gives_access(site: Site) -> None:
    assert "passwordauthentication no" in site.in_vm("sudo sshd -T").splitlines()


def test_vagrant_ssh_has_the_guide(site: Site) -> None:
    site.vagrant("ssh", "-c", "workshop clean --help")


def test_vagrant_ssh_makes_a_container(site: Site) -> None:
    command = "sudo steps/07_overlay/container.py run --net none busybox hostname"
    output = site.vagrant("ssh", "-c", f"cd /workshop && {command}")
    assert "container" in output.splitlines()


def test_file_made_in_my_on_the_host_is_seen_in_the_vm(site: Site) -> None:
    (site.project / "my/host.txt").write_text("from the host\n")
    assert site.in_vm("cat /workshop/my/host.txt") == "from the host\n"


def test_file_made_in_my_in_the_vm_is_seen_on_the_host(site: Site) -> None:
    site.in_vm("echo from the guest | sudo tee /workshop/my/guest.txt")
    assert (site.project / "my/guest.txt").read_text() == "from the guest\n"


def test_provision_again_changes_nothing(site: Site) -> None:
    before = site.in_vm(FINGERPRINT).splitlines()
    assert len(before) > 1000
    site.vagrant("provision")
    after = site.in_vm(FINGERPRINT).splitlines()
    assert sorted(set(before) ^ set(after)) == []
    assert before == after


def test_vagrant_reload_ends_with_the_same_screen(site: Site) -> None:
    site.last_screen(site.vagrant("reload"))


def test_jupyterlab_answers_after_a_reload(site: Site) -> None:
    assert site.jupyterlab_answers()


def test_vagrant_halt_and_up_end_with_the_same_screen(site: Site) -> None:
    site.vagrant("halt")
    site.last_screen(site.vagrant("up"))


def test_lab_up_finds_vagrant_and_ends_with_the_same_screen(site: Site) -> None:
    site.last_screen(site.run("./lab", "up").stdout)


def test_lab_ssh_runs_a_command_in_the_vm(site: Site) -> None:
    assert "guest.txt" in site.run("./lab", "ssh", "--", "ls /workshop/my").stdout


def test_jupyterlab_answers_in_the_end(site: Site) -> None:
    assert site.jupyterlab_answers()


def test_lab_destroy_leaves_no_vm(site: Site) -> None:
    virsh = ["virsh", "-q", "-c", "qemu:///system", "list", "--all", "--name"]
    assert site.inside.run(*virsh).stdout.strip()
    site.run("./lab", "destroy")
    assert not site.inside.run(*virsh).stdout.strip()


def test_lab_destroy_leaves_my(site: Site) -> None:
    for where in "guest", "host":
        text = (site.project / f"my/{where}.txt").read_text()
        assert text == f"from the {where}\n"
