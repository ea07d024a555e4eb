"""The speaker's second screen: what to say now, and whether the talk is on time."""

from __future__ import annotations

import time

from rich.console import RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from workshop.talk import State
from workshop.terminal import QUIT, keys_one_by_one, next_key


def show() -> None:
    """Shows the notes of the running talk, until somebody presses q or Ctrl-C."""
    with keys_one_by_one(), Live(screen=True, auto_refresh=False) as live:
        while True:
            live.update(Padding(notes(State.load(), time.time()), 1), refresh=True)
            if next_key(0.5) in QUIT:
                return


def notes(state: State | None, now: float) -> RenderableType:
    """Returns what the speaker needs to know. now: seconds since the epoch."""
    if state is None:
        return Text("No demo is running. In the other shell: workshop demo", "dim")
    at = state.place.scene
    scene = state.scenes[at]
    rows = Table.grid(padding=(1, 0))
    rows.add_row(clock(state, now))
    rows.add_row(Text(f"{at + 1}/{len(state.scenes)}  {scene.title}", "bold yellow"))
    rows.add_row(Text(scene.say))
    for number, command in enumerate(scene.commands):
        next_up = number == state.place.command and not state.ran
        rows.add_row(Text(f"# {command.line}", "bold green" if next_up else "dim"))
    if state.wrong:
        text = "That was not the expected output: r repeats the command."
        rows.add_row(Text(text, "bold red"))
    after = state.scenes[at + 1].title if at + 1 < len(state.scenes) else "the end"
    rows.add_row(Text(f"then: {after}", "dim"))
    return rows


def clock(state: State, now: float) -> Text:
    """Returns the time: how much of it has passed, when this scene should end, and how late
    the talk is."""
    minutes = [scene.minutes for scene in state.scenes]
    gone = (now - state.began) / 60
    end = sum(minutes[: state.place.scene + 1])
    text = Text(f"{gone:.1f} of {sum(minutes):g} min", "bold")
    text.append(f"   this scene until {end:g}   ", "dim")
    if gone > end:
        text.append(f"{gone - end:.1f} min late", "bold red")
    return text
