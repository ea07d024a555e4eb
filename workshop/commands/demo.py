"""`workshop demo [--minutes 20|45|90] [N...]`: a talk's live part. Every command is typed as if
by hand and then runs for real, each when the speaker says so, and none needs one before it.

N: these lessons only. --notes: what to say and how the time is, for a second screen (another
shell in the VM). --outline: the parts and their minutes, as Markdown. --auto: plays to the end
by itself, and says what did not show what it should. What is played is in the metadata of the
notebooks' cells, under "demo": a title, minutes in each cut, what to say, and commands, each
with a pattern of what it shows. Every screen fits 90 columns and 24 lines: make the type large.

Keys: Enter, Space, Page Down go on; b, Page Up go back; s skips; r repeats the last command;
j jumps; q ends. Exit status 0; 1: --auto, and something did not show what it should; 130: ended.
"""

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from workshop import learner
from workshop.command_line import FAILED, MISUSED, Parser
from workshop.terminal import console, keys_one_by_one

PROJECT = learner.PROJECT
STATE = Path("/run/workshop-demo.json")  # for --notes: where the talk is
CUTS = ["20", "45", "90"]  # minutes
FORWARD = {"\n", "\r", " ", "\x1b[6~", "\x1b[C"}
BACK = {"b", "\x1b[5~", "\x1b[D"}
END, ENDED = -1, 130  # instead of a place: to end; the exit status then
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


def main(arguments):
    """Plays. Returns the exit status."""
    parser = Parser(prog="workshop demo")
    parser.add_argument("--minutes", choices=CUTS, default="20", help="which cut")
    parser.add_argument("--notes", action="store_true", help="for a second screen")
    parser.add_argument("--outline", action="store_true", help="parts and minutes")
    parser.add_argument("--auto", action="store_true", help="play it by itself")
    parser.add_argument("lessons", nargs="*", metavar="N", help="these lessons only")
    options = parser.parse_args(arguments)
    parts = scenes(options.minutes, options.lessons)
    if options.notes:
        return notes()
    if options.outline:
        outline(parts, options.minutes)
        return 0
    if not (options.auto or sys.stdin.isatty()):
        print("workshop demo: it needs a terminal, or --auto", file=sys.stderr)
        return MISUSED
    os.chdir(PROJECT)
    with keys_one_by_one():
        try:
            return Talk(parts, options.auto).play()
        finally:
            STATE.unlink(missing_ok=True)


def scenes(cut, lessons=()):
    """The scenes of a cut, of some lessons or of all, in order: {"lesson", "title", "minutes",
    "say", "run": [(command, pattern)], "before", "after"}."""
    found = []
    for path in learner.lessons(lessons):
        for cell in json.loads(path.read_text())["cells"]:
            scene = cell["metadata"].get("demo")
            if scene and cut in scene["minutes"]:
                minutes = scene["minutes"][cut]
                about = {"lesson": path.name[:2], "run": []}
                about |= {"before": None, "after": None}
                found.append(about | scene | {"minutes": minutes})
    return found


def outline(parts, cut):
    """The parts as a table in Markdown, with the minute at which each begins."""
    begins = 0
    print(f"| at | min | {cut} minutes |\n| --: | --: | --- |")
    for scene in parts:
        clock = f"{int(begins)}:{begins % 1 * 60:02.0f}"
        print(f"| {clock} | {scene['minutes']:g} | {scene['title']} |")
        begins += scene["minutes"]


