"""The tables that hints come from: they name facts that exist, and every finding has a topic."""

import ast
import re
from types import SimpleNamespace

import pytest
from hint_mutants import MISTAKES
from runtime import LAST, PROJECT, STEPS, Result

from workshop import expectations, pytest_plugin, refusals
from workshop.expectations import MOUNT_OPTIONS, MOUNTS
from workshop.facts import Fact
from workshop.hints import best_hint, most_telling, same_error
from workshop.namespaces import NAMESPACES
from workshop.pytest_failures import shortened
from workshop.refusals import REFUSED, in_one_line, why_ended, why_refused
from workshop.symptoms import SYMPTOMS, USUAL
from workshop.topics import TOPICS, Finding

SUITES = [path.read_text() for path in (PROJECT / "tests").glob("test_[0-9][0-9]_*.py")]
NAMES = [
    name.replace("_", " ")
    for suite in SUITES
    for name in re.findall(r"^def test_(\w+)", suite, re.MULTILINE)
]
CHANGES = ast.parse((PROJECT / "tests/runtime.py").read_text())


def changes_on_the_host():
    """Returns what host_state() looks at."""
    [function] = [
        node for node in CHANGES.body if getattr(node, "name", "") == "host_state"
    ]
    [result] = [node for node in ast.walk(function) if isinstance(node, ast.Dict)]
    return [ast.literal_eval(key) for key in result.keys]


def exists(part):
    """Returns whether a part of a fact's name, as in TOPICS, is one."""
    if part.startswith("step "):
        return part[5:] in [step.parent.name[:2] for step in STEPS]
    if part.startswith("host: "):
        return part[6:] in changes_on_the_host()
    if part.startswith("--"):  # an option in a command
        return part.split()[0] in LAST.read_text()
    if parameter := re.fullmatch(r"\((\w+)\)", part):
        return any(f'"{parameter[1]}"' in suite for suite in SUITES)
    return any(part in name for name in NAMES)


def test_every_fact_that_a_topic_names_exists():
    wrong = [part for parts in TOPICS.values() for part in parts if not exists(part)]
    assert wrong == []


def test_every_fact_that_has_symptoms_exists():
    parts = [symptom.fact for symptom in SYMPTOMS] + list(USUAL)
    assert [part for part in parts if not exists(part)] == []


def test_every_mistake_names_a_fact_and_changes_its_step():
    for mistake in MISTAKES:
        assert exists(mistake.fact.partition(" (")[0]), mistake
        source = (PROJECT / "steps" / mistake.step / "container.py").read_text()
        for old in filter(None, (mistake.old, mistake.second[0])):
            assert source.count(old) == 1, mistake
    for step in STEPS:
        likely = [m for m in MISTAKES if m.step == step.parent.name]
        assert len(likely) >= 8, step


def test_every_finding_has_a_topic():
    """Those with a name that is computed are the tables that they are computed from."""
    computed = [*MOUNTS, *MOUNT_OPTIONS.values(), *expectations.LIMITS]
    computed += [namespace.flag_name for namespace in NAMESPACES]
    written = []
    for name in "expectations", "diagnose":
        source = (PROJECT / f"workshop/{name}.py").read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
                topic = node.args[0]
                if isinstance(topic, ast.Constant):
                    written.append(topic.value)
    assert len(written) > 20 and {*computed, *written} <= TOPICS.keys()


def fact(name, **fields):
    return Fact("03", name, False, "", **fields)


def test_finding_explains_only_the_facts_of_its_topic():
    nosuid = Finding("nosuid", "x")
    assert nosuid.explains(fact("mounts ignore set user id bits"))
    assert not nosuid.explains(fact("image can be given as a path"))
    assert Finding("CLONE_NEWNS", "x").explains(fact("anything of step 03"))
    assert Finding("--net", "x").explains(fact("y", command="c.py run --net none x"))
    changed = fact("y", happened="the host is not as it was: {'mounts': ['+ x']}")
    assert Finding("propagation", "x").explains(changed)
    assert not Finding("host name", "x").explains(changed)


def test_shared_tree_is_a_better_hint_than_the_refusal_it_leads_to():
    said = "container.py: pivot_root: Invalid argument: '/mnt'"
    refused = fact("x", command="c", status=125, said=said)
    start = Finding("start", refusals.PIVOT_ROOT)
    assert best_hint(refused, [start]) == refusals.PIVOT_ROOT
    assert best_hint(refused, [Finding("tree", "no map"), start]) == "no map"


def test_usual_cause_is_a_hint_only_if_the_container_starts():
    known = next(iter(USUAL))
    assert best_hint(fact(known), []) == USUAL[known]
    ended = fact(known, command="c", status=125, said="container.py: x")
    repeated = why_ended(125, "container.py: x")
    assert best_hint(ended, [Finding("start", repeated)]) is None


def test_first_fact_with_a_hint_is_explained():
    first, second, third = fact("x"), fact(next(iter(USUAL))), fact("y")
    assert most_telling([first, third], []) == first
    assert most_telling([first, second, third], []) == second
    ended = fact("x", command="c", status=125, said="container.py: it says why")
    assert most_telling([ended, second], []) == ended


