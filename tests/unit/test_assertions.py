"""What a check says about a failed assertion: in words, whatever form the assertion has."""

import json
import os
import subprocess
import sys

import pytest
from runtime import PROJECT

from workshop.assertions import Comparison

# (statements of a test, what was expected, what has happened; None: nothing is said)
FORMS = [
    ("assert 'host' == 'container'", "'container'", "'host'"),
    ("assert 'a' in 'xyz'", "'a' in it", "'xyz'"),
    ("assert 'a' not in 'abc', 'unused'", "no 'a' in it", "'abc'"),
    ("assert len([1]) == 2", "`len([1])` is 2", "it is 1"),
    ("x = 5\nassert 1 < x < 4", "`x` is less than 4", "it is 5"),
    ("x = 0\nassert 1 < x < 4", "`x` is more than 1", "it is 0"),
    (
        "assert 0.45 <= float('0.9') <= 0.55",
        "`float('0.9')` is 0.55 or less",
        "it is 0.9",
    ),
    ("assert 'box' == 'container' != 'host'", "'container'", "'box'"),
    ("r = Result([], 1, '', '')\nassert r.status == 0, r", "status 0", "status 1"),
    (
        "r = Result([], 0, '', '')\nassert r.status != 0 and 'No' in r.err, r",
        "status anything but 0",
        "status 0",
    ),
    (
        "r = Result([], 1, '', 'oh')\nassert r.status != 0 and 'No' in r.err, r",
        "'No' in it",
        "'oh'",
    ),
    (
        "r = Result([], 159, '', '')\nassert r.status == 0, r",
        "status 0",
        "status 159 (128 + 31, SIGSYS: the filter ended it)",
    ),
    ("assert {'a': 1, 'b': 2} == {'a': 1, 'b': 3}", "{'b': 3}", "{'b': 2}"),
    ("assert {'a': 1} == {'a': 1, 'b': 3}", "{'a': 1, 'b': 3}", "{'a': 1}"),
    (
        "x = [f'word{n}' for n in range(9)]\n"
        "assert {'a': x, 'b': x, 'c': []} == {'a': x[1:], 'b': x[1:], 'c': []}",
        "{'a': ['word1', 'word2', 'word3', 'word4', 'word5', 'word6', 'word7', 'word8'], "
        "'b': ['word1', 'word2', 'word3', 'word4', 'word5', 'word6', 'word7', 'word8']}",
        "a, b: word0 too many",
    ),
    ("assert not os.path.exists('/proc')", "/proc does not exist", "/proc exists"),
    (
        "p = pathlib.Path('/no/x')\nassert p.exists()",
        "/no/x exists",
        "/no/x does not exist",
    ),
    (
        "p = pathlib.Path('/proc')\nassert not (p / 'self').exists()",
        "/proc/self does not exist",
        "/proc/self exists",
    ),
    (
        "assert 1 < 2 and os.path.exists('/no/x')",
        "/no/x exists",
        "/no/x does not exist",
    ),
    (
        "assert re.search('a+b', 'xyz'), ['words']",
        "something that matches 'a+b'",
        "'xyz'",
    ),
    ("assert 'abc'.startswith('b')", "it starts with 'b'", "'abc'"),
    ("assert 'abc'.endswith('status 1')", "it ends with 'status 1'", "'abc'"),
    (
        "pid = 1\nassert eventually(lambda: not os.path.exists(f'/proc/{pid}'), 0.1), [1]",
        "soon, `os.path.exists(f'/proc/{pid}')` is false or empty",
        "even after some seconds, it was not so",
    ),
    (
        "assert eventually(lambda: [] == [1], 0.1)",
        "soon, `[] == [1]`",
        "even after some seconds, it was not so",
    ),
    (
        "assert eventually(lambda: [], 0.1), 'it is not there'",
        None,
        "it is not there",
    ),
    ("x = [1]\nassert not x", "`x` is empty", "it is [1]"),
    ("x = ''\nassert x", "`x` is not empty", "it is ''"),
    ("assert not 5 & 1", "`5 & 1` is false", "it is not"),
    ("assert not bool(1)", "`bool(1)` is false", "it is not"),
    ("assert bool(0)", "`bool(0)` is true", "it is not"),
    ("assert any(x > 2 for x in [1])", "any((x > 2 for x in [1]))", "this is not so"),
    (
        "x = {1: 2}\nassert not x, f'the host is not as it was: {x}'",
        None,
        "the host is not as it was: {1: 2}",
    ),
    (
        "r = Result([], 125, '', 'x: Operation not permitted\\n')\n"
        "assert_one_line_error(r, 'sudo')",
        "'sudo' in it",
        "'Operation not permitted'",
    ),
    (
        "r = Result([], 125, '', 'one\\ntwo\\n')\nassert_one_line_error(r)",
        None,
        "stderr is not one line that starts with the program's name: ",
    ),
    ("raise AssertionError(Result([], 1, '', ''))", None, None),
    ("with pytest.raises(OSError):\n    pass", "the error OSError", "no error"),
    ("open('/no/file')", None, "No such file or directory: /no/file"),
    (
        "[1][2]",
        "a result that the test can read with `[1][2]`",
        "another one (IndexError: list index out of range)",
    ),
    (
        "subprocess.run(['sleep', '9'], timeout=0.1)",
        None,
        "a command did not end within 0 s",
    ),
    ("pytest.fail('the words')", None, "the words"),
]
HEAD = """
import os, pathlib, pytest, re, subprocess
from runtime import Result, assert_one_line_error, eventually
"""
PLUGIN = """
import json, pytest
pytest.register_assert_rewrite("runtime")
from workshop import pytest_failures
def pytest_runtest_teardown(item):
    fields = item.stash[pytest_failures.FAILURE]
    with open({out!r}, "a") as file:
        print(json.dumps([item.name, fields]), file=file)
"""


