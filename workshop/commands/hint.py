"""`workshop hint [N]`: prints the next hint for step N. After the last one, it prints them all."""

from rich.markdown import Markdown

from workshop import progress
from workshop.command_line import Parser
from workshop.hints import hints_of
from workshop.terminal import console
from workshop.workspace import Workspace


def main(arguments: list[str]) -> int:
    """Prints one hint, or all of them. Returns the exit status."""
    workspace = Workspace.current()
    _, step = Parser(prog="workshop hint").parse_step(arguments, workspace)
    hints = hints_of(step)
    with progress.changing(workspace) as changed:
        shown = changed.hints.get(step.number, 0)
        changed.hints[step.number] = min(shown + 1, len(hints) + 1)
    out = console()
    if shown < len(hints):
        title = f"Hint {shown + 1} of {len(hints)}, step {step.number}"
        out.print(title, style="bold")
        out.print(Markdown(hints[shown]), soft_wrap=False)
        return 0
    out.print(f"All {len(hints)} hints for step {step.number}", style="bold")
    for text in hints:
        out.print(Markdown(f"- {text}"), soft_wrap=False)
    out.print(f"Still stuck? `workshop solve {int(step.number)}`.")
    return 0