class Talk:
    """A talk that goes on: its scenes, and the place in them, (scene, command)."""

    def __init__(self, parts, auto):
        self.parts, self.auto = parts, auto
        self.out, self.began = console(), time.time()
        self.places = [
            (number, command)
            for number, scene in enumerate(parts)
            for command in range(max(len(scene["run"]), 1))
        ]
        self.wrong = []  # commands that have not shown what they should

    def play(self):
        """From the first place to the last, as the keys say. Returns the exit status."""
        at = 0
        while at < len(self.places):
            at = self.show(at)
            if at == END:
                return ENDED
        for command, said in self.wrong:
            print(f"workshop demo: {command}\n  has shown: {said[-300:]}")
        return FAILED if self.auto and self.wrong else 0

    def show(self, at):
        """Show a place. Returns the next one, or END."""
        number, index = self.places[at]
        scene = self.parts[number]
        self.remember(at)
        if index == 0:
            self.title(scene)
        if not scene["run"]:
            to = self.choose(at)
            return at + 1 if to is None else to
        command, pattern = scene["run"][index]
        self.prompt()
        to = self.choose(at)
        if to is None:
            self.type(command)
            to = self.choose(at)
            print()
        while to is None:
            said = self.run(scene, command)
            fine = re.search(pattern, said, re.MULTILINE) is not None
            if not fine:
                self.wrong.append((command, said))
            self.remember(at, ran=True, wrong=not fine)
            if (number, index + 1) in self.places:
                return at + 1  # its prompt waits for a key
            to = self.choose(at, again=True)
            if to is None:
                return at + 1
            if to == at:  # in a container of its own, as each time
                to = None
                self.title(scene)
                self.prompt()
                self.type(command)
                print()
        return to

    def title(self, scene):
        if not self.auto:
            self.out.clear()
        self.out.print()
        self.out.print(
            Text(f"  {scene['lesson'][1]} · {scene['title']}", "bold yellow")
        )
        self.out.print()

    def prompt(self):
        self.out.print(Text("  # ", "bold green"), end="")

    def type(self, command):
        """Write a command as somebody types it."""
        print("\x1b[1m", end="")
        for letter in command:
            print(letter, end="", flush=True)
            time.sleep(0 if self.auto else 0.03)
        print("\x1b[m", end="", flush=True)

    def run(self, scene, command):
        """Run it, with this terminal. Returns what it has shown, as text."""
        quietly(scene["before"])
        size = shutil.get_terminal_size()
        shell = pexpect.spawn(
            "/bin/bash",
            ["-c", command],
            dimensions=(size.lines, size.columns),
            env=os.environ | {"TIMEFORMAT": "real %1R s, user %1U s"},
            timeout=None,
        )
        said = bytearray()

        def keep(data):
            said.extend(data)
            return data

        sys.stdout.flush()
        if not self.auto:
            before = signal.signal(
                signal.SIGWINCH,
                lambda *_: shell.setwinsize(*shutil.get_terminal_size()[::-1]),
            )
            shell.interact(escape_character=None, output_filter=keep)
            signal.signal(signal.SIGWINCH, before)
        # By itself, or what interact() leaves unread of a command that has ended.
        while data := next_of(shell):
            os.write(1, keep(data))
        shell.close()
        quietly(scene["after"])
        return ESCAPES.sub("", said.decode(errors="replace"))

    def choose(self, at, again=False):
        """Wait for a key. Returns None, to go on; a place, to go there; or END.
        again: this place's command has run, so it is the last one; r repeats it."""
        while not self.auto:
            key = next_key()
            if key in FORWARD:
                return None
            if key in BACK:
                return self.first_of(at - 1)
            if key == "s":
                return at + 1
            if key == "r":
                return at if again else max(at - 1, 0)
            if key == "j":
                return self.jump(at)
            if key in ("q", "\x03", ""):
                return END
        return None

    def first_of(self, at):
        """The first place of the scene at a place."""
        return self.places.index((self.places[max(at, 0)][0], 0))

    def jump(self, at):
        """Ask for a scene. Returns its place; the same one if it is none."""
        self.out.print()
        for number, scene in enumerate(self.parts):
            self.out.print(
                Text(f"  {number:2}  {scene['lesson'][1]} · {scene['title']}")
            )
        self.out.print(Text("  to which? ", "bold yellow"), end="")
        sys.stdout.flush()
        digits = ""
        while (key := next_key()).isascii() and key.isdigit():
            digits += key
            print(key, end="", flush=True)
        if digits and int(digits) < len(self.parts):
            return self.places.index((int(digits), 0))
        return self.first_of(at)

    def remember(self, at, ran=False, wrong=False):
        """Tell those who look with --notes where the talk is, whether the command there has
        run, and whether it has shown something else than it should."""
        number, index = self.places[at]
        state = {"scenes": self.parts, "at": number, "command": index}
        state |= {"began": self.began, "ran": ran, "wrong": wrong}
        learner.write(STATE, json.dumps(state).encode(), 0o600)


def next_of(shell):
    """What a command shows next, as bytes; none at its end."""
    try:
        return shell.read_nonblocking(4096, timeout=None)
    except pexpect.EOF:
        return b""


def next_key():
    """A key as the terminal sends it: a letter, or an escape sequence; "" at the end."""
    key = os.read(0, 1)
    while key.startswith(b"\x1b") and select.select([0], [], [], 0.05)[0]:
        key += os.read(0, 1)
    return key.decode(errors="replace")


def quietly(command):
    """Run what the audience need not see."""
    if command:
        subprocess.run(
            ["/bin/bash", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )


# ---- the second screen


def notes():
    """Shows what to say, until q or Ctrl-C. Returns 0."""
    with keys_one_by_one(), Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(Padding(note(), 1), refresh=True)
            if select.select([0], [], [], 0.5)[0] and next_key() in ("q", ""):
                return 0


def note():
    """What the speaker needs to know now."""
    try:
        state = json.loads(STATE.read_bytes())
    except (FileNotFoundError, ValueError):
        return Text("No demo is running. In the other shell: workshop demo", "dim")
    parts, at = state["scenes"], state["at"]
    scene, minutes = parts[at], [part["minutes"] for part in parts]
    gone = (time.time() - state["began"]) / 60
    end = sum(minutes[: at + 1])  # when this scene should be over
    late = gone - end
    when = Text(f"{gone:.1f} of {sum(minutes):g} min", "bold")
    when.append(f"   this until {end:g}   ", "dim")
    if late > 0:
        when.append(f"{late:.1f} min late", "bold red")
    rows = Table.grid(padding=(1, 0))
    rows.add_row(when)
    rows.add_row(Text(f"{at + 1}/{len(parts)}  {scene['title']}", "bold yellow"))
    rows.add_row(Text(scene["say"]))
    for number, (command, _) in enumerate(scene["run"]):
        now = number == state["command"] and not state["ran"]
        style = "bold green" if now else "dim"
        rows.add_row(Text(f"# {command}", style))
    if state["wrong"]:
        rows.add_row(
            Text("That was not what it should show: r repeats it.", "bold red")
        )
    after = parts[at + 1]["title"] if at + 1 < len(parts) else "the end"
    rows.add_row(Text(f"then: {after}", "dim"))
    return rows
