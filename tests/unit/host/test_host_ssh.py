"""ssh: its configuration, whatever the paths are, and quoting."""

import argparse
import pathlib
import shutil
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from host import ssh
from host.commands import ssh as ssh_command
from host.errors import LabError
from host.processes import quote
from host.providers import choose
from host.settings import check_path

needs_ssh = pytest.mark.skipif(not shutil.which("ssh"), reason="OpenSSH is needed")
# Anything that can be an argument of a program.
WORDS = st.text(st.characters(blacklist_characters="\0", codec="utf-8"))
PATHS = [
    "/plain",
    "/a b",
    "/100%",
    "/%h",
    '/quo"te',
    "/it's",
    "/back\\slash",
    "/#x",
    "/ä",
]


def what_ssh_reads(config, tmp_path):
    """{option: value} of `ssh -G`, which parses the file as a connection would."""
    file = tmp_path / "config"
    file.write_text(config)
    done = subprocess.run(
        ["ssh", "-G", "-F", file, "workshop"],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


@needs_ssh
@pytest.mark.parametrize("path", PATHS)
def test_ssh_reads_any_path_back(path, tmp_path):
    read = what_ssh_reads(ssh.config(pathlib.Path(path), 2345), tmp_path)
    # -G prints the percent signs before they are expanded.
    assert read["identityfile"].replace("%%", "%") == f"{path}/key"
    known = read["userknownhostsfile"].replace("%%", "%").strip('"')
    assert known.replace('\\"', '"').replace("\\\\", "\\") == f"{path}/known_hosts"
    assert read["port"] == "2345" and read["hostname"] == "127.0.0.1"
    assert read["stricthostkeychecking"] == "true"


@needs_ssh
@pytest.mark.parametrize("path", PATHS)
def test_ssh_opens_the_key_of_any_path(path, tmp_path):
    """With percent signs expanded: ssh says which file it did not find."""
    folder = pathlib.Path(str(tmp_path) + path)
    file = tmp_path / "config"
    file.write_text(ssh.config(folder, 1))
    command = ["ssh", "-v", "-F", file, "-o", "ProxyCommand=true"]
    command += ["workshop", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"identity file {vis(folder / 'key')} type" in done.stderr, done.stderr


def vis(path):
    """A path as ssh prints it: vis(3)."""
    escaped = bytes(path).replace(b"\\", rb"\\")
    return "".join(chr(b) if b < 128 else f"\\{b:03o}" for b in escaped)


@pytest.mark.parametrize("path", ["/a\nb", "/a\rb", "/${HOME}"])
def test_path_that_ssh_cannot_read_is_refused(path):
    with pytest.raises(LabError, match="ssh cannot read a path"):
        check_path(pathlib.Path(path))


@given(st.lists(WORDS, max_size=5))
@example(["", "a b", "it's", "$HOME", "`id`", "a\nb", "-n", "*", "\\", "!x", "~"])
@settings(max_examples=60, deadline=None)
def test_quoted_words_come_back_from_a_shell(words):
    script = f'for word in {quote(words)}; do printf "%s\\0" "$word"; done'
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


def as_sshd(text, home):
    """What sshd does with a command: it gives the text to the user's shell."""
    done = subprocess.run(
        ["bash", "-c", text], capture_output=True, text=True, check=False, cwd=home
    )
    return done.stdout, done.stderr, done.returncode


TEXTS = [
    "echo hello",
    "echo a; echo b;",
    "sleep 0 &",
    "echo one\necho two",
    "cat <<END\nhere\nEND",
    "exit 7",
    "kill -KILL $$",
    "printf '<%s>' '' a",
    "echo \"it's\" '$HOME'",
    "false || echo $?",
    "# nothing but a comment",
    "if then",
    "echo 'unfinished",
    " echo blank first",
    "\techo tab",
    "echo \\",
    "exec 3>&1; echo x >&3",
    "echo a;",
    "echo a\n",
    "echo a &\n",
    "echo a; \n\n",
    "(exit 3)\n",
    "\n",
    " ",
    ";",
    "&",
    "trap 'echo bye' EXIT; exit 4",
    "echo $0 $# $-",
]


@pytest.mark.parametrize("text", TEXTS)
def test_any_command_does_what_it_does_with_ssh(text, tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "GUEST_PROJECT", str(tmp_path))
    direct = as_sshd(text, tmp_path)
    ours = as_sshd(ssh.user_command(text), "/")
    assert ours == direct


PIECES = [
    "echo a",
    "false",
    ";",
    "&",
    "\n",
    " ",
    "'",
    '"',
    "#",
    "\\",
    "(",
    ")",
    "|",
    "$?",
]


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join))
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
def test_any_pieces_of_shell_do_what_they_do_with_ssh(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssh, "GUEST_PROJECT", "/")
        assert sorted_lines(as_sshd(ssh.user_command(text), "/")) == sorted_lines(
            as_sshd(text, "/")
        )


