"""`workshop check [N] [--alone] [--only WORD]`: whether the learner's runtime does what step N asks.

First step N's facts, then, when they hold, those of all steps before. Each is checked behind
a fence. Exit status 0: all hold, 1: not so, 2: wrong usage.
"""

import collections
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time

from rich.table import Table
from rich.text import Text

from workshop import diagnose, learner, sandbox
from workshop.commands import report
from workshop.commands.attempt import step_of
from workshop.command_line import FAILED, MISUSED
from workshop.errors import Failure
from workshop.terminal import console
from workshop.sandbox import PROJECT, RUNTIME

import linux  # found through fence

JUNIT = "last.xml"
SHEBANG = "#!/usr/bin/python3 -S"


def main(arguments):
    """Checks, and prints what holds. Returns the exit status."""
    alone = {"action": "store_true", "help": "without the steps before it"}
    only = {"metavar": "WORD", "help": "facts with this in their name"}
    options, room = step_of("check", arguments, ("--alone", alone), ("--only", only))
    return check(room.name[:2], options.only, options.alone)


def check(number, only=None, alone=False):
    """Checks the learner's runtime against a step, prints it, and remembers a pass.
    only: facts with this in their name; alone: not those of the steps before."""
    learner.keep()
    source = ready()
    facts: list[dict] = []
    out = console()
    before = [name[:2] for name in learner.STEPS if name[:2] < number]
    numbers = [number] if only or alone else [number, *before]
    with sandbox.workbench(source) as bench:
        seconds = first_run(bench)
        for fact in run(numbers, bench, min(60, 10 + 100 * seconds), only):
            if fact["step"] != number and fact["step"] != facts[-1]["step"]:
                out.print(f"Step {fact['step']}", style="dim")
            facts.append(fact)
            show(fact, out)
        junit = (bench / JUNIT).read_bytes() if facts else b""
        wrong = [fact for fact in facts if not fact["holds"]]
        if wrong:
            limit = 5 + 10 * seconds
            about = wrong[0]["step"]
            explain(wrong[0], diagnose.findings(about, bench, limit), out)
    if not facts:
        print(f"workshop: no fact of step {number} has {only!r} in it", file=sys.stderr)
        return MISUSED
    own = [fact for fact in facts if fact["step"] == number]
    say_how_many(number, own, len(facts) - len(own), wrong, only, out)
    if not only:
        remember(number, facts, source, junit)
    if not (wrong or only or alone) and number == learner.STEPS[-1][:2]:
        report.celebrate(out)
    return FAILED if wrong else 0


def remember(number, facts, source, junit):
    """Keep what was found, for the report, and a pass, for the progress."""
    learner.make_folder(learner.STATE)
    last = {"when": learner.now(), "step": number, "facts": facts}
    last["sha256"] = hashlib.sha256(source).hexdigest()
    learner.write(learner.STATE / "last.json", json.dumps(last, indent=1).encode())
    learner.write(learner.STATE / JUNIT, junit)
    if all(fact["holds"] for fact in facts):
        counts = collections.Counter(fact["step"] for fact in facts)
        learner.record(number, counts, source)


# ---- before pytest starts


def ready():
    """The bytes of a runtime that can be started. Failure: what keeps it from that."""
    source, name = learner.source(), learner.shown()
    if not os.access(learner.CONTAINER, os.X_OK):
        raise Failure(f"{name} cannot be executed: chmod +x {learner.CONTAINER}")
    first = source.partition(b"\n")[0]
    if first.endswith(b"\r"):
        # To the kernel the \r is a part of the interpreter's name.
        raise Failure(
            f"{name} has the line ends of Windows (CRLF), with which Linux does not start it: "
            f"sed -i 's/\\r$//' {learner.CONTAINER}, and have your editor write LF"
        )
    try:
        compile(source, name, "exec")
    except SyntaxError as error:
        line = (error.text or "").strip()
        where = f"{name}, line {error.lineno}" if error.lineno else name
        raise Failure(f"{where}: {error.msg}{f': {line}' if line else ''}") from None
    except ValueError as error:  # null bytes
        raise Failure(f"{name}: {error}") from None
    if not first.startswith(b"#!"):
        raise Failure(
            f"the first line of {name} names no interpreter: "
            f"it should be {SHEBANG}, with nothing before it"
        )
    return source


def first_run(bench):
    """Starts the runtime once, for its usage, which no fact has to ask for again. Returns the
    seconds that it took. Failure: it does not end, or not well."""
    begin = time.monotonic()
    told, late = sandbox.run(
        lambda: sandbox.watched([str(RUNTIME), "--help"], 10), bench, 15
    )
    name = learner.shown()
    if told is None or told["status"] is None:
        many = told and len(told["out"] + told["err"]) > 10000
        what = "prints without end" if many else "does not come to an end"
        if told is None and not late:
            what = "ended all that was around it"
        raise Failure(f"`{name} --help` {what}, and was ended")
    if told["status"] != 0 or not told["out"].startswith("usage: "):
        said = told["err"].strip() or told["out"].strip() or "it says nothing"
        raise Failure(
            f"`{name} --help` should print its usage; status {told['status']}"
            f"{diagnose.where_raised(said)}: {said.splitlines()[-1][:200]}"
        )
    (bench / sandbox.USAGE).write_text(told["out"])
    return time.monotonic() - begin


