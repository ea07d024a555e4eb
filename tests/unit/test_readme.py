"""The README's first screen: the picture, the line of Python and the numbers."""

import difflib
import re
import xml.etree.ElementTree as ElementTree

import lesson_times
import record
from runtime import PROJECT, STEPS
from source import code_lines

from workshop.scenes import scenes

README = (PROJECT / "README.md").read_text()
SVG = record.PICTURE.read_text()
SPACE = "{http://www.w3.org/2000/svg}"


def lines_of_picture():
    """Returns the text of the picture, as pairs of a CSS class and a line."""
    root = ElementTree.fromstring(SVG)
    return [(one.get("class"), one.text) for one in root.iter(f"{SPACE}text")]


def test_picture_has_the_commands_of_the_demo_and_output_that_their_scenes_expect():
    known = {c.line: c for scene in scenes("90") for c in scene.commands}
    shown: dict[str, list[str]] = {}
    for css, line in lines_of_picture():
        if css == "command":
            shown[line] = []
        elif css not in ("caption", "prompt"):
            shown[[*shown][-1]].append(line)
    assert [*shown] == [command for _, command in record.SHOTS]
    for command, output in shown.items():
        assert known[command].accepts("\n".join(output)), command


def test_picture_is_small_fits_its_frame_and_loads_nothing():
    assert len(SVG) < 60_000
    for css, line in lines_of_picture():
        assert len(line) + 2 * (css == "command") <= record.COLUMNS, line
    assert re.findall(r"https?://[^\"]+|url\(|@import|<script", SVG) == [SPACE[1:-1]]


def test_picture_can_be_seen_in_the_dark_without_motion_and_by_those_who_cannot_see():
    assert "@media (prefers-color-scheme: dark)" in SVG
    before, _, animated = SVG.partition(
        "@media (prefers-reduced-motion: no-preference)"
    )
    assert "animation" in animated and "animation" not in before
    root = ElementTree.fromstring(SVG)
    assert root.find(f"{SPACE}title").text and root.find(f"{SPACE}desc").text
    path = record.PICTURE.relative_to(PROJECT)
    alternative = re.search(rf"!\[([^\]]*)\]\({path}\)", README)[1]
    for css, line in lines_of_picture():
        if css == "broken" or css == "stopped":
            assert line.split()[0].lower() in alternative.lower()


def test_readme_shows_the_whole_difference_of_step_02():
    shown = re.search(r"```diff\n(.*?)```", README, re.DOTALL)[1].splitlines()
    before, after = code_lines(STEPS[1]), code_lines(STEPS[2])
    changes = [
        line for line in difflib.ndiff(before, after) if line.startswith(("+", "-"))
    ]
    marked = [line for line in shown if line.startswith(("+", "-"))]
    assert [line.replace(" ", "") for line in marked] == [
        line.replace(" ", "") for line in changes
    ]
    # The lines around it are the lines around it.
    context = [line[1:].strip() for line in shown if line.startswith(" ")]
    assert context and {*context} <= {line.strip() for line in after}


def test_readme_counts_the_lines_beside_the_container():
    helpers = [*(PROJECT / "steps").glob("*.py")]
    used = {"linux", "process", *imported("process", helpers)}
    counts = {p.stem: len(code_lines(p)) for p in helpers if p.stem in used}
    network = (PROJECT / "steps/network.sh").read_text().splitlines()
    shell = [line for line in network if line.strip() and line.strip()[0] != "#"]
    check = code_lines(PROJECT / "steps/network_check.py")
    assert len(check) > len(shell)
    true = [counts.pop("linux"), sum(counts.values()), len(shell) + len(check)]
    said = re.findall(r"about\s(\d+)\slines", README)
    assert list(map(int, said)) == [round(lines, -2) for lines in true]
    assert counts.pop("process") and len(counts) == 7  # "seven small modules"
    assert "seven small modules" in " ".join(README.split())


def imported(name, helpers):
    """Returns the helpers that a helper imports, and those that these import."""
    names, found, todo = {p.stem for p in helpers}, set(), [name]
    while todo:
        source = (PROJECT / "steps" / f"{todo.pop()}.py").read_text()
        new = {
            word
            for line in re.findall(r"^ *(?:import|from) (.+)", source, re.MULTILINE)
            for word in re.findall(r"\w+", line.partition(" import")[0])
        }
        todo += (new & names) - found
        found |= new & names
    return found


def test_first_screen_has_the_commands_the_picture_the_line_and_the_attacks():
    screen = "\n".join(README.splitlines()[:40])
    for part in "git clone", "./lab up", "./lab test", "![", "```diff", "07_overlay":
        assert part in screen
    assert "For whom?" in screen and "How long?" in screen
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    assert lesson_times.words(prose) < 600
