"""Each fact of a step's suite says where its lesson tells what the fact demands.

    @pytest.mark.told("spec-mounts", given=["Debian"])

The arguments are ids of cells of the step's own lesson; "02_pid/spec" is a cell of
another lesson. `given`: texts that the fact compares with, but that no runtime has to
know, because the image, the kernel or another program prints them.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

import nbformat
import pytest
from pages import LESSONS
from runtime import PROJECT
from source import facts

SUITES = sorted((PROJECT / "tests").glob("test_[0-9][0-9]_*.py"))
# The options of `run`, and the number of the step that adds each.
OPTIONS = {"hostname": 1, "net": 4, "memory": 6, "pids": 6, "cpus": 6}


@dataclass(frozen=True)
class Demand:
    """A fact: where it is told, and the texts and options that it demands."""

    name: str
    cells: list[str]
    words: set[str]


def told(function: ast.FunctionDef) -> ast.Call | None:
    """Returns the marker of a fact."""
    for node in function.decorator_list:
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.told":
            return node
    return None


def texts(node: ast.AST) -> Iterator[str]:
    """Yields the texts in an expression, without the arguments of the calls in it: these
    are mostly commands. The arguments of str.startswith and str.endswith are demands."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Call):
        yield from texts(node.func)
        if isinstance(node.func, ast.Attribute) and node.func.attr in (
            "startswith",
            "endswith",
        ):
            for argument in node.args:
                yield from texts(argument)
    elif not isinstance(node, ast.Subscript):  # a key names one of our own values
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def demands(function: ast.FunctionDef, step: int) -> Demand:
    """Returns what a fact demands."""
    marker = told(function)
    assert marker, f"{function.name} has no marker `told`"
    cells = [ast.literal_eval(argument) for argument in marker.args]
    given = [ast.literal_eval(word.value) for word in marker.keywords]
    compared: set[str] = set()
    inside = set()  # the nodes of assertions
    words = set()
    for node in ast.walk(ast.Module(function.body, [])):
        parts: list[ast.AST] = []
        if isinstance(node, ast.Assert):
            parts = [node.test]
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) == "assert_one_line_error":
                parts = list(node.args[1:])
            for keyword in node.keywords:
                if OPTIONS.get(keyword.arg or "") == step:
                    words.add(f"--{keyword.arg}")
        for part in parts:
            compared |= {text.strip() for text in texts(part)}
            inside |= {id(child) for child in ast.walk(part)}
    own = [  # what the fact itself writes, sends or asks for, which is then no demand
        node.value
        for node in ast.walk(ast.Module(function.body[1:], []))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in inside
    ]
    for text in compared:
        known = any(text in other for other in [*own, *(given[0] if given else [])])
        if len(text) > 1 and re.search("[A-Za-z]", text) and not known:
            words.add(text)
    return Demand(function.name, cells, words)


def flat(text: str) -> str:
    """Returns a text in one line, without the marks of Markdown and HTML."""
    return " ".join(re.sub(r"[`*]|</?code>", "", text).split())


CELLS = {
    f"{path.stem}/{cell.id}": flat(cell.source)
    for path in LESSONS
    for cell in nbformat.read(path, 4).cells
}


@pytest.mark.parametrize("suite", SUITES, ids=[path.stem for path in SUITES])
def test_lesson_tells_everything_that_its_facts_demand(suite):
    number = suite.stem[5:7]
    lesson = next(path.stem for path in LESSONS if path.stem.startswith(number))
    wrong = []
    for function in facts(suite):
        if not told(function):
            wrong.append(f"{function.name}: no marker `told`")
            continue
        demand = demands(function, int(number))
        names = [cell if "/" in cell else f"{lesson}/{cell}" for cell in demand.cells]
        missing = [name for name in names if name not in CELLS]
        wrong += [f"{function.name}: there is no cell {name}" for name in missing]
        lines = " ".join(CELLS.get(name, "") for name in names)
        wrong += [
            f"{function.name}: {names} do not tell {word!r}"
            for word in sorted(demand.words)
            if flat(word) not in lines
        ]
        if not names:
            wrong.append(f"{function.name}: its marker names no cell")
    assert not wrong, "\n".join(wrong)


def fact(body: str) -> ast.FunctionDef:
    lines = ["@pytest.mark.told('spec', given=['Debian'])", "def test_x(runtime):"]
    text = "\n".join(
        [*lines, "    'why'", *(f"    {line}" for line in body.split("\n"))]
    )
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    return function


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("assert runtime.ok('hostname') == 'container\\n'", {"container"}),
        ("assert 'Debian' in runtime.ok('cat /etc/os-release')", set()),
        ("assert runtime.ok('echo hello') == 'hello\\n'", {"hello"}),
        ("said = runtime.ok('echo hello')\nassert said == 'hello\\n'", set()),
        (
            "assert_one_line_error(result, 'no such command', status=127)",
            {"no such command"},
        ),
        ("runtime.ok('true', memory='64M')", {"--memory"}),
        ("assert path.startswith('/sys/fs/cgroup')", {"/sys/fs/cgroup"}),
        ("assert len(seen['pid']) == 2 and x != ''", set()),
    ],
)
def test_demands_are_what_a_fact_compares_with_and_the_options_of_its_step(body, words):
    assert demands(fact(body), 6) == Demand("test_x", ["spec"], words)
