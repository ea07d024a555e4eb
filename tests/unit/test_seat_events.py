"""What the classroom's hub reads from the program that starts a student's VM."""

import json

import pytest

from classroom.events import Event, parse


def test_events_are_found_between_the_lines_of_other_programs():
    lines = ['{"text": "starting the VM"}', "qemu: a warning", '{"ready": true}']
    assert parse("\n".join(lines)) == [Event(text="starting the VM"), Event(ready=True)]
    assert parse('{"error": "no image"}\n') == [Event(error="no image")]


@pytest.mark.parametrize("value", [None, 3, [], {}, {"text": {}}])
def test_values_of_a_wrong_type_are_ignored(value):
    lines = [json.dumps({key: value}) for key in ("text", "error", "ready")]
    assert parse("\n".join([*lines, json.dumps(value)])) in (
        [Event()] * 3,
        [Event()] * 4,
    )


def test_line_that_is_nested_too_deep_is_ignored():
    assert parse("[" * 100_000) == []
