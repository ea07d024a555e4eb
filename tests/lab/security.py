#!/usr/bin/env python3
"""Who can reach the lab? Run on the host, while a lab made with plain QEMU is up.

JupyterLab is root in the VM: nobody but the owner of this lab may get to it, from another
machine, or from another user's shell on this one.
"""

import os
import pathlib
import re
import subprocess
import sys
import urllib.error
import urllib.request

PROJECT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab")
VM = STATE / "vm"
OTHERS = 0o077  # permission bits of everybody but the owner


def run(*command, **options):
    command = ["env", f"PATH={os.environ['PATH']}:/usr/sbin:/sbin", *command]
    return subprocess.run(
        command, capture_output=True, check=False, text=True, timeout=60, **options
    )


def in_vm(command):
    """What a command prints in the VM. Secrets go in through its stdin, if at all."""
    answer = run(PROJECT / "lab", "ssh", "--", command, stdin=subprocess.DEVNULL)
    assert answer.returncode == 0, f"{command}: {answer.stderr}"
    return answer.stdout.replace("\r", "")


def token():
    return (VM / "guest/token").read_text()


def ports():
    """Of this machine: the one that leads to ssh, the one that leads to JupyterLab."""
    return (VM / "ports").read_text().split()


def status(path, headers=(), method="GET"):
    """The HTTP status that JupyterLab answers."""
    url = f"http://127.0.0.1:{ports()[1]}{path}"
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def processes():
    return [p for p in pathlib.Path("/proc").iterdir() if p.name.isdigit()]


def read(path):
    """The bytes of a file in /proc; none when its process has just ended."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_vm_listens_on_loopback_only():
    pid = (VM / "pid").read_text().strip()
    sockets = run("ss", "-Hltnp").stdout.splitlines()
    ours = [line.split()[3] for line in sockets if f"pid={pid}," in line]
    assert sorted(ours) == sorted(f"127.0.0.1:{port}" for port in ports()), ours


def test_jupyter_answers_to_the_token():
    assert status("/api/contents", {"Authorization": f"token {token()}"}) == 200


def test_jupyter_refuses_without_token():
    for path in ["/api/contents", "/api/kernels", "/api/terminals"]:
        assert status(path) == 403, path


def test_jupyter_refuses_wrong_token():
    assert status("/api/contents", {"Authorization": "token " + "0" * 48}) == 403


def test_jupyter_starts_nothing_without_token():
    assert status("/api/terminals", method="POST") == 403
    assert status("/api/kernels", method="POST") == 403


def test_token_is_long_and_random():
    assert re.fullmatch("[0-9a-f]{48}", token())


def test_token_is_in_no_process_list():
    secret = token().encode()
    assert not [p.name for p in processes() if secret in read(p / "cmdline")]
    # In the VM as well. The list is searched here, so that no search finds itself.
    assert token() not in in_vm("sudo cat /proc/[0-9]*/cmdline 2>&1 | tr '\\0' ' '")


def test_secrets_are_their_owners_only():
    assert not STATE.stat().st_mode & OTHERS, STATE
    for path in [VM, *VM.glob("guest"), *VM.glob("guest/*"), VM / "key"]:
        assert not path.stat().st_mode & OTHERS, path


def test_token_is_in_no_file_that_others_may_read():
    secret = token().encode()
    for path in STATE.rglob("*"):
        if path.is_file() and path.stat().st_size < 10**7 and secret in read(path):
            assert not path.stat().st_mode & OTHERS, path
    # In the VM: everything that an ordinary user can read.
    user = "sudo setpriv --reuid nobody --regid nogroup --clear-groups env LC_ALL=C"
    places = "/etc /run /tmp /root /home /var/log /var/tmp"
    text = in_vm(f"{user} grep -rshoE '[0-9a-f]{{48}}' {places} || :")
    assert token() not in text


def test_image_holds_no_secret():
    """Each VM starts from the same image: what is secret in one is not in it."""
    disk = STATE / "image/disk.raw"
    keys = run("debugfs", "-R", "ls -l /etc/ssh", disk).stdout
    assert "sshd_config" in keys
    assert "ssh_host" not in keys
    for path in [
        "/home/vagrant/.ssh",
        "/root/.ssh/authorized_keys",
        "/etc/workshop/token",
    ]:
        assert "not found" in run("debugfs", "-R", f"stat {path}", disk).stderr, path


def test_only_the_key_of_this_lab_opens_it():
    key = (VM / "key.pub").read_text()
    assert in_vm("cat ~/.ssh/authorized_keys") == key
    assert in_vm("sudo find /root /home -name authorized_keys").count("\n") == 1


def test_no_password_opens_it():
    answer = run(
        *["ssh", "-F", "none", "-p", ports()[0], "-l", "vagrant"],
        *["-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no"],
        *["-o", "HostKeyAlias=workshop", "-o", f"UserKnownHostsFile={VM}/known_hosts"],
        *["127.0.0.1", "true"],
    )
    assert answer.returncode == 255
    assert "Permission denied (publickey)." in answer.stderr
    settings = in_vm("sudo sshd -T").splitlines()
    assert "passwordauthentication no" in settings
    assert "kbdinteractiveauthentication no" in settings


def main():
    failed = 0
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            try:
                test()
                print(f"ok  {name}", flush=True)
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                failed += 1
                print(f"NO  {name}: {error}", flush=True)
    print("security: " + (f"{failed} FAILED" if failed else "all as it should be"))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
