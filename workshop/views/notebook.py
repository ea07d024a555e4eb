"""A container and its host, as a table for a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence

from rich.console import Console

from workshop import containers, inspection
from workshop.containers import Container
from workshop.errors import Failure
from workshop.inspection import Picture
from workshop.terminal import printable
from workshop.views import text

LINE = 64  # characters that a column has room for

# JupyterLab has the colours of its theme, light or dark, as variables. Elsewhere the text
# has the colour of the text around it.
STYLE = """
<style>
.workshop-inspect { border-collapse: collapse; font: 12px/1.45 monospace; }
.workshop-inspect caption { text-align: left; font-weight: bold; padding: 4px 8px; }
.workshop-inspect :is(th, td) {
  text-align: left !important; vertical-align: top; white-space: pre; padding: 3px 8px; }
.workshop-inspect tr { border-top: 1px solid var(--jp-border-color2, #8886);
  background: none !important; }
.workshop-inspect .own { border-left: 4px solid var(--jp-success-color1, #3a3); }
.workshop-inspect .shared { border-left: 4px solid var(--jp-warn-color1, #e90);
  opacity: 0.75; }
</style>
"""


class Page:
    """A picture that a notebook shows as HTML, or else as text."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    def __repr__(self) -> str:
        console = Console(width=text.WIDTH, color_system=None, force_jupyter=False)
        with console.capture() as capture:
            console.print(text.drawing(self.picture))
        drawn: str = capture.get()
        return drawn

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{row.name}</th><td>{_cell(row.host)}</td>"
            f'<td class="{"own" if row.own else "shared"}">{_cell(row.inside)}</td></tr>'
            for row in self.picture.rows
        )
        return (
            f'{STYLE}<table class="workshop-inspect">'
            f"<caption>{html.escape(printable(self.picture.title))}</caption>"
            f"<tr><th></th><th>host</th><th>container</th></tr>{rows}</table>"
        )


def _cell(lines: Sequence[str]) -> str:
    """Returns lines as HTML. Lines that are too long are cut."""
    cut = []
    for line in map(printable, lines):
        cut.append(line if len(line) <= LINE else line[: LINE - 1] + "…")
    return html.escape("\n".join(cut))


def picture(container: int | str | Container | None = None) -> Page:
    """Returns the picture of a container, given as a pid or a host name; None means the only
    one that is running. Raises Failure if there is no such container, or if several could be
    meant."""
    if container is None:
        container = containers.only()
        if container is None:
            pids = ", ".join(str(one.pid) for one in containers.running())
            raise Failure(
                f"several containers are running: give one of the pids {pids}"
            )
    if not isinstance(container, Container):
        container = containers.find(str(container))
    return Page(inspection.look(container))
