"""The magics that `%load_ext workshop` adds to a notebook: %%box, %boxes, %inspect and %diff.

A box is a cell process (workshop/cell_process.py) with a name: a place for system calls typed
by hand. One cell changes something inside, and the next, a plain one, looks at it from
outside. A box starts with a copy of the notebook's variables; what it changes stays inside.
"""

from __future__ import annotations

import os
from typing import Any

import pexpect
from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from workshop.cell_process import TIMEOUT, CellProcess
from workshop.cell_runner import Cell
from workshop.containers import Container
from workshop.diffs import Diff
from workshop.errors import Failure
from workshop.namespaces import KINDS
from workshop.project import PROJECT, find_step
from workshop.spawn import Spawn
from workshop.views.notebook import picture
from workshop.workspace import Workspace


class Magics:
    """The magics of one notebook, and its boxes."""

    def __init__(self, shell: Any):
        """shell: the notebook's InteractiveShell."""
        self.shell = shell
        self.boxes: dict[str, CellProcess] = {}

    def box(self, line: str, cell: str) -> None:
        """Runs a cell in a box: a process in new namespaces that lives on between cells.

        %%box NAME [--ns uts,pid,...] [--timeout SECONDS] [--once]

        --ns starts the box, in these new namespaces ("none": in none); without it, the box
        must be running. --timeout: the seconds after which the box is ended (60). --once
        ends the box after this cell.
        """
        options = box_parser().parse_argstring(line)
        box = self._box(options.name, options.ns)
        # An empty line in the place of the %%box line, so that tracebacks count right.
        source = "\n" + self.shell.transform_cell(cell)
        number = len(self.shell.user_ns["In"]) - 1
        try:
            box.run(Cell(source, number, f"%%box {line}\n{cell}"), options.timeout)
        finally:
            if options.once:
                box.end()

    def _box(self, name: str, wanted: str | None) -> CellProcess:
        """Returns the box with this name. Starts it if it is not running, and if `wanted`
        says in which namespaces. Raises UsageError if that is not possible."""
        box = self.boxes.get(name)
        if box and not box.alive():
            box = None
        if wanted is None:
            if box is None:  # a guess could let the cell loose on the host
                raise UsageError(
                    f"No box {name!r} is alive. Run the cell that starts it, which is the "
                    f"one with --ns, or start it here: %%box {name} --ns uts (or other "
                    "namespaces, or none)"
                )
            return box
        namespaces = parse_namespaces(wanted)
        if box and box.namespaces != namespaces:
            raise UsageError(
                f"Box {name!r} is already running, with other namespaces. End it first: "
                f"%boxes end {name}"
            )
        if box is None:
            others = self.boxes.values()
            box = self.boxes[name] = CellProcess(name, namespaces, self.shell, others)
        return box

    def list_or_end_boxes(self, line: str) -> None:
        """%boxes lists the boxes that are alive. %boxes end [NAME...] ends these, or all."""
        action, *names = line.split() or ["list"]
        if action not in ("list", "end") or (action == "list" and names):
            raise UsageError("Usage: %boxes, or %boxes end [NAME...]")
        for name, box in list(self.boxes.items()):
            if not box.alive():
                del self.boxes[name]
            elif action == "end" and name in (names or [name]):
                box.end()
                del self.boxes[name]
            elif action == "list":
                new = [kind for kind in KINDS if kind in box.namespaces]
                print(
                    f"{name}: pid {box.pid}, new namespaces: {', '.join(new) or 'none'}"
                )
        if action == "list" and not self.boxes:
            print("No box is alive.")

    def end_boxes(self) -> None:
        """Ends all boxes."""
        for box in self.boxes.values():
            box.end()
        self.boxes.clear()

    def inspect(self, line: str) -> Any:
        """%inspect [BOX, PID or HOST NAME] shows a container and its host side by side."""
        name = line.strip()
        try:
            box = self.boxes.get(name)
            if box and box.alive() and box.pid:
                return picture(Container(box.keeper, box.pid, ("%%box", name)))
            return picture(name or None)
        except Failure as error:
            raise UsageError(str(error)) from None

    def diff(self, line: str) -> Diff:
        """%diff N shows what step N changes in the runtime of the step before it, folded."""
        try:
            return Diff.of_step(find_step(line.strip()))
        except Failure as error:
            raise UsageError(str(error)) from None


def box_parser() -> Any:
    """Returns the parser of %%box's line: a MagicArgumentParser, which raises UsageError."""
    parser = MagicArgumentParser(prog="%%box")
    parser.add_argument("name")
    parser.add_argument("--ns")
    parser.add_argument("--timeout", type=float, default=TIMEOUT)
    parser.add_argument("--once", action="store_true")
    return parser


def parse_namespaces(text: str) -> frozenset[str]:
    """Returns the namespaces in a text such as "uts,pid", or "none" for no namespace. Raises
    UsageError if a namespace is unknown."""
    namespaces = frozenset(text.split(",")) - {"none"}
    if unknown := namespaces - set(KINDS):
        raise UsageError(
            f"No namespace is called {min(unknown)!r}: --ns takes none, or some of "
            f"{','.join(KINDS)}"
        )
    return namespaces


loaded: list[Magics] = []  # the Magics of this kernel: one, or none


def load(shell: Any) -> None:
    """Registers the magics, and changes to the project's directory, where a terminal in the
    lab starts as well. From then on, `!command` loses none of its output: see Spawn.

    The notebook gets two variables: `boxes`, the boxes by name, and `mine`, the path of the
    learner's own runtime.
    """
    unload()
    os.chdir(PROJECT)
    pexpect.spawn = Spawn  # IPython looks there for each `!command`
    magics = Magics(shell)
    loaded.append(magics)
    shell.user_ns["boxes"] = magics.boxes
    shell.user_ns["mine"] = Workspace.current().name
    shell.register_magic_function(magics.box, "cell", "box")
    shell.register_magic_function(magics.list_or_end_boxes, "line", "boxes")
    shell.register_magic_function(magics.inspect, "line", "inspect")
    shell.register_magic_function(magics.diff, "line", "diff")


def unload() -> None:
    """Ends all boxes."""
    while loaded:
        loaded.pop().end_boxes()
