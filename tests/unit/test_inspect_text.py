"""`workshop inspect` and what it reads from /proc, where no container is needed for it."""

import pytest

from workshop.commands import inspect
from workshop.errors import Failure
from workshop.commands.inspect import Container


def test_no_container_is_told(monkeypatch):
    monkeypatch.setattr(inspect, "running", list)
    with pytest.raises(Failure, match="no container runs"):
        inspect.find()


def test_container_is_found_by_its_host_name_unless_two_have_it(monkeypatch):
    boxes = [Container(10, 11, ["x"]), Container(20, 21, ["x"]), Container(30, 31, [])]
    names = {11: "one", 21: "two", 31: "two"}
    monkeypatch.setattr(inspect, "running", lambda: boxes)
    monkeypatch.setattr(inspect, "host_name", lambda box: names[box.pid])
    assert inspect.find() is None
    assert inspect.find("one") == boxes[0]
    with pytest.raises(
        Failure, match="no container that runs has the host name nowhere"
    ):
        inspect.find("nowhere")
    with pytest.raises(Failure, match="several .* two: say which pid, 21, 31"):
        inspect.find("two")
    with pytest.raises(Failure, match="no process has the pid 4194305"):
        inspect.find("4194305")
