"""`./lab doctor`, on machines made of stand-ins: a folder of commands that answer as those
of another machine would. They need no lab."""

import pathlib
import subprocess
import tempfile
from collections.abc import Sequence

LAB = pathlib.Path(__file__).resolve().parents[2] / "lab"
TOOLS = "qemu-system-x86_64 qemu-img mmdebstrap mkfs.ext4 ssh setpriv sudo apt-get"
SYSTEM = "sh dirname date cat uname df awk grep sed head sort tr mkdir chmod id env"


def doctor(commands: dict[str, str], **options: str) -> tuple[int, str]:
    """Its status and what it printed, where there are these commands: {name: answer}."""
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        for name in SYSTEM.split():
            found = subprocess.run(
                ["which", name], capture_output=True, check=True, text=True
            )
            (place / name).symlink_to(found.stdout.strip())
        for name, answer in commands.items():
            (place / name).unlink(missing_ok=True)
            (place / name).write_text(f"#!/bin/sh\n{answer}\n")
            (place / name).chmod(0o755)
        environment = {"PATH": str(place), "LAB_DIR": str(place / "lab"), **options}
        run = subprocess.run(
            [place / "sh", LAB, "doctor"],
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
            env=environment,
        )
        assert not run.stderr, run.stderr
        return run.returncode, run.stdout


def row(output: str, what: str) -> tuple[str, str]:
    """The row about `what`, and the line below it: what to type, if it is red."""
    lines = output.splitlines() + [""]
    number = next(n for n, line in enumerate(lines) if line[6:].startswith(what + " "))
    return lines[number].split()[0], lines[number + 1].strip()


def machine(without: Sequence[str] = (), **more: str) -> dict[str, str]:
    """A machine with all that plain QEMU needs, but for some of it, and more."""
    commands = {name: "exit 0" for name in TOOLS.split() if name not in without}
    commands["uname"] = "case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac"
    return commands | more


def vagrant(version: str) -> str:
    return f"case $1 in --version) echo Vagrant {version} ;; plugin) ;; esac"


def test_all_is_there() -> None:
    status, output = doctor(machine())
    assert status == 0, output
    assert row(output, "mmdebstrap")[0] == "ok"
    assert output.endswith("All that is needed is there: ./lab up\n")


def test_each_missing_tool_is_named_with_what_to_type() -> None:
    status, output = doctor(machine(without=["qemu-img", "mmdebstrap"]))
    assert status == 1
    assert row(output, "qemu-img")[0] == "NO"
    assert "apt-get install qemu-utils" in row(output, "qemu-img")[1]
    assert "apt-get install mmdebstrap" in row(output, "mmdebstrap")[1]
    assert "Missing: 2" in output


def test_virtualbox_newer_than_vagrant_knows() -> None:
    commands = machine(vagrant=vagrant("2.4.1"), VBoxManage="echo 7.1.4r165100")
    status, output = doctor(commands, LAB="vagrant")
    assert status == 1
    assert row(output, "VirtualBox")[0] == "ok"
    assert row(output, "Vagrant for it")[0] == "NO"
    commands = machine(vagrant=vagrant("2.4.9"), VBoxManage="echo 7.2.0r170000")
    status, output = doctor(commands, LAB="vagrant")
    assert status == 0, output


def test_virtualbox_too_old_for_apple_silicon() -> None:
    commands = machine(vagrant=vagrant("2.4.9"), VBoxManage="echo 7.0.20r163906")
    commands["uname"] = "case $1 in -m) echo arm64 ;; *) echo Darwin ;; esac"
    commands["sysctl"] = "echo 17179869184"
    status, output = doctor(commands)
    assert output.startswith("The lab here: vagrant\n")
    assert status == 1
    assert row(output, "VirtualBox")[0] == "NO"


def test_plugin_that_is_missing() -> None:
    status, output = doctor(
        machine(vagrant=vagrant("2.4.9"), prlctl="exit 0"), LAB="vagrant"
    )
    assert status == 1
    assert row(output, "Parallels") == (
        "NO",
        "type: vagrant plugin install vagrant-parallels",
    )


def test_vagrant_without_a_provider() -> None:
    status, output = doctor(machine(vagrant=vagrant("2.4.9")), LAB="vagrant")
    assert status == 1
    assert row(output, "provider")[0] == "NO"
