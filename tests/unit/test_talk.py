"""A talk, as the lessons' metadata describe it, without playing it."""

import io
import subprocess
import sys

import pytest
from rich.console import Console
from runtime import PROJECT

from workshop import speaker_notes, talk
from workshop.commands import demo
from workshop.errors import Failure
from workshop.scenes import CUTS, Command, Scene, scenes
from workshop.talk import Place, State, Talk

QUIET = Scene("00", "Quiet", 1, "Say nothing.")
BUSY = Scene(
    "00", "Busy", 2, "Say much.", (Command("echo 1", "1"), Command("echo 2", "2"))
)


@pytest.mark.parametrize("cut", CUTS)
def test_the_scenes_of_a_cut_take_its_minutes(cut):
    assert sum(scene.minutes for scene in scenes(cut)) == float(cut)


@pytest.mark.parametrize("cut", CUTS)
def test_docs_speaking_has_the_outline_of_a_cut(cut, capsys):
    assert demo.main(["--outline", "--minutes", cut]) == 0
    assert capsys.readouterr().out in (PROJECT / "docs/speaking.md").read_text()


def test_scenes_are_those_of_the_lessons_asked_for():
    of_lesson_3 = [scene for scene in scenes("90") if scene.lesson == "03"]
    assert scenes("90", ["3"]) == of_lesson_3 != []
    with pytest.raises(Failure, match="no lesson 12"):
        scenes("20", ["12"])


def test_going_back_leads_to_the_start_of_a_scene():
    played = Talk([BUSY, QUIET, BUSY], auto=True)
    pairs = [(place.scene, place.command) for place in played.places]
    assert pairs == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert [played.first_of_scene(at) for at in (-1, 0, 1, 2, 4)] == [0, 0, 0, 2, 3]


def test_state_of_a_talk_survives_being_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(talk, "SAVED", tmp_path / "state.json")
    assert State.load() is None
    Talk([BUSY, QUIET], auto=True).save(1, ran=True)
    state = State.load()
    assert (
        state.scenes[0].title == "Busy" and state.scenes[0].commands[1].line == "echo 2"
    )
    assert state.place == Place(0, 1) and state.ran and not state.wrong


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"scenes": 3}', '{"scenes": [{}]}', "1"]
)
def test_unreadable_state_is_no_talk(text, tmp_path, monkeypatch):
    monkeypatch.setattr(talk, "SAVED", tmp_path / "state.json")
    talk.SAVED.write_text(text)
    assert State.load() is None


def test_second_screen_shows_the_next_command_and_the_delay():
    state = State([BUSY, QUIET], Place(0, 1), began=0, ran=False, wrong=True)
    out = io.StringIO()
    Console(file=out, width=80).print(speaker_notes.notes(state, now=150))
    shown = out.getvalue()
    assert "2.5 of 3 min" in shown and "0.5 min late" in shown, shown
    assert "Say much." in shown and "then: Quiet" in shown, shown
    assert "r repeats the command" in shown, shown


def test_keys_end_with_the_input():
    script = (
        "from workshop.terminal import next_key; print([next_key() for _ in '123'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], input=b"b\x1b", capture_output=True, timeout=20
    )
    assert done.stdout == b"['b', '\\x1b', '']\n", done


def test_cut_of_45_minutes_runs_the_commands_of_the_one_of_90():
    """Therefore tests/guide/test_demo.py plays only the longer one."""
    assert [s.commands for s in scenes("45")] == [s.commands for s in scenes("90")]
