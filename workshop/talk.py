"""A talk on the stage: types the commands of its scenes as if by hand, and runs them when the
speaker presses a key. It saves where it is for the speaker's second screen."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pexpect
from rich.text import Text

from workshop.errors import UNREADABLE
from workshop.scenes import Command, Scene
from workshop.terminal import QUIT, console, next_key
from workshop.workspace import write

SAVED = Path("/run/workshop-demo.json")
FORWARD = {"\n", "\r", " ", "\x1b[6~", "\x1b[C"}  # Enter, Space, Page Down, right arrow
BACK = {"b", "\x1b[5~", "\x1b[D"}  # b, Page Up, left arrow
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Quit(Exception):
    """The speaker has ended the talk."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in a talk: the indices of a scene and of one of its commands."""

    scene: int
    command: int


@dataclasses.dataclass(frozen=True)
class State:
    """Where a talk is: what the second screen needs to know."""

    scenes: list[Scene]
    place: Place
    began: float  # seconds since the epoch
    ran: bool  # whether the command has run
    wrong: bool  # whether its output did not match its pattern

    def save(self) -> None:
        write(SAVED, json.dumps(dataclasses.asdict(self)).encode(), 0o600)

    @classmethod
    def load(cls) -> State | None:
        """Returns the state of the running talk, or None if there is none."""
        try:
            saved: dict[str, Any] = json.loads(SAVED.read_bytes())
            scenes = []
            for scene in saved.pop("scenes"):
                commands = tuple(Command(**known) for known in scene.pop("commands"))
                scenes.append(Scene(**scene, commands=commands))
            return cls(scenes, Place(**saved.pop("place")), **saved)
        except (FileNotFoundError, *UNREADABLE):  # another version may have written it
            return None


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """A command whose output did not match its pattern."""

    command: Command
    output: str


class Talk:
    """A talk. places: all of its places, in order; a place is given by its index there."""

    def __init__(self, scenes: list[Scene], auto: bool = False):
        """auto: do not wait for keys, nor type slowly."""
        self.scenes, self.auto = scenes, auto
        self.out, self.began = console(), time.time()
        self.places = [
            Place(number, command)
            for number, scene in enumerate(scenes)
            for command in range(max(len(scene.commands), 1))
        ]
        self.mismatches: list[Mismatch] = []

    def play(self) -> None:
        """Plays from the first place to the last, as the keys say. Raises Quit."""
        at = 0
        while at < len(self.places):
            at = self._show(at)

    def run(self, scene: Scene, command: Command) -> str:
        """Runs a command, with this terminal as its own. Returns its output as plain text."""
        quietly(scene.before)
        size = shutil.get_terminal_size()
        shell = pexpect.spawn(
            "/bin/bash",
            ["-c", command.line],
            dimensions=(size.lines, size.columns),
            env=os.environ | {"TIMEFORMAT": "real %1R s, user %1U s"},
            timeout=None,
        )
        output = bytearray()

        def keep(data: bytes) -> bytes:
            output.extend(data)
            return data

        sys.stdout.flush()
        if not self.auto:
            before = signal.signal(
                signal.SIGWINCH,
                lambda *_: shell.setwinsize(*shutil.get_terminal_size()[::-1]),
            )
            shell.interact(escape_character=None, output_filter=keep)
            signal.signal(signal.SIGWINCH, before)
        # All of it with auto; otherwise what interact() did not read before the end.
        while data := read_output(shell):
            os.write(1, keep(data))
        shell.close()
        quietly(scene.after)
        return ESCAPES.sub("", output.decode(errors="replace"))

    def save(self, at: int, ran: bool = False, wrong: bool = False) -> None:
        """Saves the state of the talk for the second screen."""
        State(self.scenes, self.places[at], self.began, ran, wrong).save()

    def first_of_scene(self, at: int) -> int:
        """Returns the first place of the scene that a place is in."""
        return self.places.index(Place(self.places[max(at, 0)].scene, 0))

    def _show(self, at: int) -> int:
        """Shows a place. Returns the next one."""
        place = self.places[at]
        scene = self.scenes[place.scene]
        self.save(at)
        if place.command == 0:
            self._title(scene)
        if not scene.commands:
            to = self._choose(at)
            return at + 1 if to is None else to
        command = scene.commands[place.command]
        self._prompt()
        to = self._choose(at)
        if to is None:
            self._type(command)
            to = self._choose(at)
            print()
        return self._run_until_done(at) if to is None else to

    def _run_until_done(self, at: int) -> int:
        """Runs the command at a place, once or as often as the speaker repeats it. Returns
        the next place."""
        place = self.places[at]
        scene = self.scenes[place.scene]
        command = scene.commands[place.command]
        while True:
            output = self.run(scene, command)
            right = command.accepts(output)
            if not right:
                self.mismatches.append(Mismatch(command, output))
            self.save(at, ran=True, wrong=not right)
            if place.command + 1 < len(scene.commands):
                return at + 1  # its prompt waits for a key
            to = self._choose(at, has_run=True)
            if to != at:
                return at + 1 if to is None else to
            self._title(scene)
            self._prompt()
            self._type(command)
            print()

    def _title(self, scene: Scene) -> None:
        if not self.auto:
            self.out.clear()
        self.out.print()
        self.out.print(Text(f"  {scene.lesson[1]} · {scene.title}", "bold yellow"))
        self.out.print()

    def _prompt(self) -> None:
        self.out.print(Text("  # ", "bold green"), end="")

    def _type(self, command: Command) -> None:
        """Prints a command letter by letter, as if somebody typed it."""
        print("\x1b[1m", end="")
        for letter in command.line:
            print(letter, end="", flush=True)
            time.sleep(0 if self.auto else 0.03)
        print("\x1b[m", end="", flush=True)

    def _choose(self, at: int, has_run: bool = False) -> int | None:
        """Waits for a key. Returns the place to go to, or None to go on. Raises Quit.
        has_run: the command at this place has run, so it is the one that r repeats."""
        while not self.auto:
            key = next_key()
            if key in FORWARD:
                return None
            if key in BACK:
                return self.first_of_scene(at - 1)
            if key == "s":
                return at + 1
            if key == "r":
                return at if has_run else max(at - 1, 0)
            if key == "j":
                return self._jump(at)
            if key in QUIT:
                raise Quit
        return None

    def _jump(self, at: int) -> int:
        """Asks for a scene. Returns its place, or this scene's if there is no such scene."""
        self.out.print()
        for number, scene in enumerate(self.scenes):
            self.out.print(Text(f"  {number:2}  {scene.lesson[1]} · {scene.title}"))
        self.out.print(Text("  to which? ", "bold yellow"), end="")
        sys.stdout.flush()
        digits = ""
        while (key := next_key() or "").isascii() and key.isdigit():
            digits += key
            print(key, end="", flush=True)
        if digits and int(digits) < len(self.scenes):
            return self.places.index(Place(int(digits), 0))
        return self.first_of_scene(at)


def read_output(shell: Any) -> bytes:
    """Returns what a command prints next, or b"" at its end. shell: a pexpect.spawn."""
    try:
        data: bytes = shell.read_nonblocking(4096, timeout=None)
        return data
    except pexpect.EOF:
        return b""


def quietly(line: str | None) -> None:
    """Runs a shell command, if there is one, without input or output."""
    if line:
        subprocess.run(
            ["/bin/bash", "-c", line], stdin=subprocess.DEVNULL, capture_output=True
        )
