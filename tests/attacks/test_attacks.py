"""Every attack of catalogue.py that runs in a container: against the finished container by
root inside and by an ordinary user inside, and against the step before the one that stops
it, where it has to work. Those that begin outside are in test_outside.py."""

import contextlib
import re
import shlex
import subprocess

import pytest
import targets
import test_outside
from runtime import nothing_left_behind
from table import ATTACKS
from targets import command, facts, runtime_of

INSIDE = [a for name, a in ATTACKS.items() if not hasattr(test_outside, f"test_{name}")]
STOPPED = [a for a in INSIDE if a.stopped_by is not None]
OPEN = [a for a in INSIDE if a.stopped_by is None]
WHO = ["root", "user"]


def name(attack):
    return attack.name if not isinstance(attack, str) else attack


@pytest.fixture(scope="module")
def attempt(image):
    """A function that runs an attack in a container of a step, which is started when it is
    first needed. Returns what the attack said."""
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
def aimed(attack):
    """Makes the attack's targets. Yields the arguments for it and whether they are reached,
    a function of what the attack said."""
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(getattr(targets, t)()) for t in attack.targets]
        yield (
            [argument for argument, _ in made],
            lambda said: all(harmed(said) for _, harmed in made),
        )


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("attack", facts(STOPPED), ids=name)
def test_attack_fails_on_its_step_and_on_the_last_one(attack, who, attempt):
    """user_namespaces(7), namespaces(7): the kernel refuses it in the words that the
    catalogue has, and the target is not reached."""
    with aimed(attack) as (arguments, reached):
        for step in (attack.stopped_by, 7) if who == "root" else (7,):
            said = attempt(step, attack, who, *arguments)
            assert re.search(f"refused: .*({attack.says})", said), (step, said)
            assert not attack.targets or not reached(said), (step, said)


@pytest.mark.parametrize(
    "attack", facts([a for a in STOPPED if a.stopped_by]), ids=name
)
def test_attack_works_on_the_step_before(attack, attempt):
    """The negative control: one kernel feature less, and the target is reached."""
    with aimed(attack) as (arguments, reached):
        said = attempt(attack.stopped_by - 1, attack, "root", *arguments)
        assert "worked: " in said and reached(said), said


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("attack", facts(OPEN), ids=name)
def test_open_attack_works_on_the_last_step(attack, who, attempt):
    """What the page calls open is open: capabilities(7), seccomp(2), masked paths."""
    with aimed(attack) as (arguments, reached):
        said = attempt(7, attack, who, *arguments)
        assert "worked: " in said and reached(said), said


@pytest.mark.needs("debian13")
def test_references_of_all_attacks_exist():
    """Those that are man pages, in the version that this machine has: man(1)."""
    references = ", ".join(attack.reference for attack in ATTACKS.values())
    pages = re.findall(r"[\w-]+\(\d\)", references)
    done = subprocess.run(["man", "-w", *pages], capture_output=True, text=True)
    assert done.returncode == 0 and len(pages) > 20, done.stderr
