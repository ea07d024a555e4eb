"""How a check prints facts: a line for each, an explanation of one that does not hold, and a last
line that counts them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workshop import told
from workshop.facts import Fact, failed
from workshop.hints import best_hint, ends_itself, starts
from workshop.project import Step
from workshop.refusals import in_one_line
from workshop.staging import RUNTIME
from workshop.terminal import count
from workshop.topics import Finding
from workshop.workspace import Workspace


def line(fact: Fact) -> Text:
    """Returns a fact in one line, with a mark that says whether it holds."""
    return Text.assemble("  ", mark(fact), " ", fact.name)


def mark(fact: Fact) -> tuple[str, str]:
    """Returns a mark for a fact, and its style."""
    return ("✓", "green") if fact.holds else ("✗", "red")


def summary(fact: Fact, workspace: Workspace, width: int) -> list[Text]:
    """Returns why a fact does not hold in at most two lines of this width: what the test has
    expected, and what has happened."""
    lines = []
    for label, text in ("expected", fact.expected), ("happened", what_happened(fact)):
        if text:
            line = Text(f"      {label}  {readable(text, workspace.name, 1)}", "dim")
            line.truncate(width, overflow="ellipsis")
            lines.append(line)
    return lines


def what_happened(fact: Fact) -> str | None:
    """Returns what has happened, with what the last command has printed if its status alone
    is known. Returns None if there is nothing to say."""
    known = fact.status is not None
    if known and fact.command and fact.happened in (None, f"status {fact.status}"):
        said = in_one_line(fact.said or "")
        return f"status {fact.status}" + (f": {said}" if said else "")
    return fact.happened


def explain(
    fact: Fact, findings: Sequence[Finding], workspace: Workspace, out: Console
) -> None:
    """Prints why a fact does not hold. `findings`: what the runtime lacks, the most important
    first."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for label, text in [
        *command_rows(fact, workspace),
        *assertion_rows(fact, workspace),
        *why_rows(fact, findings),
    ]:
        rows.add_row(f"    {label}", Text(text))
    if place := told.places(fact):
        rows.add_row("    told in", Text(place))
    if hint := best_hint(fact, findings):
        rows.add_row("    hint", Text(sentence(hint), "bold"))
    number = int(fact.step)
    alone = f"`workshop check {number} --only '{fact.name}'`"
    more = (
        f"this fact alone: {alone}; hints for the whole step: `workshop hint {number}`"
    )
    rows.add_row("    more", Text(more))
    out.print(Text.assemble("\n  ", mark(fact), " ", (fact.name, "bold")))
    out.print(rows, soft_wrap=False)
    out.print()


def sentence(text: str) -> str:
    """Returns a text as a sentence: with a capital, unless it begins with a name in code."""
    begins_with_a_word = re.match(r"[a-z]+('s)?[ ,]", text)
    return text[0].upper() + text[1:] if begins_with_a_word else text


def command_rows(fact: Fact, workspace: Workspace) -> list[tuple[str, str]]:
    """Returns the rows, each a label and a text, about the last command of a fact."""
    if not fact.command:
        return []
    command = ("command", readable(fact.command, workspace.name))
    if fact.status is None:
        return [command]
    said = readable(in_one_line(fact.said or ""), workspace.name)
    status = f"status {fact.status}" + (f": {said}" if said else "")
    rows = [command, ("it said", status)]
    if place := re.search(r"^container\.py: line (\d+): ", said):
        number = int(place[1])
        source = b"".join(workspace.source().splitlines()[number - 1 : number])
        text = source.strip().decode(errors="replace")
        rows.append((f"line {number}", readable(text, workspace.name)))
    return rows


def assertion_rows(fact: Fact, workspace: Workspace) -> list[tuple[str, str]]:
    """Returns the rows about what the test of a fact has expected."""
    rows = [
        (label, readable(text, workspace.name))
        for label, text in (("expected", fact.expected), ("happened", fact.happened))
        if text
    ]
    if fact.assertion:
        rows.append(("the test", f"{fact.where}  {fact.assertion}"))
    return rows


def why_rows(fact: Fact, findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Returns the row with what explains a fact, or none if the fact has not been tried at all,
    because no container starts."""
    tried = starts(findings) or not ends_itself(fact)
    return [("why", fact.why)] if fact.why and tried else []


def same_errors(number: int, findings: Sequence[Finding]) -> Text:
    """Returns a line about further facts that do not hold because of the first one's error."""
    text = f"{count(number, 'more fact')} with the same error"
    topics = [finding.topic for finding in findings]
    if "start" in topics:
        text += ", because your runtime does not start a container"
    elif "options" in topics:
        text += (
            ", because your runtime does not start a container with a network or limits"
        )
    return Text.assemble("  ", ("✗", "red"), f" {text}")


def last_line(step: Step, facts: Sequence[Fact], only: bool, untried: int = 0) -> Text:
    """Returns how many facts hold. `only`: just some facts of the step were checked.
    `untried`: how many other facts of the step were not, because one took too long."""
    own = [fact for fact in facts if fact.step == step.number]
    total, before = count(len(own) + untried, "fact"), len(facts) - len(own)
    wrong, wrong_own = failed(facts), failed(own)
    if only:
        good = len(own) - len(wrong)
        text = f"{good} of {total} {'holds' if 1 in (good, len(own)) else 'hold'}."
    elif not wrong:
        rest = f", and {before} of the steps before it" if before else ""
        text = f"Step {step.number} holds: {total}{rest}."
    elif wrong_own:
        verb = "does" if len(wrong_own) == 1 else "do"
        text = f"Step {step.number}: {len(wrong_own)} of {total} {verb} not hold yet."
        late = next((fact.name for fact in own if fact.late), None)
        if untried and late:
            text += f" Stopped after {len(own)}, because '{late}' took too long; {untried} not tried."
    else:
        verb = "does" if len(wrong) == 1 else "do"
        text = (
            f"Step {step.number} holds, but of the {before} facts of the steps before it, "
            f"{len(wrong)} {verb} not hold any more."
        )
    # Not bold, because Jupyter's bold green and red are dark, and its page may be dark, too.
    return Text(text, "red" if wrong else "green")


def readable(text: str, name: str, lines: int = 6) -> str:
    """Returns what a runtime has printed, fit for a terminal: the first lines, with the
    runtime's own name, and dots for control characters."""
    kept = text.replace(str(RUNTIME), name).splitlines()[:lines]
    return "\n".join(
        "".join(c if c.isprintable() else "·" for c in line) for line in kept
    )
