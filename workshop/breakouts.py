"""Break-outs: the attack of a step, tried on a runtime in a sandbox."""

from __future__ import annotations

import ast
import dataclasses
import io
import sys
import tokenize

from workshop import bounded, sandbox, suite_runner
from workshop.bounded import Output
from workshop.errors import Failure
from workshop.explanations import readable
from workshop.project import Step
from workshop.staging import RUNTIME

TIMEOUT = 120  # seconds that an attack may take, even in an emulated VM
WORKED, STOPPED = 0, 1  # exit statuses of an attack


@dataclasses.dataclass(frozen=True)
class Story:
    """What an attack says about itself."""

    about: str  # what it tries, in a line
    why: str  # why it works; may be ""


def story_of(step: Step) -> Story:
    """Returns what a step's attack says about itself, in its docstring and comments."""
    text = step.breakout.read_text()
    about = (ast.get_docstring(ast.parse(text)) or "").partition(": ")[2].rstrip(".")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [t.string for t in tokens if t.type == tokenize.COMMENT]
    why = " ".join(c.removeprefix("# ") for c in comments if not c.startswith("#!"))
    return Story(about, why)


def attack(step: Step, source: bytes, name: str) -> Output:
    """Tries a step's attack on a runtime with these contents. Returns the output of the
    attack, with the status WORKED or STOPPED. Raises Failure if it could not be tried.
    `name`: the runtime's, for messages."""
    command = [sys.executable, str(step.breakout), str(RUNTIME)]
    with sandbox.staged(source) as staging:
        suite_runner.first_run(staging, name)
        ending = sandbox.run(
            lambda: bounded.run(command, TIMEOUT).as_json(), staging, TIMEOUT + 10
        )
    if ending.result is None:
        raise Failure(f"the attack could not be tried: it {ending.problem()}")
    output = Output(**ending.result)
    if output.status is None:
        raise Failure("the attack could not be tried: it took too long")
    if output.status not in (WORKED, STOPPED):
        lines = readable(output.err, name, 20).splitlines()
        last = lines[-1] if lines else f"status {output.status}"
        raise Failure(f"the attack could not be tried: {last}")
    return output
