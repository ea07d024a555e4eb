"""The words for the learner's attempt: start, hint, diff, solve, reset, undo.

Whatever they replace, a snapshot of it is kept first: nothing that was typed is lost.
"""

import collections
import datetime
import difflib
import html
import re

from rich.markdown import Markdown
from rich.text import Text

from workshop import learner
from workshop.command import FAILED, Failure, Parser, console


def step_of(word, arguments, *options):
    """The command line `workshop WORD [N]`: (its options, the room of step N). N is the next
    step if there is none. options: (name, what add_argument() is to know of it)."""
    parser = Parser(prog=f"workshop {word}")
    parser.add_argument("number", nargs="?", metavar="N", help="a step, such as 3")
    for option, about in options:
        parser.add_argument(option, **about)
    parsed = parser.parse_args(arguments)
    number = parsed.number or learner.next_step(learner.load())
    try:
        return parsed, learner.room(number)
    except Failure as error:
        parser.error(str(error))


def start(arguments):
    """`workshop start`: makes my/container.py from step 00; never overwrites."""
    Parser(prog="workshop start").parse_args(arguments)
    name = learner.shown()
    if learner.CONTAINER.exists():
        print(f"{name} is there already, and stays as it is.")
    else:
        learner.replace((learner.room("0") / "container.py").read_bytes())
        print(
            f"{name} is made, from step 00. It runs a program, and holds nothing back."
        )
    print("Open it in an editor; `workshop` says what comes next.")
    return 0


def hint(arguments):
    """`workshop hint [N]`: the next hint of step N; after the last one, all of them."""
    _, room = step_of("hint", arguments)
    number = room.name[:2]
    hints = hints_of(room)
    with learner.remembering() as progress:
        shown = progress["hints"].get(number, 0)
        progress["hints"][number] = min(shown + 1, len(hints) + 1)
    out = console()
    if shown < len(hints):
        out.print(f"Hint {shown + 1} of {len(hints)}, step {number}", style="bold")
        out.print(Markdown(hints[shown]), soft_wrap=False)
        return 0
    out.print(f"All {len(hints)} hints of step {number}", style="bold")
    for text in hints:
        out.print(Markdown(f"- {text}"), soft_wrap=False)
    out.print(f"Still stuck? `workshop solve {int(number)}`.")
    return 0


def hints_of(room):
    """The hints of a step, in Markdown."""
    text = (room / "hints.md").read_text()
    parts = re.split(r"^\d+\. ", text, flags=re.MULTILINE)[1:]
    return [" ".join(part.split()) for part in parts]


def diff(arguments):
    """`workshop diff N`: what step N changes in the runtime of the step before."""
    _, room = step_of("diff", arguments)
    console().print(Diff.of_step(room))
    return 0


class Diff:
    """The difference of two texts: in colour for a terminal, folded for a notebook."""

    def __init__(self, old, new, old_name, new_name):
        lines = old.splitlines(), new.splitlines()
        self.lines = list(
            difflib.unified_diff(*lines, old_name, new_name, n=2, lineterm="")
        )
        self.name = new_name

    @classmethod
    def of_step(cls, room):
        """What a step, given its room, changes in the runtime of the step before."""
        index = learner.STEPS.index(room.name)
        before = learner.STEPS[index - 1] if index else None
        path = learner.PROJECT / "steps"
        old = (path / before / "container.py").read_text() if before else ""
        new = (room / "container.py").read_text()
        return cls(
            old, new, f"steps/{before}" if before else "nothing", f"steps/{room.name}"
        )

    def __repr__(self):
        return "\n".join(self.lines)

    def __rich__(self):
        return Text("\n").join(Text(line, STYLES[kind(line)]) for line in self.lines)

    def _repr_html_(self):
        rows = "\n".join(
            f'<span class="{kind(line)}">{html.escape(line)}</span>'
            for line in self.lines
        )
        kinds = collections.Counter(map(kind, self.lines))
        return (
            f"{STYLE}<details class='workshop-diff'><summary>What {self.name} changes: "
            f"{kinds['added']} lines more, {kinds['removed']} fewer. Try first, then unfold."
            f"</summary><pre>{rows}</pre></details>"
        )


