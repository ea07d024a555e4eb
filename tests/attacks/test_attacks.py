"""Every attack of catalogue.py that runs in a container.

Root inside and an ordinary user inside try it on the finished container of step 07 and on
the last encore. On the step before the one that stops it, the attack must work. Attacks that
begin outside the container are in test_outside.py."""

import contextlib
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator

import pytest
import runtime
import targets
import test_outside
from runtime import STEPS, nothing_left_behind
from table import ATTACKS, Attack
from targets import command, facts, runtime_of

INSIDE = [a for name, a in ATTACKS.items() if not hasattr(test_outside, f"test_{name}")]
STOPPED = [a for a in INSIDE if a.stopped_by is not None]
WHO = ["root", "user"]
FINISHED, LAST = STEPS.index(runtime.FINISHED), STEPS.index(runtime.LAST)


def name(attack: Attack | str) -> str:
    return attack.name if not isinstance(attack, str) else attack


@pytest.fixture(scope="module")
def attempt(image):
    """A function that runs an attack in a container of a step, and starts the container
    when it is first needed. Returns what the attack printed."""
    boxes = {}
    with nothing_left_behind(), contextlib.ExitStack() as stack:

        def attempt(step, attack, who, *arguments):
            if step not in boxes:
                box = runtime_of(step).running(image=image)
                boxes[step] = stack.enter_context(box)
            place = "" if step >= 3 else image
            words = command(attack, who, *arguments, place=place)
            return boxes[step].ask(shlex.join(words))

        yield attempt


@contextlib.contextmanager
def aimed(attack: Attack) -> Iterator[tuple[list[str], Callable[[str], bool]]]:
    """Makes the attack's targets. Yields the arguments for it, and a function that
    returns, given what the attack printed, whether it reached all of them."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(getattr(targets, t)()) for t in attack.targets]
        yield (
            [argument for argument, _ in made],
            lambda output: all(harmed(output) for _, harmed in made),
        )


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("attack", facts(STOPPED), ids=name)
def test_attack_fails_on_its_step_and_on_the_last_one(attack, who, attempt):
    """user_namespaces(7), namespaces(7): the kernel refuses it with the words in the
    catalogue, and the attack does not reach the target."""
    with aimed(attack) as (arguments, reached):
        for step in {attack.stopped_by, max(FINISHED, attack.stopped_by), LAST}:
            if who == "user" and step < FINISHED:
                continue
            output = attempt(step, attack, who, *arguments)
            # An encore may refuse it earlier, and so with other words.
            says = attack.says if step < LAST else ""
            assert re.search(f"refused: .*({says})", output), (step, output)
            assert not attack.targets or not reached(output), (step, output)


@pytest.mark.parametrize(
    "attack", facts([a for a in STOPPED if a.stopped_by]), ids=name
)
def test_attack_works_on_the_step_before(attack, attempt):
    """The negative control: with one kernel feature less, the attack reaches the
    target."""
    with aimed(attack) as (arguments, reached):
        output = attempt(attack.stopped_by - 1, attack, "root", *arguments)
        assert "worked: " in output and reached(output), output


def test_attacks_that_are_open_begin_outside():
    """statvfs(3): no attack that runs in a container is open any more, so test_outside.py has
    the tests of those that are."""
    assert [attack.name for attack in INSIDE if attack.stopped_by is None] == []


@pytest.mark.needs("debian13")
def test_references_of_all_attacks_exist():
    """The man pages among the references exist in this machine's version: man(1)."""
    references = ", ".join(attack.reference for attack in ATTACKS.values())
    pages = re.findall(r"[\w-]+\(\d\)", references)
    done = subprocess.run(["man", "-w", *pages], capture_output=True, text=True)
    assert done.returncode == 0 and len(pages) > 20, done.stderr
