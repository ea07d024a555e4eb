"""Which commands are documented, and tests/documented.py, which says whether they were run."""

import re
import subprocess
import sys

import documented
import pytest
from pages import NOTEBOOKS, PAGES, PROJECT, commands

from workshop.subcommands import SUBCOMMANDS


def test_commands_are_found():
    assert "./lab up" in commands(PROJECT / "README.md")
    found = commands(PROJECT / "docs/overview.md")
    assert "sudo steps/network.sh on" in found
    assert "./lab up --from FOLDER" in found
    assert "steps/05_user/breakout.py" in found


def test_subcommands_of_lab_are_found():
    found = documented.words_of_lab()
    assert {"up", "status", "down", "test", "help", "classroom"} <= found
    assert "demo" not in found  # the guide's


@pytest.mark.parametrize("page", PAGES + NOTEBOOKS, ids=lambda path: path.stem)
def test_documented_subcommands_exist(page):
    for command in commands(page):
        for part in command.split(" && "):
            one = documented.shape(part)
            if one.program == "workshop":
                assert one.word in SUBCOMMANDS, command
            if one.program == "./lab":
                assert one.word.split()[0] in documented.words_of_lab() | {
                    *SUBCOMMANDS
                }, command


def test_every_exception_is_still_documented_and_has_a_reason():
    for command, why in documented.NOT_RUN.items():
        assert command in documented.documented() and len(why) > 20, command


@pytest.mark.parametrize(
    ("ran", "shown"),
    [
        ("./lab up", "./lab up"),
        ("LAB=qemu ./lab up", "./lab up"),
        ("./lab up --from /media/a stick", "./lab up --from FOLDER"),
        ("./lab grade --jobs 1 --out /x /y", "./lab grade --out DIR FILES"),
        ("./lab ssh -- true", "./lab ssh -- workshop doctor"),
        ("./lab ssh -- true", "./lab ssh"),
        ("./lab classroom add alice bob", "./lab classroom add ada grace linus"),
        ("LAB=vagrant ./lab up --from /x", "LAB=vagrant ./lab up --from FOLDER"),
        ("vagrant box add catalog.json", "vagrant box add catalog.json"),
        ("workshop check 7 --alone --only x", "workshop check N --alone"),
        ("workshop class --out=/x /y", "workshop class REPORT... --out DIR"),
        ("./lab down\n./lab up", "./lab down && ./lab up"),
        ("./lab demo --outline\nworkshop demo --notes", "./lab demo --notes"),
    ],
)
def test_command_that_was_run_is_found(ran, shown):
    assert documented.not_run([shown], ran.splitlines()) == []


@pytest.mark.parametrize(
    ("ran", "shown"),
    [
        ("", "./lab up"),
        ("./lab test", "./lab up"),
        ("./lab upgrade", "./lab up"),
        ("LAB=local ./lab up", "./lab up"),
        ("./lab up", "LAB=local ./lab up"),
        ("LAB=local ./lab up --from /x", "LAB=vagrant ./lab up --from FOLDER"),
        ("./lab up", "./lab up --from FOLDER"),
        ("./lab ssh -- ./lab test", "./lab test"),
        ("./lab classroom up", "./lab classroom add ada grace linus"),
        ("./lab classroom add ada", "./lab classroom add --teacher margaret"),
        ("vagrant box list", "vagrant box add catalog.json"),
        ("vagrant up", "vagrant validate"),
        ("workshop check 3", "workshop check N --alone"),
        ("./lab down", "./lab down && ./lab up"),
        ("./lab demo --notes", "./lab demo --notes"),  # not whether it ran in the VM
        ("workshop demo --notes", "./lab demo --notes"),
    ],
)
def test_command_that_was_not_run_is_missing(ran, shown):
    assert documented.not_run([shown], ran.splitlines()) == [shown]


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, PROJECT / "tests/documented.py", *words],
        capture_output=True,
        text=True,
        env=environment,
    )


def test_program_names_what_is_missing_and_where_it_is_documented(tmp_path):
    log = tmp_path / "log"
    everything = [*documented.documented(), "./lab demo", "workshop demo --minutes 45"]
    everything += [c.replace("./lab demo", "workshop demo") for c in everything]
    everything += [part for command in everything for part in command.split(" && ")]
    log.write_text("\n".join(everything) + "\n")
    done = run(log)
    assert done.returncode == 0 and done.stdout.endswith(", 0 of them not run\n"), done
    assert all(command in done.stdout for command in documented.NOT_RUN), done
    log.write_text("\n".join(c for c in everything if "doctor" not in c))
    done = run(log)
    assert done.returncode == 1
    assert re.search(r"not run .*: ./lab doctor  \(.*README.md", done.stdout), done
    # The commands can be spread over two logs.
    (tmp_path / "other").write_text("./lab doctor\nworkshop doctor\n")
    assert run(log, tmp_path / "other").returncode == 0
    assert run().returncode == 2


def test_lab_and_the_guide_write_down_what_was_run(tmp_path, learner, monkeypatch):
    log = tmp_path / "log"
    lab = [PROJECT / "lab", "help"]
    subprocess.run(lab, env={"LAB_COMMANDS": str(log)}, stdout=-3, check=True)
    subprocess.run(
        lab, env={"LAB_COMMANDS": str(log), "LAB": "qemu"}, stdout=-3, check=True
    )
    monkeypatch.setenv("LAB_COMMANDS", str(log))
    assert learner.type("start").returncode == 0
    assert learner.type("hint 11").returncode == 2  # that proves nothing about hint
    assert learner.type("report").returncode == 1
    assert learner.type("hint 3").returncode == 0
    assert log.read_text().splitlines() == [
        "./lab help",
        "LAB=qemu ./lab help",
        "workshop start",
        "workshop hint 3",
    ]