STYLES = {"file": "bold", "place": "cyan", "added": "green", "removed": "red"}
STYLES |= {"same": ""}
STYLE = """
<style>
.workshop-diff summary { cursor: pointer; }
.workshop-diff .file { font-weight: bold; }
.workshop-diff .place { --hue: var(--jp-info-color1, #0097a7); }
.workshop-diff .added { --hue: var(--jp-success-color1, #388e3c); }
.workshop-diff .removed { --hue: var(--jp-error-color1, #d32f2f); }
.workshop-diff span { /* nearer to the text's colour: read in light and dark */
  color: color-mix(in srgb, var(--hue, currentcolor) 70%, var(--jp-content-font-color0, #000)); }
</style>
"""


def kind(line):
    """What a line of a unified diff is, a key of STYLES."""
    starts = {"---": "file", "+++": "file", "@": "place", "+": "added", "-": "removed"}
    return next((k for start, k in starts.items() if line.startswith(start)), "same")


def solve(arguments):
    """`workshop solve N [--write]`: what is between the learner's runtime and the reference;
    with --write the reference takes its place. Before step N has passed, it has to be asked
    for twice."""
    text = "put the reference in the place of your file"
    write = {"action": "store_true", "help": text}
    options, room = step_of("solve", arguments, ("--write", write))
    number = room.name[:2]
    with learner.remembering() as progress:
        told = number in progress["passed"] or number in progress["asked"]
        if not told:
            progress["asked"].append(number)
    if not told:
        print(
            f"Step {number} has not passed yet. `workshop hint {int(number)}` helps you on."
        )
        print(f"If you want it all the same, say `workshop solve {int(number)}` again.")
        return FAILED
    reference = (room / "container.py").read_bytes()
    try:
        mine = learner.source()
    except Failure:
        mine = b""
    name = learner.shown()
    if mine == reference:
        print(f"{name} is the reference of step {number}, to the letter.")
        return 0
    old = mine.decode(errors="replace")
    path = f"steps/{room.name}/container.py"
    console().print(Diff(old, reference.decode(), name, path))
    print()
    if options.write:
        learner.replace(reference)
        print(f"{name} is the reference now. `workshop undo` brings yours back.")
    else:
        print(f"`workshop solve {int(number)} --write` makes {name} the reference;")
        print("yours is kept, and `workshop undo` brings it back.")
    return 0


def reset(arguments):
    """`workshop reset`: back to the runtime as the last step passed with it, or step 00's."""
    Parser(prog="workshop reset").parse_args(arguments)
    number = max(learner.load()["passed"], default=None)
    passed = learner.STATE / f"passed-{number}.py"
    if number and passed.exists():
        data, what = passed.read_bytes(), f"as step {number} passed with it"
    else:
        data, what = (learner.room("0") / "container.py").read_bytes(), "step 00's"
    learner.replace(data)
    print(f"{learner.shown()} is {what}. `workshop undo` takes that back.")
    return 0


def undo(arguments):
    """`workshop undo [--redo]`: the snapshot before; --redo: the one after, after all."""
    parser = Parser(prog="workshop undo")
    parser.add_argument("--redo", action="store_true", help="the other way")
    forward = parser.parse_args(arguments).redo
    with learner.remembering() as progress:
        names, at = learner.where_undo_is(progress)
        to = at + 1 if forward else at - 1
        if not 0 <= to < len(names):
            where = "newest" if forward else "oldest"
            raise Failure(f"this is the {where} snapshot that there is")
        snapshot = learner.STATE / "snapshots" / names[to]
        data, taken = snapshot.read_bytes(), snapshot.stat().st_mtime
        learner.make_folder(learner.MY)
        learner.write(learner.CONTAINER, data, 0o755)
        progress["at"] = names[to]
    when = datetime.datetime.fromtimestamp(taken)
    print(
        f"{learner.shown()} is as it was at {when:%H:%M:%S} on {when:%-d %B}, "
        f"snapshot {to + 1} of {len(names)}."
    )
    if not forward:
        print(
            "`workshop undo` goes back further, `workshop undo --redo` forward again."
        )
    return 0