def sorted_lines(answer):
    """What sshd answers, in any order of the lines: & may print them in any order."""
    out, err, status = answer
    return sorted(out.splitlines()), sorted(err.splitlines()), status


@pytest.mark.parametrize("text", TEXTS)
def test_any_command_does_the_same_without_a_vm(text, make_lab, monkeypatch):
    monkeypatch.setattr("host.processes.is_root", lambda: True)
    argv = choose.provider(make_lab(LAB="local")).shell_argv(text, False)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == as_sshd(text, "/")


@pytest.mark.parametrize(
    ("terminals", "with_terminal"),
    [((0, 1, 2), True), ((0, 1), False), ((1, 2), False), ((0, 2), False)],
)
def test_terminal_is_used_only_if_nothing_is_redirected(
    make_lab, monkeypatch, terminals, with_terminal
):
    """With a terminal in the VM, stdout and stderr would arrive as one."""
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        monkeypatch.setattr(stream, "isatty", lambda number=number: number in terminals)
    asked = []
    lab = make_lab(LAB="local")
    monkeypatch.setattr(ssh_command, "become", lambda argv: 0)
    monkeypatch.setattr(
        "host.providers.local.Local.shell_argv",
        lambda self, text, terminal: asked.append((text, terminal)),
    )
    monkeypatch.setattr("host.providers.local.Local.is_running", lambda self: True)
    words = argparse.Namespace(arguments=["--", "echo", "a;"])
    assert ssh_command.run(lab, words) == 0
    assert asked.pop() == ("echo a;", with_terminal)
    ssh_command.run(lab, argparse.Namespace(arguments=[]))  # a shell
    assert asked.pop() == ("", {0, 1} <= set(terminals))


def test_command_runs_in_the_projects_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "GUEST_PROJECT", str(tmp_path))
    assert as_sshd(ssh.user_command("pwd"), "/")[0] == f"{tmp_path}\n"


def test_empty_command_is_a_login_shell():
    assert ssh.user_command("").endswith("exec bash -l")


def test_guide_reports_a_signal_as_a_shell_does(tmp_path, monkeypatch):
    monkeypatch.setattr(ssh, "GUEST_PROJECT", str(tmp_path))
    command = ssh.guide_command("sh -c 'kill -KILL $$'")
    assert as_sshd(command, "/")[2] == 128 + 9


# ---- the open connection


def test_directory_of_sockets_is_ours_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = ssh.socket_directory()
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    with pytest.raises(LabError, match="is open to others"):
        ssh.socket_directory()


def test_directory_of_sockets_must_not_be_a_link(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = ssh.socket_directory()
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LabError):
        ssh.socket_directory()


def test_each_vm_has_its_own_short_socket(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    long = pathlib.Path("/" + "x" * 200)
    sockets = {ssh.Connection(long / name / "ssh").socket() for name in "ab"}
    assert len(sockets) == 2
    assert all(len(path.name) < 20 for path in sockets)
