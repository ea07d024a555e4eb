"""Says in words what a failed assertion of a fact has expected, and what has happened instead."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import operator
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from workshop.refusals import FILTERED

LONG = 60  # characters of a value that is easier to read as a difference


@dataclasses.dataclass(frozen=True)
class Words:
    """What a test has expected, and what has happened. None: there is nothing to say."""

    expected: str | None
    happened: str | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison in an assertion that has failed. Both sides are shortened texts."""

    operator: str
    left: str
    right: str
    holds: bool = False  # an assertion can consist of several comparisons
    difference: str | None = None  # between two collections, in words

    @classmethod
    def of(cls, symbol: str, left: object, right: object) -> Comparison:
        """Returns the comparison of two values."""
        holds = False
        with contextlib.suppress(Exception):
            holds = bool(OPERATORS[symbol](left, right))
        if symbol == "==":
            left, right = only_different(left, right)
        return cls(symbol, brief(left), brief(right), holds, difference(left, right))

    def swapped(self) -> Comparison:
        """Returns the same comparison with its sides exchanged: 1 < x becomes x > 1."""
        symbol = SWAPPED.get(self.operator, self.operator)
        return dataclasses.replace(
            self, operator=symbol, left=self.right, right=self.left
        )

    def expected(self) -> str:
        """Returns what the test has expected, in words."""
        return EXPECTED[self.operator].format(left=self.left, right=self.right)

    def happened(self) -> str:
        """Returns what was there instead."""
        if self.operator == "==" and self.difference:
            return self.difference
        return self.right if "in" in self.operator else self.left


EXPECTED = {  # by the operator of the comparison
    "==": "{right}",
    "!=": "anything but {right}",
    "in": "{left} in it",
    "not in": "no {left} in it",
    ">=": "{right} or more",
    "<=": "{right} or less",
    ">": "more than {right}",
    "<": "less than {right}",
    "is": "{right}",
    "is not": "anything but {right}",
}
SWAPPED = {">=": "<=", "<=": ">=", ">": "<", "<": ">"}
OPERATORS: dict[str, Callable[[Any, Any], object]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "in": lambda left, right: left in right,
    "not in": lambda left, right: left not in right,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "is": operator.is_,
    "is not": operator.is_not,
}


def brief(value: object) -> str:
    """Returns repr(value) without the middle if it is long."""
    text = repr(sorted(value, key=repr) if isinstance(value, set) else value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-90:]}"


def only_different(left: object, right: object) -> tuple[object, object]:
    """Returns two values. If they are dicts with the same keys, they are without the keys whose
    values are equal."""
    if not (isinstance(left, dict) and isinstance(right, dict)):
        return left, right
    if left.keys() != right.keys() or left == right:
        return left, right
    keys = [key for key in right if left[key] != right[key]]
    return {key: left[key] for key in keys}, {key: right[key] for key in keys}


def difference(left: object, right: object) -> str | None:
    """Returns what a long collection lacks and has besides, in words, or None if that does
    not say how the two differ. In dicts, the collections are the values."""
    if isinstance(left, dict) and isinstance(right, dict):
        return _difference_by_key(left, right)
    return _lacks_and_more(left, right) if len(repr(right)) > LONG else None


def _difference_by_key(left: dict[Any, Any], right: dict[Any, Any]) -> str | None:
    """Returns how the long collections in two dicts differ. Keys with the same difference come
    together."""
    if not any(len(repr(v)) > LONG for v in [*left.values(), *right.values()]):
        return None
    keys: dict[str, list[str]] = {}
    for key in right:
        words = _lacks_and_more(left.get(key), right[key])
        if not words:
            return None
        keys.setdefault(words, []).append(str(key))
    return "; ".join(f"{', '.join(names)}: {words}" for words, names in keys.items())


def _lacks_and_more(left: object, right: object) -> str | None:
    """Returns what a collection of texts lacks and has besides, in words."""
    kinds = set, list
    if not (isinstance(left, kinds) and isinstance(right, kinds)):
        return None
    if not all(isinstance(v, str) for v in [*left, *right]):
        return None
    lacks, more = sorted(set(right) - set(left)), sorted(set(left) - set(right))
    parts = [f"{', '.join(lacks)} missing"] if lacks else []
    parts += [f"{', '.join(more)} too many"] if more else []
    return ", and ".join(parts) or None


