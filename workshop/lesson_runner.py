"""Runs the lessons as they are, for slides and for the tests.

The cells' metadata say what a learner does between the cells: see run().
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workshop.project import PROJECT
from workshop.workspace import Workspace

TIMEOUT = 600  # seconds that a cell may take: a whole check in an emulated VM
OUTPUT_TIMEOUT = 120  # seconds that its output may take after the end of the cell


@contextlib.contextmanager
def temporary_workspace() -> Iterator[Workspace]:
    """Yields an empty Workspace, which is the current one in the block, so that the real my/
    stays as it is. As with the real one, steps/ is next to it, and users other than root can
    read it, because some facts are about them."""
    before = os.environ.get("WORKSHOP_MY")
    with tempfile.TemporaryDirectory() as name:
        parent = Path(name)
        parent.chmod(0o755)
        workspace = Workspace(parent / "my")
        workspace.folder.mkdir()
        (parent / "steps").symlink_to(PROJECT / "steps")
        os.environ["WORKSHOP_MY"] = str(workspace.folder)
        try:
            yield workspace
        finally:
            del os.environ["WORKSHOP_MY"]
            if before is not None:
                os.environ["WORKSHOP_MY"] = before


def run(path: Path, workspace: Workspace) -> Any:
    """Runs a lesson in a new kernel, whose current Workspace must be `workspace`. Returns
    nbformat's notebook, with the outputs. A cell that raises does not stop it.

    Before a cell whose metadata name a step under "learner", that step's runtime replaces
    the learner's, as if they had written it. A cell with "only" checks fewer facts: those
    with this word in their names.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)

    def play_the_learner(cell: Any, cell_index: int) -> None:
        if step := cell.metadata.get("learner"):
            if not workspace.container.exists():
                raise ValueError(f"cell {cell.id}: {workspace.name} does not exist yet")
            shutil.copy(PROJECT / "steps" / step / "container.py", workspace.folder)
        if word := cell.metadata.get("only"):
            if "!workshop check" not in cell.source.splitlines()[-1]:
                raise ValueError(f"cell {cell.id}: its last line checks nothing")
            cell.source += f" --only {word}"

    # Output arrives on a channel of its own, late if the machine is busy. nbclient waits for it
    # 4 seconds after the cell's end, and then goes on without it.
    NotebookClient(
        notebook,
        timeout=TIMEOUT,
        iopub_timeout=OUTPUT_TIMEOUT,
        raise_on_iopub_timeout=True,
        kernel_name="python3",
        allow_errors=True,
        on_cell_execute=play_the_learner,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    return notebook
