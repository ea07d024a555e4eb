"""`workshop`: what is done, what each step adds, and the one next thing to do."""

import ast

from rich.table import Table
from rich.text import Text

from workshop import learner
from workshop.command import Parser, console


def main(arguments):
    """Prints it. Returns the exit status."""
    Parser(prog="workshop").parse_args(arguments)
    progress, out = learner.load(), console()
    upcoming = learner.next_step(progress)
    finished = len(progress["passed"]) >= len(learner.STEPS)
    grid = Table.grid(padding=(0, 2))
    for name in learner.STEPS:
        number = name[:2]
        passed = progress["passed"].get(number)
        here = number == upcoming and not finished
        mark = ("✓", "green") if passed else ("▸", "bold") if here else ("·", "dim")
        facts = f"{passed['facts']} facts" if passed else ""
        style = "" if passed else "bold" if here else "dim"
        row = [Text(f"  {mark[0]}", mark[1]), Text(name, style)]
        grid.add_row(*row, Text(adds(name), style), Text(facts, "dim"))
    out.print(Text("Your own container, step by step\n", "bold"))
    out.print(grid, soft_wrap=False)
    out.print()
    out.print(
        Text.assemble(("Next: ", "bold"), next_thing(progress, finished)),
        soft_wrap=False,
    )
    return 0


def adds(name):
    """What a step adds, in the words of its own first line."""
    source = (learner.PROJECT / "steps" / name / "container.py").read_text()
    first, _, _ = (ast.get_docstring(ast.parse(source)) or "").partition("\n")
    return first.partition(": ")[2].partition(". ")[0]


def next_thing(progress, finished):
    """One sentence: what to do now."""
    number = learner.next_step(progress)
    if not learner.CONTAINER.exists():
        return (
            f"`workshop start` makes {learner.shown()}, which you are going to write."
        )
    if finished:
        return "all eight steps hold. `workshop report` tells of it; swap in your own image!"
    lessons = sorted((learner.PROJECT / "notebooks").glob(f"{number}_*.ipynb"))
    lesson = f"read notebooks/{lessons[0].name}, " if lessons else ""
    if number in progress["hints"] or learner.tried(progress):
        return (
            f"change {learner.shown()}, then `workshop check`; stuck? `workshop hint`"
        )
    if number == "00":
        return f"{lesson}then `workshop check`: step 00 is done for you."
    return f"{lesson}change {learner.shown()}, then `workshop check`"
