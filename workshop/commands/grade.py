"""`workshop grade`: a mark for a runtime of somebody else's, which comes on standard input. As a
line of JSON on standard output:

    {"sha256", "steps": {"00": [facts that hold, facts]}, "passed": ["00", …], "wrong": text}

Step after step is checked until one does not hold. A fact or two that do not hold are checked
once more by themselves: what was bad luck on a busy machine does not count, and the mark is the
same each time. wrong: the first fact that does not hold, and what happened, or why nothing could
be checked. It may be written to do harm, so it is run where nothing is lost: `./lab grade` gives
each a VM of its own, with a limit on its time.
"""

import hashlib
import json
import os
import pathlib
import sys
import tempfile

from workshop import learner, sandbox
from workshop.commands import check
from workshop.command_line import Parser
from workshop.errors import Failure

MOST = 1 << 20  # bytes of a runtime
LUCK = 3  # facts of a step that do not hold: more of them are no bad luck


def main(arguments):
    """Marks it. Returns 0, whatever the mark is."""
    parser = Parser(prog="workshop grade")
    parser.add_argument(
        "--upto", default="7", metavar="N", help="the last step to check"
    )
    upto = learner.room(parser.parse_args(arguments).upto).name[:2]
    source = sys.stdin.buffer.read(MOST + 1)
    digest = hashlib.sha256(source).hexdigest()
    mark: dict = {"sha256": digest, "steps": {}, "passed": [], "wrong": None}
    with tempfile.TemporaryDirectory() as my:
        os.chmod(my, 0o755)
        learner.MY, learner.CONTAINER = (
            pathlib.Path(my),
            pathlib.Path(my, "container.py"),
        )
        learner.CONTAINER.write_bytes(source)
        learner.CONTAINER.chmod(0o755)
        try:
            if len(source) > MOST:
                raise Failure("it is larger than a megabyte")
            with sandbox.workbench(check.ready()) as bench:
                seconds = min(60, 10 + 100 * check.first_run(bench))
                numbers = [step[:2] for step in learner.STEPS if step[:2] <= upto]
                mark_steps(numbers, bench, seconds, mark)
        except Failure as error:
            mark["wrong"] = str(error).replace(my, "")
    print(json.dumps(mark), flush=True)
    return 0


def mark_steps(numbers, bench, seconds, mark):
    """Check the facts of these steps, and put into mark what comes of it."""
    while numbers and not mark["wrong"]:
        # In one go up to a step that does not hold, as pytest takes its time to start.
        facts: dict[str, list[dict]] = {numbers[0]: []}
        for fact in check.run(numbers, bench, seconds, in_turn=True):
            facts.setdefault(fact["step"], []).append(fact)
        for number in facts:
            mark_step(number, facts[number], bench, seconds, mark)
        numbers = numbers[len(facts) :]  # it was bad luck, so there may be more


def mark_step(number, facts, bench, seconds, mark):
    """Put into mark what comes of a step's facts."""
    if any(fact.get("late") for fact in facts):  # so the rest was not checked
        facts = list(check.run([number], bench, seconds))
    wrong = [fact for fact in facts if not fact["holds"]]
    late = any(fact.get("late") for fact in facts)
    for fact in wrong if len(wrong) <= LUCK and not late else []:
        once_more = check.run([number], bench, seconds, fact["name"])
        # Others may have this one's name within theirs.
        fact["holds"] = any(
            again["holds"] for again in once_more if again["test"] == fact["test"]
        )
    held = sum(fact["holds"] for fact in facts)
    mark["steps"][number] = [held, len(facts)]
    if facts and held == len(facts):
        mark["passed"].append(number)
        return
    first = next((fact for fact in wrong if not fact["holds"]), {"name": "no facts"})
    what = first.get("happened") or first.get("said") or ""
    mark["wrong"] = f"{first['name']}: {check.plain(what, most=1)}"
