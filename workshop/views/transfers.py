"""What arrives and what is sent: bars while it happens, and a summary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from workshop.terminal import count, printable
from workshop.transfers import Arrival, Report, Stage


@contextlib.contextmanager
def bars(console: Console) -> Iterator[Report]:
    """Draws a bar for each stage of a transfer during the block, if this is a terminal. Yields
    the function that takes the stages."""
    progress = Progress(
        TextColumn("{task.description:>6}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[layers]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        # No thread may run when the process that unpacks is forked.
        auto_refresh=False,
    )
    tasks: dict[str, TaskID] = {}

    def report(stage: Stage) -> None:
        if stage.name not in tasks:
            tasks[stage.name] = progress.add_task(stage.name, layers="")
        done, total = stage.layers or (0, 0)
        progress.update(
            tasks[stage.name],
            completed=stage.done,
            total=stage.total,
            layers=f"{done} of {count(total, 'layer')}" if total else "",
            refresh=True,
        )

    with progress:
        yield report


def arrived(name: str, arrival: Arrival) -> Text:
    """Returns a line about an image that has arrived."""
    layers = count(len(arrival.stack), "layer")
    if arrival.fetched or arrival.unpacked:
        size = decimal(sum(layer.size() for layer in arrival.stack))
        new, fetched = f"{arrival.unpacked} of them new", decimal(arrival.fetched)
        return Text(f"image {name}: {layers}, {new}, {size} on disk; {fetched} fetched")
    reference = printable(arrival.origin.reference)
    return Text(f"image {name}: {layers}, all here already, as in {reference}")
