"""`workshop breakout [N]`: step N's attack against the learner's runtime, told as a story.

It is tried on the runtime of the step before as well, where it works. Both behind a fence.
Exit status 0: the learner's runtime has stopped it, 1: it worked, 2: wrong usage.
"""

import ast
import io
import sys
import tokenize

from rich.padding import Padding
from rich.text import Text

from workshop import learner, sandbox
from workshop.commands.attempt import step_of
from workshop.commands.check import first_run, plain, ready
from workshop.command_line import FAILED, MISUSED
from workshop.errors import Failure
from workshop.terminal import console
from workshop.sandbox import PROJECT, RUNTIME

SECONDS = 120  # that an attack may take, under emulation as well


def main(arguments):
    """Attacks, and tells. Returns the exit status."""
    _, room = step_of("breakout", arguments)
    number = room.name[:2]
    if not (room / "breakout.py").exists():
        print(
            "workshop breakout: step 0 holds nothing back: it has no attack",
            file=sys.stderr,
        )
        return MISUSED
    source, out = ready(), console()
    about, why = what_it_tries(room)
    out.print(Text(f"Break-out {number}: {about}\n", "bold"))
    if why:
        out.print(Padding(Text(why, "dim"), (0, 2)), soft_wrap=False)
        out.print()
    before = PROJECT / "steps" / learner.STEPS[learner.STEPS.index(room.name) - 1]
    out.print(Text(f"Before, with the runtime of {before.name}:"))
    first = attack(room, (before / "container.py").read_bytes())
    tell(first, out)
    out.print(Text(f"\nNow with yours, {learner.shown()}:"))
    told = attack(room, source)
    tell(told, out)
    out.print()
    if told["status"] == 1:
        if first["status"] == 1:
            line = (
                "It did not work before either, on this machine: that proves nothing."
            )
            out.print(line, style="bold yellow")
        else:
            out.print(f"Step {number}: your container holds.", style="green")
        return 0
    if told["status"] == 0:
        out.print(f"Step {number}: your container is broken out of.", style="red")
        return FAILED
    raise Failure(f"the attack could not be tried: {last_line(told)}")


def what_it_tries(room):
    """(What a break-out does, in a line; why it works, or nothing), in its own words."""
    text = (room / "breakout.py").read_text()
    about = (ast.get_docstring(ast.parse(text)) or "").partition(": ")[2].rstrip(".")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [t.string for t in tokens if t.type == tokenize.COMMENT]
    prose = " ".join(c.removeprefix("# ") for c in comments if not c.startswith("#!"))
    return about, prose


def attack(room, source):
    """The attack on a runtime with these bytes, behind a fence: see sandbox.watched."""
    command = [sys.executable, str(room / "breakout.py"), str(RUNTIME)]
    with sandbox.workbench(source) as bench:
        first_run(bench)
        told, late = sandbox.run(
            lambda: sandbox.watched(command, SECONDS), bench, SECONDS + 10
        )
    if told is None or told["status"] is None:
        why = "it took too long" if late or told else "it has ended all around it"
        raise Failure(f"the attack could not be tried: {why}")
    return told


def tell(told, out):
    """What the attack says, in colour."""
    for line in plain(told["out"], 20).splitlines():
        style = "dim"
        if line.startswith("BROKEN IN"):
            style = "red"
        elif line.startswith("stopped"):
            style = "green"
        out.print(Text(f"  {line}", style))


def last_line(told):
    return (plain(told["err"], 20).splitlines() or ["it says nothing"])[-1]
