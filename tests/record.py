#!/usr/bin/env python3
"""Records a container being made, as the picture of the README: docs/images/container.svg.

    sudo tests/record.py

It really runs the commands, which are scenes of `workshop demo`, on this machine's own kernel,
in the namespaces of tests/native.py. So this machine needs what that script needs.
"""

import html
import os
import pathlib
import subprocess
import sys
from dataclasses import dataclass

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
import native

PICTURE = PROJECT / "docs" / "images" / "container.svg"

# What the picture shows: a caption, and a command that is in a scene of the demo. None of them
# needs cgroups or a bridge, and all print the same on every machine, apart from numbers.
SHOTS = [
    (
        "Lesson 1 is done. Its container can still kill every process of the host:",
        "steps/02_pid/breakout.py steps/01_uts/container.py",
    ),
    (
        "Lesson 2 adds one line of Python. The same attack again:",
        "steps/02_pid/breakout.py steps/02_pid/container.py",
    ),
    (
        "Lesson 3 gives the container its own files. It sees one process, itself:",
        "steps/03_mnt/container.py run debian ps -e",
    ),
    (
        "Lesson 5: root in the container is user 100000 on the host:",
        "steps/05_user/container.py run --net none debian sh -c 'id; cat /proc/self/uid_map'",
    ),
]

TITLE = "A container, made step by step in a terminal"
# In pixels. A character of a monospaced font is 0.6 times as wide as its size.
SIZE, LINE, MARGIN = 15, 22, 20
COLUMNS = 88
# In seconds: for a key, before the output, for a line to read, and after each command.
KEY, RUNS, READ, PAUSE = 0.025, 0.4, 0.5, 1.0
STYLE = """\
    .page { fill: #ffffff; stroke: #d0d7de }
    text { fill: #1f2328; white-space: pre;
      font: 15px ui-monospace, SFMono-Regular, Menlo, Consolas, 'Liberation Mono', monospace }
    .caption { fill: #57606a; font-style: italic }
    .prompt, .stopped { fill: #116329; font-weight: bold }
    .command { font-weight: bold }
    .broken { fill: #a40e26; font-weight: bold }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; stroke: #30363d }
      text { fill: #e6edf3 }
      .caption { fill: #a5b0bb }
      .prompt, .stopped { fill: #56d364 }
      .broken { fill: #ff7b72 }
    }
    @media (prefers-reduced-motion: no-preference) {
      text { animation: appear 0.01s backwards }
      .command { animation-name: type }
      @keyframes appear { from { opacity: 0 } }
      @keyframes type { from { clip-path: inset(0 100% 0 0) } to { clip-path: inset(0) } }
    }
"""


@dataclass(frozen=True)
class Shot:
    """A command that was run, and what it printed."""

    caption: str
    command: str
    output: tuple[str, ...]  # lines


def play() -> list[Shot]:
    """Runs the commands as the demo does. Returns what they printed. Raises ValueError if a
    command is in no scene, or prints something that the scene does not expect."""
    from workshop.scenes import scenes
    from workshop.talk import Talk

    known = {c.line: (scene, c) for scene in scenes("90") for c in scene.commands}
    talk, shots = Talk([], auto=True), []
    for caption, line in SHOTS:
        if line not in known:
            raise ValueError(f"the demo has no command {line!r}")
        scene, command = known[line]
        output = talk.run(scene, command)
        if not command.accepts(output):
            raise ValueError(f"{line!r} printed {output!r}")
        shots.append(Shot(caption, line, tuple(output.rstrip().splitlines())))
    return shots


def text(css: str, line: str, row: int, column: int, style: str) -> str:
    """Returns a line of text in SVG. style: when it appears."""
    x, y = MARGIN + column * SIZE * 0.6, MARGIN + (row + 1) * LINE - 7
    wide = len(line) * SIZE * 0.6
    return (
        f'  <text class="{css}" x="{x:g}" y="{y}" textLength="{wide:g}" '
        f'style="{style}">{html.escape(line, quote=False)}</text>\n'
    )


def picture(shots: list[Shot]) -> str:
    """Returns the shots as an SVG. Without its animation it shows the last state, which has
    everything."""
    rows, row, at = [], 0, 0.5
    for shot in shots:
        delay = f"animation-delay:{at:.2f}s"
        rows.append(text("caption", shot.caption, row, 0, delay))
        rows.append(text("prompt", "#", row + 1, 0, delay))
        keys, at = len(shot.command), at + PAUSE
        typing = (
            f"animation-delay:{at:.2f}s;animation-duration:{keys * KEY:.2f}s;"
            f"animation-timing-function:steps({keys})"
        )
        rows.append(text("command", shot.command, row + 1, 2, typing))
        at += keys * KEY + RUNS
        row += 2
        for line in shot.output:
            starts = {"BROKEN": "broken", "stopped": "stopped"}
            css = starts.get(line.partition(" ")[0], "output")
            rows.append(text(css, line, row, 0, f"animation-delay:{at:.2f}s"))
            row += 1
        at += PAUSE + READ * len(shot.output)
        row += 1
    width = COLUMNS * SIZE * 0.6 + 2 * MARGIN
    height = (row - 1) * LINE + 2 * MARGIN
    seen = " ".join(f"{s.caption} {s.command}: {'; '.join(s.output)}." for s in shots)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" '
        'role="img" aria-labelledby="title desc">\n'
        f'  <title id="title">{TITLE}</title>\n'
        f'  <desc id="desc">{html.escape(seen, quote=False)}</desc>\n'
        f"  <style>\n{STYLE}  </style>\n"
        f'  <rect class="page" x="1" y="1" width="{width - 2:g}" height="{height - 2}" '
        'rx="10" stroke-width="2"/>\n' + "".join(rows) + "</svg>\n"
    )


def main() -> int:
    """Records in new namespaces, and writes the picture. Returns the exit status."""
    if os.geteuid() != 0:
        sys.exit(f"{sys.argv[0]}: starts containers, so it needs root: try sudo")
    native.prepare()
    with native.folder() as run:
        words: list[str | os.PathLike[str]]
        words = ["cp", "-a", "--reflink=auto", native.ROOTS, run / "state"]
        subprocess.run(words, check=True)
        words = [*native.DIES_WITH_US, "unshare", *native.NAMESPACES, "--fork"]
        words += ["--kill-child", "--mount-proc", native.OWN / "local/venv/bin/python"]
        words += ["-B", __file__, "--inside", run]
        subprocess.run(words, check=True)
        PICTURE.write_text((run / "picture.svg").read_text())
    print(f"wrote {PICTURE.relative_to(PROJECT)}")
    return 0


def inside(run: pathlib.Path) -> None:
    """Plays in the namespaces of main(). Writes the picture to `run`."""
    native.build(run)
    os.chdir(PROJECT)
    (run / "picture.svg").write_text(picture(play()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(pathlib.Path(sys.argv[2]))
    else:
        sys.exit(main())
