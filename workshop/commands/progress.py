"""`workshop`: shows which steps have passed, what each one adds, and what to do next."""

from rich.table import Table
from rich.text import Text

from workshop import facts, progress
from workshop.command_line import Parser
from workshop.progress import Progress
from workshop.project import STEPS, Step, lessons
from workshop.terminal import console
from workshop.workspace import Workspace, shown


def main(arguments: list[str]) -> int:
    """Prints the progress. Returns the exit status."""
    Parser(prog="workshop").parse_args(arguments)
    workspace, out = Workspace.current(), console()
    known = progress.load(workspace)
    out.print(Text("Your own container, step by step\n", "bold"))
    step = facts.current_step(workspace, known)
    out.print(table(known, step), soft_wrap=False)
    out.print()
    next_line = Text.assemble(("Next: ", "bold"), next_thing(workspace, known, step))
    out.print(next_line, soft_wrap=False)
    return 0


def table(known: Progress, current: Step) -> Table:
    """Returns a table with a row for each step, the learner's current one among them."""
    grid = Table.grid(padding=(0, 2))
    upcoming = None if known.finished() else current
    for step in STEPS:
        passed = known.passed.get(step.number)
        mark, mark_style, style = "·", "dim", "dim"
        if passed:
            mark, mark_style, style = "✓", "green", ""
        elif step == upcoming:
            mark, mark_style, style = "▸", "bold", "bold"
        facts = f"{passed.facts} facts" if passed else ""
        grid.add_row(
            Text(f"  {mark}", mark_style),
            Text(step.name, style),
            Text(step.adds(), style),
            Text(facts, "dim"),
        )
    return grid


def next_thing(workspace: Workspace, known: Progress, step: Step) -> str:
    """Returns one sentence: what the learner should do now, in their current step."""
    name = workspace.name
    number = "" if step == known.next_step() else f" {int(step.number)}"
    if not workspace.container.exists():
        return f"`workshop start` creates {name}, the runtime that you will write."
    if known.finished():
        return "all steps have passed. `workshop report` writes a report to hand in."
    if step.number in known.hints or progress.has_tried(workspace, known):
        check, hint = f"`workshop check{number}`", f"`workshop hint{number}`"
        return f"change {name}, then {check}. Stuck? {hint}"
    read = "".join(f"read {shown(path)}, " for path in lessons([step.number]))
    if step.number == "00":
        return f"{read}then `workshop check`. Step 00 is already done for you."
    return f"{read}change {name}, then `workshop check{number}`"
