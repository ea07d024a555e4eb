"""./lab: the launcher, subcommands, help and errors. None of them starts anything."""

import ast
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from host import dispatch
from host.dispatch import COMMANDS, FOR_OTHERS, GUIDE, INTERNAL
from host.providers import choose
from host.settings import PROJECT

# Descriptor 3 is a pipe that no one reads any more.
NO_READER = "exec 3> >(true); wait $!"
FILES = sorted((PROJECT / "host").rglob("*.py"))


def call(*words, **environment):
    command = [sys.executable, str(PROJECT / "host"), *words]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
        timeout=60,
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_python_3_9_can_read_it(path):
    ast.parse(path.read_text(), feature_version=(3, 9))


@pytest.mark.parametrize("words", [[], ["help"], ["-h"], ["--help"]])
def test_help_has_a_line_for_every_subcommand(words):
    done = call(*words)
    assert done.returncode == 0 and not done.stderr
    lines = done.stdout.splitlines()
    for name, about in {**COMMANDS, **FOR_OTHERS}.items():
        assert f"  {name:10} {about}" in lines
    assert max(map(len, lines)) <= 88


@pytest.mark.parametrize("name", [*COMMANDS, *FOR_OTHERS, *INTERNAL])
def test_each_subcommand_has_its_file_and_its_help(name):
    done = call(name, "--help")
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"usage: ./lab {name}")
    assert done.stdout.count("\n") > 2


def test_every_file_of_commands_is_a_subcommand():
    files = (PROJECT / "host/commands").glob("[!_]*.py")
    names = {path.stem.replace("_", "-") for path in files}
    assert names == {*COMMANDS, *FOR_OTHERS, *INTERNAL}


def test_unknown_subcommand_is_named_with_the_nearest():
    done = call("tset")
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.splitlines()[0] == (
        "lab: unknown subcommand 'tset'. Did you mean 'test'?"
    )


def test_unknown_subcommand_that_resembles_none_gets_no_suggestion():
    done = call("xyzzy")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "lab: unknown subcommand 'xyzzy'."


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--form", "x"],
        ["up", "now"],
        ["pack"],
        ["box"],
        ["grade", "x"],
        ["rehearse", "30"],
        ["classroom", "up", "--port", "x"],
        ["classroom", "add"],
        ["kernel"],
        ["kernel", "start"],
        ["site"],
        ["test", "--here"],
    ],
)
def test_wrong_usage_is_explained_and_the_right_usage_shown(words, tmp_path):
    done = call(*words, LAB_DIR=str(tmp_path / "lab"))
    assert done.returncode == 2, done
    error, usage = done.stderr.splitlines()[:2]
    assert error.startswith(f"lab: {words[0]}"), done.stderr
    assert usage.startswith(f"     Usage: ./lab {words[0]}"), done.stderr


def test_all_subcommands_of_the_guide_are_known():
    from workshop.subcommands import SUBCOMMANDS

    assert set(GUIDE) == set(SUBCOMMANDS) - {*COMMANDS, *FOR_OTHERS}


def test_subcommand_of_the_guide_goes_to_the_vm_unchanged(make_lab, monkeypatch):
    started = []
    lab = make_lab(LAB="qemu")
    monkeypatch.setattr(dispatch, "become", lambda argv: started.append(argv) or 0)
    provider = choose.provider(lab)
    monkeypatch.setattr(type(provider), "is_running", lambda self: True)
    dispatch.guide(lab, "check", ["3", "--only", "it's PID 1"])
    assert "workshop check 3 --only 'it'\"'\"'s PID 1'" in started[0][-1]


@pytest.mark.parametrize("words", [["check", "3"], ["ssh", "--", "true"], ["demo"]])
def test_error_says_that_the_lab_is_not_running(words, tmp_path):
    done = call(*words, LAB_DIR=str(tmp_path / "lab"), LAB="qemu")
    assert done.returncode == 1
    assert done.stderr == "lab: the lab is not running\n     ./lab up starts it.\n"


def test_status_before_there_is_a_lab(tmp_path):
    done = call("status", LAB_DIR=str(tmp_path / "lab"), LAB="qemu")
    assert done.returncode == 3
    assert done.stdout.splitlines() == [
        "way      qemu",
        "image    not built yet",
        "running  no (./lab up starts it)",
    ]


def test_wrong_setting_is_an_error_in_one_line():
    done = call("status", LAB_MEMORY="2G")
    assert done.returncode == 1
    assert done.stderr == "lab: LAB_MEMORY is '2G', but must be a number of megabytes\n"


def test_closed_pipe_causes_no_traceback():
    script = f"'{sys.executable}' '{PROJECT}/host' help | head -n 1"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and not done.stderr