def test_same_error_of_the_runtime_is_the_same_with_another_pid():
    def ended(said, status=125):
        return fact("x", command="c", status=status, said=said)

    assert same_error(ended("nsenter -t 12: no"), ended("nsenter -t 345: no"))
    assert not same_error(ended("one"), ended("other"))
    assert not same_error(ended("no", 1), ended("no", 1))  # of the command
    assert same_error(ended("one", 159), ended("other", 159))  # SIGSYS, from the filter
    assert not same_error(fact("x"), fact("y"))


def test_fact_shows_the_last_command_of_the_runtime(monkeypatch):
    monkeypatch.setattr(Result, "last", None)
    first = Result(["bash", "-c", "ip link"], 0, "", "")
    assert Result.last is first
    own = Result(["/x/container.py", "run", "true"], 125, "", "")
    Result(["bash", "-c", "network.sh off"], 0, "", "")
    assert Result.last is own
    later = Result(["setpriv", "/x/container.py"], 0, "", "")
    assert Result.last is later


def test_long_output_is_reported_with_its_first_and_its_last_line():
    assert shortened("a\nb\nc") == "a\nb\nc"
    long = "\n".join(["container.py: the cause", *map(str, range(1000)), "the end"])
    assert shortened(long) == "container.py: the cause\n…\nthe end"
    assert shortened("a" * 400 + "b" * 400) == f"{'a' * 300}\n…\n{'b' * 300}"


TRACEBACK = r"""container.py: Traceback (most recent call last):\n  File "/s/process.py",
line 285, in _begin\n  File "/tmp/learner/my/container.py", line 25, in child\n
TypeError: x is not y\n""".replace("\n", "")


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("container.py: mount: busy", "container.py: mount: busy"),
        ("", ""),
        (TRACEBACK, "container.py: line 25: TypeError: x is not y"),
        (TRACEBACK[60:], "container.py: line 25: TypeError: x is not y"),
        (
            TRACEBACK.replace(r"\n", "\n"),
            "container.py: line 25: TypeError: x is not y",
        ),
    ],
)
def test_traceback_is_told_in_one_line(said, line):
    assert in_one_line(said) == line


@pytest.mark.parametrize(
    ("markers", "told"),
    [
        ([], None),
        ([["spec"]], "03_mnt/spec"),
        ([["spec", "02_pid/flags"], ["more"]], "03_mnt/spec 02_pid/flags 03_mnt/more"),
    ],
)
def test_marker_names_the_cells_that_tell_a_fact(markers, told):
    item = SimpleNamespace(
        path=PROJECT / "tests/test_03_mnt.py",
        iter_markers=lambda name: [SimpleNamespace(args=args) for args in markers],
    )
    assert pytest_plugin.told(item) == told


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "No such file or directory: '/sys/fs/cgroup/workshop/77/memory.max': '64M'",
            "workshop/cgroup.subtree_control",
        ),
        ("mount: No such file or directory: 'busybox': '/mnt'", "turn it into a path"),
        ("mount: No such file or directory: 'overlay': '/mnt'", "upper and work"),
        ("mount: No such file or directory: '/var/x': '/mnt'", None),
        ("mount_setattr: Invalid argument: '/x'; write the", "before it calls"),
        ("mount_setattr: Invalid argument: '/x'; tmpfs has no idmapped mounts", None),
        ("true: no such command in the container", None),
        ("line 9: File exists: '/dev/fd': '/proc/self/fd'", "where the link leads"),
        ("No such file or directory: '/dev/ptmx': 'pts/ptmx'", "where the link leads"),
        ("File exists: '/proc/self/fd': '/dev/fd'", None),
        (
            "open_tree: No such file or directory: '/dev/full'",
            "before linux.pivot_root",
        ),
        ("open_tree: No such file or directory: '/run/workshop/dns'", "pivot_root"),
        ("open_tree: No such file or directory: 'busybox'", "turn it into a path"),
        ("No such file or directory: '/proc/self/mountinfo'", "linux.fsmount before"),
        # The bridge can be off; diagnose.py knows.
        ('ip link add: Error: argument "workshop0" is wrong: x', None),
        ("nsenter -t 9: Error: Nexthop has invalid gateway.", "has its address"),
        ("nsenter -t 9: Error: Device for nexthop is not up.", "has its address"),
        ("nsenter: cannot open /proc/9/ns/net: No such", "process.await_parent()"),
        ("ip link add: RTNETLINK answers: No such process", "process.await_parent()"),
        (
            "line 9: TypeError: expected str, bytes or os.PathLike object, not NoneType",
            "args.hostname is None",
        ),
    ],
)
def test_refusal_has_its_usual_cause(said, hint):
    why = why_refused(f"container.py: {said}")
    assert hint in why if hint else why is None


def test_patterns_of_refusals_are_different():
    assert len(set(REFUSED)) == len(REFUSED)
    for pattern in REFUSED:
        re.compile(pattern)
