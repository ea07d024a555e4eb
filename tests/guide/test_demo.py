"""`workshop demo`: the live part of a talk, played for real in a terminal of the stage's size."""

import contextlib
import json
import os
import re
import sys
import time

import pexpect
import pytest
from played import play_to_the_end
from runtime import PROJECT, eventually, host_state, shell

from workshop import talk
from workshop.commands import demo as demo_command
from workshop.command_line import INTERRUPTED
from workshop.scenes import Command, Scene, scenes
from workshop.talk import Mismatch, Talk

COLUMNS, LINES = 90, 24  # of the terminal on the stage
LIMIT = 120  # seconds for each thing, also in an emulated VM
PROMPT = re.compile(rb"  # ")

pytestmark = pytest.mark.usefixtures("host_as_before")


@pytest.fixture(scope="module")
def host_as_before():
    """Checks that a talk leaves only the bridge behind, as lesson 4 does."""
    shell(f"{PROJECT}/steps/network.sh off")
    before = host_state()
    yield
    shell(f"{PROJECT}/steps/network.sh off")
    assert host_state() == before


@pytest.fixture
def stage():
    """A function that runs `workshop WORDS` in a terminal, and returns a pexpect.spawn."""
    terminals = []
    yield lambda words: terminals.append(on_stage(words)) or terminals[-1]
    for terminal in terminals:
        terminal.close(force=True)
    talk.SAVED.unlink(missing_ok=True)


def on_stage(words):
    command = [sys.executable, "-P", "-m", "workshop", *words.split()]
    environment = os.environ | {"PYTHONPATH": str(PROJECT), "TERM": "xterm-256color"}
    return pexpect.spawn(
        command[0],
        command[1:],
        env=environment,
        dimensions=(LINES, COLUMNS),
        timeout=LIMIT,
    )


@pytest.mark.needs("cgroup2", "debian13")
@pytest.mark.parametrize("cut", ["20", "90"])
def test_cut_plays_to_the_end_by_itself_within_its_minutes(cut, stage):
    """The cut of 45 minutes runs the commands of the one of 90, as a unit test shows, so it
    need not be played as well."""
    begin, demo = time.monotonic(), stage(f"demo --minutes {cut} --auto")
    play_to_the_end(demo, cut)
    assert time.monotonic() - begin < 60 * min(float(cut), 45)


# What a scene needs from the machine, by a pattern that its commands match. A booted Debian
# has more than nine processes, systemd among them, and its root may open the disk.
NEEDS = {
    r"--memory|--pids|--cpus|06_cgroup/breakout.py steps/06": "cgroup2",
    r"ps -e --no-headers|lsns|05_user/breakout.py steps/04": "debian13",
}


def scene_facts():
    """Returns the scenes that have commands, as parameters of a test, with their needs."""
    found = []
    for scene in scenes("90"):
        commands = "\n".join(command.line for command in scene.commands)
        needs = [
            need for pattern, need in NEEDS.items() if re.search(pattern, commands)
        ]
        marks = [pytest.mark.needs(*needs)] if needs else []
        if commands:
            name = f"{scene.lesson} {scene.title}"
            found.append(pytest.param(scene, marks=marks, id=name))
    return found


@pytest.mark.parametrize("scene", scene_facts())
def test_scene_needs_no_scene_before_it_and_fits_the_screen(scene, monkeypatch):
    """The host has no bridge, because no other scene has been played."""
    shell(f"{PROJECT}/steps/network.sh off")
    monkeypatch.chdir(PROJECT)
    played, lines = Talk([scene], auto=True), 3
    for command in scene.commands:
        output = played.run(scene, command)
        assert command.accepts(output), f"{command}: {output}"
        shown = [f"  # {command.line}", *output.splitlines()]
        lines += sum(1 + max(len(line) - 1, 0) // COLUMNS for line in shown)
    assert lines <= LINES, f"{scene.title}: {lines} lines"


def wait_until_it_has_run():
    """Waits until the command has ended. Keys before that go to the command, not to the talk."""

    def ran():
        with contextlib.suppress(OSError, ValueError):
            return json.loads(talk.SAVED.read_bytes())["ran"]

    assert eventually(ran, LIMIT)


def test_keys_go_on_repeat_skip_go_back_jump_and_quit(stage):
    demo = stage("demo --minutes 90 2")
    demo.expect("Kill a process of the host")
    demo.expect(PROMPT)
    demo.send("\r")  # it is typed
    demo.expect("breakout.py")
    demo.send(" ")  # it runs
    demo.expect("BROKEN IN .*process \\d+ ")
    wait_until_it_has_run()
    talk.SAVED.unlink()
    demo.send("r")  # once more
    demo.expect("BROKEN IN .*process \\d+ ")
    wait_until_it_has_run()
    demo.send("\x1b[6~")  # Page Down: the next scene
    demo.expect("Step 2: one flag")
    demo.send("s")
    demo.expect("The break-in again")
    demo.send("b")
    demo.expect("Step 2: one flag")
    demo.send("j")
    demo.expect("to which\\?")
    demo.send("4\r")
    demo.expect("But ps still shows them all")
    demo.expect(PROMPT)
    demo.send("q")
    demo.expect(pexpect.EOF)
    demo.close()
    assert demo.exitstatus == INTERRUPTED
    assert not talk.SAVED.exists()


def test_second_screen_says_what_to_say_and_what_went_wrong(stage):
    scene = scenes("20", ["02"])[0]
    notes = stage("demo --notes")
    notes.expect("No demo is running")
    demo = stage("demo 2")
    demo.expect(PROMPT)
    notes.expect(scene.say.split(".")[0])
    notes.expect("then: Step 2: one flag")
    demo.send("q")
    demo.expect(pexpect.EOF)
    Talk([scene]).save(0, wrong=True)
    notes.expect("r repeats the command")
    notes.send("q")
    notes.expect(pexpect.EOF)
    notes.close()
    assert notes.exitstatus == 0


def test_output_that_does_not_match_is_recorded():
    wrong = Command("echo one", "two")
    played = Talk([Scene("00", "x", 1, "", (wrong,))], auto=True)
    try:
        played.play()
        [mismatch] = played.mismatches
        assert mismatch == Mismatch(wrong, mismatch.output)
        assert mismatch.output.strip() == "one"
    finally:
        talk.SAVED.unlink()


def test_wrong_output_of_a_talk_that_plays_by_itself_is_status_1(capfd, monkeypatch):
    monkeypatch.chdir(PROJECT)
    scene = Scene("00", "x", 1, "", (Command("echo one", "two"),))
    assert demo_command.play(Talk([scene], auto=True)) == 1
    assert "should print 'two', but printed: one" in capfd.readouterr().out