@pytest.mark.parametrize(
    ("words", "redirection", "status", "error"),
    [
        ("help", ">/dev/full", 1, "lab: the output cannot be written: No space"),
        ("--version", ">/dev/full", 1, "lab: the output cannot be written: No space"),
        ("up --help", ">/dev/full", 1, "lab: the output cannot be written: No space"),
        ("status", ">/dev/full", 1, "lab: the output cannot be written: No space"),
        ("tset", ">/dev/full", 2, "lab: unknown subcommand 'tset'. Did you"),
        ("help", ">&3", 141, ""),
        ("up --help", ">&3", 141, ""),
        ("help", ">&-", 0, ""),
        ("status", ">&- <&- 2>&-", 3, ""),
        ("tset", "2>/dev/full", 2, ""),
        ("tset", "2>&-", 2, ""),
        ("up now", "2>/dev/full", 2, ""),
        ("check", "2>/dev/full", 1, ""),
    ],
)
def test_stream_that_is_full_or_closed_causes_no_traceback(
    words, redirection, status, error, tmp_path
):
    script = f"'{sys.executable}' '{PROJECT}/host' {words} {redirection}"
    variables = {"LAB_DIR": str(tmp_path), "LAB": "qemu", "PYTHONUNBUFFERED": ""}
    done = subprocess.run(
        ["bash", "-c", f"{NO_READER}; {script}"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done
    assert done.stderr.startswith(error) and bool(done.stderr) == bool(error), done


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_character_that_the_terminal_lacks_causes_no_traceback(encoding):
    script = "from host import streams; streams.prepare(); print('a…b')"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        cwd=PROJECT,
        capture_output=True,
    )
    assert (done.returncode, done.stdout) == (0, b"a?b\n"), done


@pytest.mark.parametrize("word", ["x", "--nosuch"])
@pytest.mark.parametrize("name", ["up", "down", "status", "destroy", "doctor"])
def test_extra_argument_is_refused_before_anything_happens(name, word, tmp_path):
    done = call(name, word, LAB_DIR=str(tmp_path / "lab"), LAB="qemu")
    assert done.returncode == 2 and done.stderr.startswith(f"lab: {name}: "), done
    assert not (tmp_path / "lab").exists()


@pytest.mark.parametrize(
    ("words", "own", "others"),
    [
        (["-q", "tests/x.py"], [], ["-q", "tests/x.py"]),
        (["--all", "--where", "vm", "-x"], ["--all"], ["--where", "vm", "-x"]),
        (["--here", "--all"], ["--here", "--all"], []),
        (["tests/x.py", "--all"], [], ["tests/x.py", "--all"]),
    ],
)
def test_options_for_pytest_are_passed_on(words, own, others):
    from host.commands.test import OWN_OPTIONS

    assert dispatch.split(words, OWN_OPTIONS) == (own, others)


# ---- the launcher


@pytest.fixture
def tree(tmp_path):
    """A machine's programs, in a directory that is all of PATH, except for Python."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in "sh", "dirname", "cat":
        (programs / name).symlink_to(shutil.which(name))
    add(programs, "id", "echo 1000")
    return programs


def add(programs, name, script):
    path = programs / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def launch(programs, *words, cwd="/"):
    return subprocess.run(
        [programs / "sh", PROJECT / "lab", *words],
        env={"PATH": str(programs)},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_launcher_finds_python_from_anywhere(tree, tmp_path):
    (tree / "python3").symlink_to(sys.executable)
    (tmp_path / "host.py").write_text("raise SystemExit('the wrong host')")
    done = launch(tree, "help", cwd=tmp_path)
    assert done.returncode == 0 and "./lab SUBCOMMAND" in done.stdout, done


def test_launcher_passes_words_and_status_on(tree):
    add(tree, "python3", 'case $1 in -c) exit ;; esac; printf "<%s>" "$@"; exit 42')
    done = launch(tree, "ssh", "--", "a b", "", "*")
    assert done.returncode == 42
    assert done.stdout == f"<{PROJECT}/host><ssh><--><a b><><*>"


def test_launcher_passes_over_an_old_python(tree):
    add(tree, "python3", "exit 1")
    add(tree, "python3.11", 'case $1 in -c) exit ;; esac; echo "the newer one"')
    assert launch(tree, "up").stdout == "the newer one\n"


def test_without_python_and_apt_it_says_what_to_install(tree):
    done = launch(tree, "up")
    assert done.returncode == 1 and done.stderr.startswith("lab: Python 3.9 or newer")
    assert "Install python3" in done.stderr


def test_without_a_terminal_the_launcher_prints_what_to_type(tree):
    add(tree, "apt-get", "echo called; exit 1")
    add(tree, "sudo", "echo called; exit 1")
    done = launch(tree, "up")
    assert done.returncode == 1 and not done.stdout
    assert "Type: sudo apt-get install python3" in done.stderr


def test_without_sudo_the_launcher_prints_what_root_must_type(tree):
    add(tree, "apt-get", "exit 1")
    done = launch(tree, "up")
    assert done.returncode == 1 and "As root, type: apt-get install" in done.stderr


def test_root_without_a_terminal_gets_python_and_goes_on(tree):
    add(tree, "id", "echo 0")
    python = "case $1 in -c) exit ;; esac; echo here we are"
    install = (
        f"printf '#!/bin/sh\\n{python}\\n' >{tree}/python3; chmod +x {tree}/python3"
    )
    (tree / "chmod").symlink_to(shutil.which("chmod"))
    add(tree, "apt-get", f"case $* in *install*python3) {install} ;; esac")
    done = launch(tree, "up")
    assert done.returncode == 0, done
    assert done.stdout.splitlines() == [
        "lab: installing the package python3, which takes 10 to 60 s",
        "here we are",
    ]


def test_package_that_is_too_old_is_reported(tree):
    add(tree, "id", "echo 0")
    add(tree, "apt-get", "exit 0")
    done = launch(tree, "up")
    assert done.returncode == 1 and "is older than 3.9" in done.stderr


def test_launcher_is_short():
    assert len((PROJECT / "lab").read_text().splitlines()) <= 40
    assert os.access(pathlib.Path(PROJECT, "lab"), os.X_OK)
