"""Who can reach the lab? Only its owner.

JupyterLab is root in the VM, so no other machine, and no other user of this machine,
may reach it."""

import os
import pathlib
import re
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence

import driver
import pytest

OTHERS = 0o077  # permission bits of all users except the owner
# The directories of ss and debugfs, which are not in an ordinary user's PATH.
SYSTEM = {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
pytestmark = pytest.mark.timeout(900)  # with the start of the lab


def run(*command: driver.Word, ok: Sequence[int] = (0,)) -> driver.Done:
    return driver.run(*command, ok=ok, env=SYSTEM, timeout=60, stderr=subprocess.PIPE)


def status(
    lab: driver.Lab,
    path: str,
    headers: dict[str, str] | None = None,
    method: str = "GET",
) -> int:
    """Returns the HTTP status of JupyterLab's answer."""
    url = f"http://127.0.0.1:{lab.ports()[1]}{path}"
    request = urllib.request.Request(url, headers=headers or {}, method=method)
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def read(path: pathlib.Path) -> bytes:
    """Returns the bytes of a file, or nothing if it has just gone, or is no file or a large
    one, such as a disk. The hostile images of other tests contain links that lead out, for
    example to /proc/kmsg, from which a read never returns."""
    try:
        about = path.lstat()
        small = stat.S_ISREG(about.st_mode) and about.st_size <= 10**7
        return path.read_bytes() if small else b""
    except OSError:
        return b""


def test_vm_listens_on_loopback_only(lab: driver.Lab) -> None:
    pid = (lab.vm / "pid").read_text().strip()
    sockets = run("ss", "-Hltnp").stdout.splitlines()
    ours = [line.split()[3] for line in sockets if f"pid={pid}," in line]
    assert sorted(ours) == sorted(f"127.0.0.1:{port}" for port in lab.ports())


def test_jupyter_answers_to_the_token(lab: driver.Lab) -> None:
    token = {"Authorization": f"token {lab.token()}"}
    assert status(lab, "/api/contents", token) == 200


@pytest.mark.parametrize("path", ["/api/contents", "/api/kernels", "/api/terminals"])
def test_jupyter_refuses_without_token(lab: driver.Lab, path: str) -> None:
    assert status(lab, path) == 403


def test_jupyter_refuses_wrong_token(lab: driver.Lab) -> None:
    assert status(lab, "/api/contents", {"Authorization": "token " + "0" * 48}) == 403


@pytest.mark.parametrize("path", ["/api/kernels", "/api/terminals"])
def test_jupyter_starts_nothing_without_token(lab: driver.Lab, path: str) -> None:
    assert status(lab, path, method="POST") == 403


def test_token_is_long_and_random(lab: driver.Lab) -> None:
    assert re.fullmatch("[0-9a-f]{48}", lab.token())


def test_token_is_in_no_process_list(lab: driver.Lab) -> None:
    secret = lab.token().encode()
    lists = pathlib.Path("/proc").glob("[0-9]*/cmdline")
    assert not [path for path in lists if secret in read(path)]
    # The same in the VM. The list is searched here, so that no search finds itself.
    shown = lab.in_vm("sudo cat /proc/[0-9]*/cmdline 2>&1 | tr '\\0' ' '")
    assert "jupyter" in shown
    assert lab.token() not in shown


def test_only_their_owner_can_read_the_secrets(lab: driver.Lab) -> None:
    paths = [lab.state, lab.vm, *lab.vm.glob("guest"), *lab.vm.glob("guest/*")]
    for path in [*paths, lab.vm / "key", lab.vm / "disk.qcow2"]:
        assert not path.stat().st_mode & OTHERS, path


def test_token_is_in_no_file_that_others_may_read(lab: driver.Lab) -> None:
    secret = lab.token().encode()
    # Other tests make and remove files meanwhile, which stops rglob.
    paths = (
        pathlib.Path(directory, name)
        for directory, _, names in os.walk(lab.state)
        for name in names
    )
    found = [path for path in paths if secret in read(path)]
    assert lab.vm / "guest/token" in found
    for path in found:
        assert not path.stat().st_mode & OTHERS, path
    # In the VM: everything that an ordinary user can read.
    user = "sudo setpriv --reuid nobody --regid nogroup --clear-groups env LC_ALL=C"
    places = "/etc /run /tmp /root /home /var/log /var/tmp"
    text = lab.in_vm(f"{user} grep -rshoE '[0-9a-f]{{48}}' {places} || :")
    assert lab.token() not in text


def test_image_holds_no_secret(lab: driver.Lab) -> None:
    """Each VM starts from the same image, so the image must not contain the secrets of
    any VM."""
    disk = lab.state / "image/disk.raw"
    keys = run("debugfs", "-R", "ls -l /etc/ssh", disk).stdout
    assert "sshd_config" in keys
    assert "ssh_host" not in keys
    for path in (
        "/home/vagrant/.ssh",
        "/root/.ssh/authorized_keys",
        "/etc/workshop/token",
    ):
        assert "not found" in run("debugfs", "-R", f"stat {path}", disk).stderr, path


def test_only_the_key_of_this_lab_gives_access(lab: driver.Lab) -> None:
    key = (lab.vm / "key.pub").read_text()
    assert lab.in_vm("cat ~/.ssh/authorized_keys") == key
    assert lab.in_vm("sudo find /root /home -name authorized_keys").count("\n") == 1


def test_no_password_gives_access(lab: driver.Lab) -> None:
    known = f"UserKnownHostsFile={lab.vm}/known_hosts"
    words = ["ssh", "-F", "none", "-p", lab.ports()[0], "-l", "vagrant"]
    words += ["-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no"]
    words += ["-o", "HostKeyAlias=workshop", "-o", known]
    answer = run(*words, "127.0.0.1", "true", ok=[255])
    assert "Permission denied (publickey)." in answer.stderr
    settings = lab.in_vm("sudo sshd -T").splitlines()
    assert "passwordauthentication no" in settings
    assert "kbdinteractiveauthentication no" in settings
