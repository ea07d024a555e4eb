"""`workshop demo`: the live part of a talk, played for real in a terminal of its size."""

import contextlib
import json
import os
import re
import sys
import time

import pexpect
import pytest
from runtime import PROJECT, eventually, host_state, shell

sys.path.append(str(PROJECT))
from workshop.commands import demo

COLUMNS, LINES = 90, 24  # of the stage's terminal
LIMIT = 120  # seconds for any one thing, also under emulation
PROMPT = re.compile(rb"  # ")

pytestmark = pytest.mark.usefixtures("host_as_before")


@pytest.fixture(scope="module")
def host_as_before():
    """But for the bridge, which a talk leaves switched on, as lesson 4 does."""
    shell(f"{PROJECT}/steps/network.sh off")
    before = host_state()
    yield
    shell(f"{PROJECT}/steps/network.sh off")
    assert host_state() == before


@pytest.fixture
def stage():
    """A function: stage("WORDS") is `workshop WORDS` in a terminal, a pexpect.spawn."""
    open_ones = []
    yield lambda words: open_ones.append(on_stage(words)) or open_ones[-1]
    for terminal in open_ones:
        terminal.close(force=True)
    demo.STATE.unlink(missing_ok=True)


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
@pytest.mark.parametrize("cut", demo.CUTS)
def test_cut_plays_to_the_end_by_itself_within_its_minutes(cut, stage):
    begin, talk = time.monotonic(), stage(f"demo --minutes {cut} --auto")
    said = bytearray()
    while data := demo.next_of(talk):
        said += data
    talk.close()
    shown = demo.ESCAPES.sub("", said.decode())
    assert talk.exitstatus == 0, shown[-2000:]
    # All parts, in their order.
    titles = [scene["title"] for scene in demo.scenes(cut)]
    assert re.findall(r"^  \d · (.*?)\n", shown, re.MULTILINE) == titles
    assert time.monotonic() - begin < 60 * float(cut)


# What a scene needs of the machine, by a pattern of its commands. A booted Debian has more
# than nine processes, systemd among them, and its root may open the disk.
NEEDS = {
    r"--memory|--pids|--cpus|06_cgroup/breakout.py steps/06": "cgroup2",
    r"ps -e --no-headers|lsns|05_user/breakout.py steps/04": "debian13",
}


def scene_facts():
    """Returns the scenes with commands as parameters of a test, each with its needs."""
    found = []
    for scene in demo.scenes("90"):
        commands = "\n".join(command for command, _ in scene["run"])
        needs = [
            need for pattern, need in NEEDS.items() if re.search(pattern, commands)
        ]
        marks = [pytest.mark.needs(*needs)] if needs else []
        if commands:
            name = f"{scene['lesson']} {scene['title']}"
            found.append(pytest.param(scene, marks=marks, id=name))
    return found


@pytest.mark.parametrize("scene", scene_facts())
def test_scene_needs_none_before_it_and_fits_the_screen(scene, monkeypatch):
    """Each on a host without a bridge, as nobody has played a scene before it."""
    shell(f"{PROJECT}/steps/network.sh off")
    monkeypatch.chdir(PROJECT)
    talk, lines = demo.Talk([scene], auto=True), 3
    for command, pattern in scene["run"]:
        said = talk.run(scene, command)
        assert re.search(pattern, said, re.MULTILINE), f"{command}: {said}"
        shown = [f"  # {command}", *said.splitlines()]
        lines += sum(1 + max(len(line) - 1, 0) // COLUMNS for line in shown)
    assert lines <= LINES, f"{scene['title']}: {lines} lines"


def wait_until_it_has_run():
    """What is typed before goes to the command, and not to the talk."""

    def ran():
        with contextlib.suppress(OSError, ValueError):
            return json.loads(demo.STATE.read_bytes())["ran"]

    assert eventually(ran, LIMIT)


def test_keys_go_on_skip_repeat_go_back_jump_and_end(stage):
    talk = stage("demo --minutes 90 2")
    talk.expect("Kill a process of the host")
    talk.expect(PROMPT)
    talk.send("\r")  # it is typed
    talk.expect("breakout.py")
    talk.send(" ")  # it runs
    talk.expect("BROKEN IN .*process \\d+ ")
    wait_until_it_has_run()
    demo.STATE.unlink()
    talk.send("r")  # once more
    talk.expect("BROKEN IN .*process \\d+ ")
    wait_until_it_has_run()
    talk.send("\x1b[6~")  # Page Down: the next scene
    talk.expect("Step 2: one flag")
    talk.send("s")
    talk.expect("The break-in again")
    talk.send("b")
    talk.expect("Step 2: one flag")
    talk.send("j")
    talk.expect("to which\\?")
    talk.send("4\r")
    talk.expect("But ps still tells")
    talk.expect(PROMPT)
    talk.send("q")
    talk.expect(pexpect.EOF)
    talk.close()
    assert talk.exitstatus == demo.ENDED
    assert not demo.STATE.exists()


def test_second_screen_says_what_to_say_and_what_went_wrong(stage):
    scene = demo.scenes("20", ["02"])[0]
    notes = stage("demo --notes")
    notes.expect("No demo is running")
    talk = stage("demo 2")
    talk.expect(PROMPT)
    notes.expect(scene["say"].split(".")[0])
    notes.expect("then: Step 2: one flag")
    talk.send("q")
    talk.expect(pexpect.EOF)
    wrong = demo.Talk([scene], auto=True)
    wrong.remember(0, wrong=True)
    notes.expect("r repeats it")
    notes.send("q")
    notes.expect(pexpect.EOF)
    notes.close()
    assert notes.exitstatus == 0


def test_what_does_not_show_what_it_should_is_told():
    wrong = {"lesson": "00", "title": "x", "minutes": 1, "say": "", "before": None}
    wrong |= {"after": None, "run": [["echo one", "two"]]}
    talk = demo.Talk([wrong], auto=True)
    try:
        assert talk.play() == 1
        assert [(command, said.strip()) for command, said in talk.wrong] == [
            ("echo one", "one")
        ]
    finally:
        demo.STATE.unlink()
