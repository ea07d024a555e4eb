"""The difference between two versions of a runtime, for a terminal or a notebook."""

from __future__ import annotations

import collections
import difflib
import html

from rich.text import Text

from workshop.project import Step

STYLES = {
    "file": "bold",
    "place": "cyan",
    "added": "green",
    "removed": "red",
    "same": "",
}
STYLE = """
<style>
.workshop-diff summary { cursor: pointer; }
.workshop-diff .file { font-weight: bold; }
.workshop-diff .place { --hue: var(--jp-info-color1, #0097a7); }
.workshop-diff .added { --hue: var(--jp-success-color1, #388e3c); }
.workshop-diff .removed { --hue: var(--jp-error-color1, #d32f2f); }
.workshop-diff span { /* nearer to the text's colour, to be legible in light and dark */
  color: color-mix(in srgb, var(--hue, currentcolor) 70%, var(--jp-content-font-color0, #000)); }
</style>
"""


class Diff:
    """A unified diff of two texts: in colour on a terminal, folded in a notebook."""

    def __init__(self, old: str, new: str, old_name: str, new_name: str):
        lines = old.splitlines(), new.splitlines()
        self.lines = list(
            difflib.unified_diff(*lines, old_name, new_name, n=2, lineterm="")
        )
        self.name = new_name

    @classmethod
    def of_step(cls, step: Step) -> Diff:
        """Returns what a step changes in the runtime of the step before it."""
        before = step.previous
        return cls(
            before.container.read_text() if before else "",
            step.container.read_text(),
            f"steps/{before.name}" if before else "nothing",
            f"steps/{step.name}",
        )

    def __repr__(self) -> str:
        return "\n".join(self.lines)

    def __rich__(self) -> Text:
        return Text("\n").join(Text(line, STYLES[kind(line)]) for line in self.lines)

    def _repr_html_(self) -> str:
        rows = "\n".join(
            f'<span class="{kind(line)}">{html.escape(line)}</span>'
            for line in self.lines
        )
        kinds = collections.Counter(map(kind, self.lines))
        return (
            f"{STYLE}<details class='workshop-diff'><summary>{self.name}: "
            f"{kinds['added']} lines added, {kinds['removed']} removed. "
            f"Try it yourself first, then unfold this.</summary><pre>{rows}</pre></details>"
        )


def kind(line: str) -> str:
    """Returns what a line of a unified diff is, as a key of STYLES."""
    starts = {"---": "file", "+++": "file", "@": "place", "+": "added", "-": "removed"}
    return next((k for start, k in starts.items() if line.startswith(start)), "same")
