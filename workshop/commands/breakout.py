"""`workshop breakout [N]`: runs step N's attack against the learner's runtime.

It also runs it against the runtime of the step before, where it works. Both run in a sandbox.
Exit status: 0 if the learner's runtime stops the attack, 1 if it works, 2 for wrong usage.
"""

import sys

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from workshop import breakouts
from workshop.breakouts import STOPPED, WORKED
from workshop.command_line import FAILED, MISUSED, Parser
from workshop.explanations import readable
from workshop.startable import startable
from workshop.terminal import console
from workshop.workspace import Workspace

STYLES = {"BROKEN IN": "red", "stopped": "green"}  # by the first words of a line


def main(arguments: list[str]) -> int:
    """Attacks, and prints what happens. Returns the exit status."""
    workspace = Workspace.current()
    _, step = Parser(prog="workshop breakout").parse_step(arguments, workspace)
    before, name, out = step.previous, workspace.name, console()
    if before is None:
        print(
            "workshop breakout: step 0 isolates nothing, so there is no attack on it",
            file=sys.stderr,
        )
        return MISUSED
    source, story = startable(workspace), breakouts.story_of(step)
    out.print(Text(f"Break-out {step.number}: {story.about}\n", "bold"))
    if story.why:
        out.print(Padding(Text(story.why, "dim"), (0, 2)), soft_wrap=False)
        out.print()
    out.print(Text(f"Before, with the runtime of {before.name}:"))
    first = breakouts.attack(step, before.container.read_bytes(), name)
    show(first.out, name, out)
    out.print(Text(f"\nNow with yours, {name}:"))
    second = breakouts.attack(step, source, name)
    show(second.out, name, out)
    out.print()
    if second.status == WORKED:
        out.print(f"Step {step.number}: your container was broken out of.", style="red")
        return FAILED
    if first.status == STOPPED:
        text = "On this machine the attack did not work before, either, so this proves nothing."
        out.print(text, style="bold yellow")
    else:
        out.print(f"Step {step.number}: your container holds.", style="green")
    return 0


def show(text: str, name: str, out: Console) -> None:
    """Prints the output of an attack, in colour."""
    for line in readable(text, name, 20).splitlines():
        styles = [style for words, style in STYLES.items() if line.startswith(words)]
        out.print(Text(f"  {line}", styles[0] if styles else "dim"))
