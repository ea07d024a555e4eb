"""A container and its host, as a table for a terminal."""

from __future__ import annotations

from itertools import zip_longest

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from workshop import inspection
from workshop.containers import host_name, running
from workshop.inspection import Picture
from workshop.terminal import printable

COLUMNS = 7, 36, inspection.WIDTH  # the row's name, the host, the container
WIDTH = 100  # of all columns, with the space between them


def drawing(picture: Picture, hint: str = "") -> Table:
    """Returns the table of a picture. The hint, such as which key to press, comes at its
    top."""
    grid = Table(
        title=Text(
            printable(picture.title), no_wrap=True, overflow="ellipsis", style="bold"
        ),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    heads = "", "host", "container" + hint
    # On a narrow terminal, only the container's column is cut.
    for head, width in zip(heads, COLUMNS, strict=True):
        grid.add_column(head, max_width=width, no_wrap=True, overflow="ellipsis")
    grid.columns[0].min_width, grid.columns[1].min_width = COLUMNS[:2]
    for row in picture.rows:
        style = "green" if row.own else "yellow"
        name = Text(row.name, style=f"bold {style}")
        for host, inside in zip_longest(row.host, row.inside, fillvalue=""):
            grid.add_row(name, Text(printable(host)), Text(printable(inside), style))
            name = Text()
    return grid


def listing() -> Table:
    """Returns a table of the containers that are running."""
    title = "Several containers are running. Choose one: workshop inspect PID"
    grid = Table(box=SIMPLE_HEAD, title=title)
    for column in ["pid", "host name", "its runtime"]:
        grid.add_column(column)
    for container in running():
        grid.add_row(
            str(container.pid),
            Text(printable(host_name(container))),
            Text(printable(container.title()), no_wrap=True, overflow="ellipsis"),
        )
    return grid