def in_words(
    statement: str, comparisons: Sequence[Comparison], explanation: str
) -> Words:
    """Returns what an assertion has expected and what has happened. `statement`: its source.
    `comparisons`: those that were made for it, in order. `explanation`: the text of its
    AssertionError, as pytest writes it."""
    assertion = _parse(statement)
    if assertion is None:  # raised by a helper of the tests, with a text of its own
        return Words(None, _said(explanation))
    node, comparison = _culprit(assertion.test, list(comparisons))
    message = assertion.msg
    if isinstance(node, ast.Compare) and comparison:
        return _compared(node, comparison)
    words = _condition(node, explanation)
    if isinstance(message, ast.JoinedStr) or (
        isinstance(message, ast.Constant) and isinstance(message.value, str)
    ):
        words = Words(None, _said(explanation))  # the test's author has found the words
    return words


def raised(error: BaseException, statement: str) -> Words:
    """Returns what it means that a test ended with an error that is not a failed assertion.
    `statement`: the source of the statement that raised it."""
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return Words(None, f"{error.strerror}{where}")
    seconds = getattr(error, "timeout", None)
    if seconds is not None:
        return Words(None, f"a command did not end within {seconds:.0f} s")
    if not isinstance(error, Exception):
        # pytest.fail, which pytest.raises uses as well: it raises a BaseException
        missing = re.fullmatch(
            r"DID NOT RAISE (?:<class ')?(?:.*\.)?(\w+)(?:'>)?", str(error)
        )
        if missing:
            return Words(f"the error {missing[1]}", "no error")
        return Words(None, _said(str(error)))
    code = " ".join(statement.split())
    return Words(
        f"a result that the test can read with `{code}`",
        f"another one ({type(error).__name__}: {_said(str(error)) or 'no text'})",
    )


def _parse(statement: str) -> ast.Assert | None:
    """Returns the assertion in a statement's source, if it is one."""
    try:
        [node] = ast.parse(statement.strip()).body
    except (SyntaxError, ValueError):
        return None
    return node if isinstance(node, ast.Assert) else None


def _said(explanation: str) -> str | None:
    """Returns the first line of an error's text, without pytest's prefix."""
    lines = explanation.strip().splitlines()
    first = lines[0].removeprefix("AssertionError: ") if lines else ""
    return None if first.startswith(("command:", "assert ")) else first or None


def _culprit(
    test: ast.expr, comparisons: list[Comparison]
) -> tuple[ast.expr, Comparison | None]:
    """Returns the part of a condition that is false, and its comparison if it is one. pytest
    has made the comparisons in order, and has stopped at the first part that is false."""
    if not (isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And)):
        return test, comparisons[-1] if comparisons else None
    suspect: ast.expr | None = None
    for part in test.values:
        number = sum(1 for _ in _comparisons(part))
        if number == 0:
            suspect = suspect or part
        elif len(comparisons) < number:  # it was not evaluated
            break
        else:
            made, comparisons = comparisons[:number], comparisons[number:]
            if not made[-1].holds:
                return part, made[-1]
            suspect = None  # everything before this part is true
    return suspect or test.values[-1], None


def _comparisons(node: ast.AST) -> Iterator[ast.Compare]:
    """Yields the comparisons in an expression that pytest reports: not those in functions and
    comprehensions."""
    hidden = ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp
    if isinstance(node, ast.Compare):
        yield node
    elif not isinstance(node, hidden):
        for child in ast.iter_child_nodes(node):
            yield from _comparisons(child)


def _compared(node: ast.Compare, comparison: Comparison) -> Words:
    """Returns the words about a comparison that is false."""
    sides = [node.left, *node.comparators]
    pairs = list(zip(sides, sides[1:], strict=False))
    left, right = next(  # of a < b < c, the pair that is false
        (pair for pair in pairs if _fits(pair, comparison)), pairs[-1]
    )
    if (
        _is_constant(left)
        and not _is_constant(right)
        and "in" not in comparison.operator
    ):
        left, comparison = right, comparison.swapped()
    if "in" in comparison.operator:
        return Words(comparison.expected(), comparison.happened())
    source, happened = ast.unparse(left), comparison.happened()
    if source.endswith((".status", ".returncode")):
        return Words(f"status {comparison.expected()}", f"status {_status(happened)}")
    if re.fullmatch(r"-?[\d.e-]+|None|True|False", happened):  # says little by itself
        return Words(f"`{source}` is {comparison.expected()}", f"it is {happened}")
    return Words(comparison.expected(), happened)