# ---- pytest


def run(numbers, bench, seconds, only=None, in_turn=False):
    """Runs the suites of these steps. Yields each fact, as workshop/facts.py tells it.
    bench: with the runtime; see sandbox.workbench(). seconds: how long one fact may take. Where a
    fact of the first suite does not hold, or with in_turn of any, there are no more suites."""
    named = {name[:2]: f"tests/test_{name}.py" for name in learner.STEPS}
    read, write = os.pipe()
    words = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "workshop.facts"]
    words += ["-p", "no:cacheprovider", f"--runtime={RUNTIME}", f"--bench={bench}"]
    words += [f"--facts={write}", f"--fact-seconds={seconds:.0f}"]
    words += [f"--junitxml={bench}/{JUNIT}"]
    words += [named[number] for number in numbers]
    words += [f"--only={only}"] if only else []
    words += ["--in-turn"] if in_turn else []
    # Those that come with JupyterLab are not needed, and take half a second.
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = str(PROJECT)
    log = open(bench / "log", "w+")  # a pipe could be full, while we wait for facts
    process = subprocess.Popen(
        words,
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=[write],
        start_new_session=True,
        preexec_fn=lambda: linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGINT),
    )
    os.close(write)
    try:
        with open(read) as lines:
            for line in lines:
                yield json.loads(line)
        process.wait()
        if process.returncode not in (0, 1, 5):  # 5: no fact was chosen
            log.seek(0)
            last = (log.read().strip() or "it says nothing").splitlines()[-1]
            raise Failure(f"the check itself has failed: {last}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
        log.close()
        sandbox.clean()


# ---- what is shown


def show(fact, out):
    """One line for a fact."""
    mark = ("✓", "green") if fact["holds"] else ("✗", "red")
    out.print(Text.assemble("  ", mark, " ", fact["name"]))


def explain(fact, findings, out):
    """What was expected in a fact that does not hold, what happened, and why."""
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    if fact.get("command"):
        rows.add_row("    command", Text(plain(fact["command"])))
        said = plain(fact["said"])
        status = f"status {fact['status']}" + (f": {said}" if said else "")
        rows.add_row("    it said", Text(status))
        if place := re.search(r"^container\.py: line (\d+): ", said):
            number = int(place[1])
            line = b"".join(learner.source().splitlines()[number - 1 : number])
            line = plain(line.strip().decode(errors="replace"))
            rows.add_row(f"    line {number}", Text(line))
    for word in "expected", "happened":
        if fact.get(word):
            rows.add_row(f"    {word}", Text(plain(fact[word])))
    if fact.get("assertion"):
        rows.add_row("    the test", Text(f"{fact['where']}  {fact['assertion']}"))
    if fact.get("why"):
        rows.add_row("    why", Text(fact["why"]))
    number = int(fact["step"])
    refused = diagnose.why_refused(fact.get("said", ""))
    if fact.get("status") == 125:  # what ended it stands above
        findings = [text for text in findings if not text.startswith(diagnose.ENDS)]
    hint = refused or (findings or [f"`workshop hint {number}` has one."])[0]
    rows.add_row("    hint", Text(hint[0].upper() + hint[1:], "bold"))
    more = f"`workshop hint {number}`, or this fact alone: `workshop check {number} --only "
    rows.add_row("    more", Text(f"{more}'{fact['name']}'`"))
    out.print(Text.assemble("\n  ", ("✗", "red"), " ", (fact["name"], "bold")))
    out.print(rows, soft_wrap=False)
    out.print()


def plain(text, most=6):
    """Text as a learner would type or read it: paths short, nothing but printable, and most
    lines of it."""
    lines = str(text).replace(str(RUNTIME), learner.shown()).splitlines()
    lines = ["".join(c if c.isprintable() else "·" for c in line) for line in lines]
    return "\n".join(lines[:most])


def say_how_many(number, own, before, wrong, only, out):
    """The last line."""
    if only:
        good = len(own) - len(wrong)
        verb = "holds" if good == 1 else "hold"
        line = f"{good} of {len(own)} facts {verb}."
    elif not wrong:
        rest = f", and {before} of the steps before it" if before else ""
        line = f"Step {number} holds: {len(own)} facts{rest}."
    elif any(fact in own for fact in wrong):
        line = f"Step {number}: {len(wrong)} of {len(own)} facts do not hold yet."
    else:
        line = f"Step {number}: its {len(own)} facts hold, "
        line += f"but {len(wrong)} of {before} of the steps before it do not any more."
    # Not bold: Jupyter's bold green and red are dark, and its page may be as well.
    out.print(line, style="red" if wrong else "green")
