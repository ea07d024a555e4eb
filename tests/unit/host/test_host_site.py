"""./lab site and the virtual environment that it makes. Here nothing is installed or built."""

import argparse
import pathlib
import shutil
import sys

import pytest

from host import environments, lessons, packages, processes
from host.commands import site
from host.errors import LabError


@pytest.fixture
def ran(monkeypatch):
    """The commands that were run, instead of running them. `venv` makes a Python."""
    commands = []

    def run_logged(stage, argv, log, **options):
        commands.append([str(word) for word in argv])
        if "venv" in commands[-1]:
            place = commands[-1][-1]
            shutil.rmtree(place, ignore_errors=True)
            (pathlib.Path(place) / "bin").mkdir(parents=True)

    for module in environments, processes:
        monkeypatch.setattr(module, "run_logged", run_logged)
    return commands


def options(folder, tab=None, notebooks=None, repository="", numbers=()):
    return argparse.Namespace(
        folder=folder,
        lessons=[*numbers],
        tab=tab,
        notebooks=notebooks,
        repository=repository,
    )


def test_environment_is_made_once_for_each_list_of_packages(lab, ran, tmp_path):
    folder, wanted = tmp_path / "venv", tmp_path / "wanted.txt"
    wanted.write_text("one==1\n")
    python = environments.ensure(lab, folder, wanted, "installing")
    assert python == folder / "bin/python"
    assert ran[0][1:] == ["-m", "venv", "--clear", str(folder)]
    assert ran[1][0] == str(python) and "--require-hashes" in ran[1]
    environments.ensure(lab, folder, wanted, "installing")
    assert len(ran) == 2
    wanted.write_text("one==2\n")
    environments.ensure(lab, folder, wanted, "installing")
    assert len(ran) == 4


def test_package_for_environments_is_installed_if_python_lacks_it(
    lab, ran, tmp_path, monkeypatch
):
    installed = []
    monkeypatch.setattr(environments.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(packages, "install", lambda lab, names: installed.extend(names))
    (tmp_path / "wanted.txt").write_text("one==1\n")
    wanted = tmp_path / "wanted.txt"
    environments.ensure(lab, tmp_path / "venv", wanted, "installing")
    assert installed == ["python3-venv"]


def test_failed_installation_is_tried_again(lab, ran, tmp_path, monkeypatch):
    def fail(stage, argv, log):
        raise LabError("pip failed")

    wanted = tmp_path / "wanted.txt"
    wanted.write_text("one==1\n")
    with monkeypatch.context() as patch:
        patch.setattr(environments, "run_logged", fail)
        with pytest.raises(LabError):
            environments.ensure(lab, tmp_path / "venv", wanted, "installing")
    environments.ensure(lab, tmp_path / "venv", wanted, "installing")
    assert len(ran) == 2


def test_old_python_is_an_error_before_anything_happens(
    lab, ran, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(LabError, match=r"needs Python 3\.11 or newer"):
        site.run(lab, options(tmp_path / "out"))
    assert not ran and not (tmp_path / "out").exists()


def test_tab_without_a_page_is_an_error_before_anything_happens(lab, ran, tmp_path):
    with pytest.raises(LabError, match="there is no .*tab/index.html"):
        site.run(lab, options(tmp_path / "out", tab=tmp_path / "tab"))
    assert not ran


def test_pages_are_made_of_lessons_that_have_run(lab, ran, tmp_path, monkeypatch):
    for passed, status in (True, 0), (False, 1):
        found = lessons.Ran(tmp_path / "lessons", passed)
        monkeypatch.setattr(lessons, "run", lambda lab, numbers, found=found: found)
        assert site.run(lab, options(tmp_path / "out")) == status
        assert ran[-1][2:] == [
            str(lab.settings.project / "site/web/make.py"),
            str(tmp_path / "out"),
            str(tmp_path / "lessons/notebooks"),
        ]


def test_lessons_with_a_number_run_and_the_others_come_from_a_directory(
    lab, ran, tmp_path, monkeypatch
):
    asked = []

    def run(lab, numbers):
        asked.extend(numbers)
        return lessons.Ran(tmp_path / "lessons", passed=True)

    monkeypatch.setattr(lessons, "run", run)
    found = options(tmp_path / "out", notebooks=tmp_path / "old", numbers=["0", "6"])
    assert site.run(lab, found) == 0
    assert asked == ["0", "6"]
    places = [str(tmp_path / "lessons/notebooks"), str(tmp_path / "old")]
    assert ran[-1][4:] == places


def test_no_lesson_runs_if_the_notebooks_are_given(lab, ran, tmp_path, monkeypatch):
    monkeypatch.setattr(lessons, "run", lambda *_: pytest.fail("they run"))
    (tmp_path / "tab").mkdir()
    (tmp_path / "tab/index.html").write_text("")
    place = tmp_path / "out", tmp_path / "tab", tmp_path / "notebooks"
    where = options(*place, "https://example.org/x")
    assert site.run(lab, where) == 0
    assert ran[-1][3:] == [
        str(tmp_path / "out"),
        str(tmp_path / "notebooks"),
        "--tab",
        str(tmp_path / "tab"),
        "--repository",
        "https://example.org/x",
    ]
