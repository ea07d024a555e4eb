"""How the guide makes cgroups with limits, in a directory that stands in for cgroup v2.
tests/guide has the tests with a real one."""

import errno

import pytest

from workshop import cgroups, sandbox

ALL = "+cpu +memory +pids"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    return tmp_path


def test_each_cgroup_above_hands_on_the_controllers(root):
    cgroups.make(root / "outer/inner")
    assert (root / "outer/inner").is_dir()
    for folder in root, root / "outer":
        assert (folder / "cgroup.subtree_control").read_text() == ALL
    assert not (root / "outer/inner/cgroup.subtree_control").exists()


def test_only_what_was_added_is_kept_back(root):
    (root / "cgroup.subtree_control").write_text("cpu memory\n")
    cgroups.keep_back(root, cgroups.handed_on(root) - {"cpu"})
    assert (root / "cgroup.subtree_control").read_text() == "-memory"
    cgroups.keep_back(root, set())
    assert (root / "cgroup.subtree_control").read_text() == "-memory"


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.EBUSY, "no internal processes"),
        (errno.EROFS, "is read-only"),
        (errno.EACCES, "is read-only"),
        (errno.ENOENT, "No such file"),
    ],
)
def test_cgroups_that_hand_nothing_on_are_explained_and_checks_do_without(
    root, monkeypatch, number, why
):
    error = OSError(number, "No such file")

    def refuse(_):
        raise error

    assert why in cgroups.why_not_handed_on(error)
    monkeypatch.setattr(cgroups, "make", refuse)
    assert sandbox._make_cgroup("1-1") is None