def _status(text: str) -> str:
    """Returns an exit status, and what it means if a filter for system calls is the reason."""
    if text != str(FILTERED):
        return text
    return f"{text} (128 + {signal.SIGSYS:d}, SIGSYS: the filter ended it)"


def _fits(pair: tuple[ast.expr, ast.expr], comparison: Comparison) -> bool:
    """Returns whether a comparison can be the one of these two expressions."""
    texts = comparison.left, comparison.right
    return all(
        not _is_constant(side) or brief(ast.literal_eval(side)) == text
        for side, text in zip(pair, texts, strict=True)
    )


def _is_constant(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return False
    return True


def _condition(node: ast.expr, explanation: str) -> Words:
    """Returns the words about a condition, without a comparison, that is false."""
    wrong = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    inner = node.operand if isinstance(node, ast.UnaryOp) and wrong else node
    source = ast.unparse(inner)
    name = ""
    if isinstance(inner, ast.Call):
        name = ast.unparse(inner.func).rpartition(".")[2]
    if name == "eventually" and isinstance(inner, ast.Call):
        return _eventually(inner)
    if name == "exists" and (path := _path(explanation)):
        there, gone = f"{path} exists", f"{path} does not exist"
        return Words(gone, there) if wrong else Words(there, gone)
    if name in ("any", "all"):
        return Words(f"{'not ' if wrong else ''}{source}", "this is not so")
    if isinstance(inner, ast.Call) and not wrong:
        if name in ("search", "match", "fullmatch") and len(inner.args) >= 2:
            pattern, text = _arguments(explanation, inner)
            return Words(f"something that matches {pattern}", text)
        if name in ("startswith", "endswith") and inner.args:
            verb = f"{name.removesuffix('with')}s with".replace("ss ", "s ")
            return Words(
                f"it {verb} {ast.unparse(inner.args[0])}", _owner(explanation, name)
            )
    value = _value(explanation)
    if value is None or value in ("True", "False"):
        return Words(f"`{source}` is {'false' if wrong else 'true'}", "it is not")
    full = value[0] in "'\"[({"  # a text or a collection
    state = ("empty" if full else "false") if wrong else "not empty" if full else "true"
    return Words(f"`{source}` is {state}", f"it is {value}")


def _eventually(call: ast.Call) -> Words:
    """Returns the words about eventually(...), which has waited in vain."""
    condition = call.args[0]
    if isinstance(condition, ast.Lambda):
        condition = condition.body
    late = "even after some seconds, it was not so"
    if isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not):
        return Words(
            f"soon, `{ast.unparse(condition.operand)}` is false or empty", late
        )
    if isinstance(condition, ast.Compare | ast.BoolOp | ast.Name):
        return Words(f"soon, `{ast.unparse(condition)}`", late)
    return Words(f"soon, `{ast.unparse(condition)}` is true", late)


def _value(explanation: str) -> str | None:
    """Returns the value of the condition that is false, as pytest shows it."""
    lines = [line for line in explanation.splitlines() if line.startswith("assert ")]
    if not lines:
        return None
    text = lines[-1].removeprefix("assert ")
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].rpartition(" and ")[2]
    text = text.removeprefix("not ").strip()
    with contextlib.suppress(SyntaxError, ValueError, TypeError):
        ast.literal_eval(text)
        return text
    return None  # an object, or an expression such as (5 & 1)


def _path(explanation: str) -> str | None:
    """Returns the path that an explanation asks for with exists()."""
    if match := re.search(r"function exists at \w+>\('([^']*)'\)", explanation):
        return match[1]
    if match := re.search(r" = (.*Path\(.*)\.exists$", explanation, re.MULTILINE):
        return "/".join(re.findall(r"'([^']*)'", match[1]))  # Path('/a') / 'b'
    return None


def _owner(explanation: str, method: str) -> str | None:
    """Returns the text whose method was called."""
    match = re.search(rf"= (.*)\.{method}$", explanation, re.MULTILINE)
    return match[1] if match else None


def _arguments(explanation: str, call: ast.Call) -> tuple[str, str | None]:
    """Returns the first two arguments of a call, the second one as pytest shows it."""
    pattern = ast.unparse(call.args[0])
    with contextlib.suppress(SyntaxError, ValueError, TypeError):
        if match := re.search(r"<function \w+ at \w+>(\(.*\))$", explanation, re.M):
            values = ast.literal_eval(match[1])
            return repr(values[0]), brief(values[1])
    return pattern, None