def failures(folder, source):
    """Runs pytest on a file of tests. Returns {the name of a test: why it has failed}."""
    (folder / "steps").symlink_to(PROJECT / "steps")  # where runtime.py finds them
    folder /= "tests"
    folder.mkdir()
    (folder / "test_forms.py").write_text(source)
    (folder / "runtime.py").write_text((PROJECT / "tests/runtime.py").read_text())
    out = folder / "out"
    (folder / "plugin.py").write_text(PLUGIN.format(out=str(out)))
    path = os.pathsep.join([str(folder), str(PROJECT), str(PROJECT / "steps")])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "workshop.pytest_failures"]
    command += ["-p", "plugin", "-p", "no:cacheprovider", "test_forms.py"]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert out.exists(), done.stdout + done.stderr
    return dict(map(json.loads, out.read_text().splitlines()))


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """{the name of a form's test: what is said about it}, from one run of pytest."""
    tests = [
        f"def test_{number}():\n"
        + "".join(f"    {line}\n" for line in form.split("\n"))
        for number, (form, _, _) in enumerate(FORMS)
    ]
    found = failures(tmp_path_factory.mktemp("forms"), HEAD + "\n".join(tests))
    assert len(found) == len(FORMS)
    return found


@pytest.mark.parametrize(
    ("number", "expected", "happened"),
    [(n, *form[1:]) for n, form in enumerate(FORMS)],
    ids=[form[0] for form in FORMS],
)
def test_failed_assertion_is_told_in_words(words, number, expected, happened):
    fields = words[f"test_{number}"]
    assert (fields.get("expected"), fields.get("happened")) == (expected, happened)


COMMANDS = """
import pytest
from runtime import Result
def ended(status):
    result = Result(["one"], status, "", "")
    try:
        assert result.status == 0, result
    finally:
        Result(["clean", "up"], 0, "", "")
def test_with_a_result():
    ended(3)
def test_with_another():
    result = Result(["first"], 0, "", "")
    out = Result(["second"], 0, "", "").out
    assert out == "x"
"""


def test_command_is_the_one_that_the_assertion_is_about(tmp_path):
    found = failures(tmp_path, COMMANDS)
    assert found["test_with_a_result"]["command"] == "one"
    assert found["test_with_a_result"]["happened"] == "status 3"
    assert found["test_with_another"]["command"] == "second"


@pytest.mark.parametrize(
    ("operator", "left", "right", "expected", "happened"),
    [
        ("!=", 1, 1, "anything but 1", "1"),
        (">=", 1, 2, "2 or more", "1"),
        ("==", {"a"}, {"b", "c"}, "['b', 'c']", "['a']"),
        (
            "==",
            {"/", "/proc", "/old"},
            {
                "/",
                "/proc",
                "/sys",
                "/dev",
                "/dev/pts",
                "/dev/shm",
                "/dev/mqueue",
                "/tmp",
            },
            "['/', '/dev', '/dev/mqueue', '/dev/pts', '/dev/shm', '/proc', '/sys', '/tmp']",
            "/dev, /dev/mqueue, /dev/pts, /dev/shm, /sys, /tmp missing, and /old too many",
        ),
    ],
)
def test_comparison_of_collections_names_the_difference(
    operator, left, right, expected, happened
):
    comparison = Comparison.of(operator, left, right)
    assert (comparison.expected(), comparison.happened()) == (expected, happened)
