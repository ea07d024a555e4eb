"""The list of layers that an image is, as process.read_lines reads it."""

import sys

import pytest
from pages import PROJECT

sys.path.append(str(PROJECT / "steps"))
import tools


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("a\n\nb\n", "line 2 is blank"),
        ("a\nb\n\n", "line 3 is blank"),
        ("a\nb\na\n", "line 3 repeats line 1"),
        ("a\nb\nc\nd\n", "has 4 lines, but 3 are the most here"),
    ],
    ids=["empty", "only a blank", "blank", "blank at the end", "twice", "too many"],
)
def test_bad_list_is_refused_with_its_path_and_the_reason(tmp_path, text, says):
    path = tmp_path / "list"
    path.write_text(text)
    with pytest.raises(SystemExit) as error:
        tools.read_lines(str(path), most=3)
    assert str(path) in str(error.value) and says in str(error.value)


@pytest.mark.parametrize("text", ["a\nb c\n", "a\nb c"])
def test_list_may_end_without_a_line_feed(tmp_path, text):
    (tmp_path / "list").write_text(text)
    assert tools.read_lines(str(tmp_path / "list"), most=2) == ["a", "b c"]
