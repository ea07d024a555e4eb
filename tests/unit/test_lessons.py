"""The lessons and the appendix as they are committed. tests/test_notebooks.py runs
them."""

import pathlib
import re

import nbformat
import pytest
from notebook_cells import code_cells, complaints
from pages import LESSONS, NOTEBOOKS
from runtime import PROJECT, STEPS
from source import facts

from workshop import project, told
from workshop.errors import Failure
from workshop.project import find_step, lessons
from workshop.scenes import CUTS, parse

# What a cell's metadata may have: see workshop/lesson_runner.py, slides.py and scenes.py, and
# for expect and raises-exception tests/test_notebooks.py, and for tab site/tab/tab_lessons.py.
KNOWN = {"tags", "expect", "learner", "only", "demo", "slideshow", "tab"}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_lesson_is_found_by_its_number_even_if_it_has_no_step():
    assert [path.stem for path in lessons(["11", "0", "00"])] == [
        "00_what_is_a_container",
        "11_oci",
    ]
    with pytest.raises(Failure, match="there is no lesson 12: the lessons are 0 to 11"):
        lessons(["0", "12"])


def test_machine_without_notebooks_has_no_lessons_but_all_steps(tmp_path, monkeypatch):
    """The machine in a browser tab has none: the page has them."""
    monkeypatch.setattr(project, "PROJECT", tmp_path)
    assert lessons() == lessons(["3"]) == []
    assert told.place_of("03_mnt/spec") is None
    with pytest.raises(Failure, match="there is no lesson 99"):
        lessons(["99"])


def test_notebooks_with_a_number_are_lessons_and_each_step_has_one():
    """The appendix has no number, so it has no slides, no scene and no step. Lesson 11 is
    about a program to read, which is no step that learners write."""
    assert lessons() == LESSONS
    steps = [step.parent.name[:2] for step in STEPS]
    assert [path.name[:2] for path in LESSONS] == [*steps, "11"]
    others = [path.stem for path in NOTEBOOKS if path not in LESSONS]
    assert others == ["appendix_process"]


def test_is_committed_without_outputs(notebook):
    for cell in code_cells(notebook):
        assert not cell.outputs and cell.execution_count is None, cell.id


def test_has_stable_readable_cell_ids_and_the_plain_kernel(notebook):
    nb = nbformat.read(notebook, 4)
    assert nb.metadata.kernelspec.name == "python3"
    for cell in nb.cells:
        assert re.fullmatch(r"[a-z][a-z0-9-]*", cell.id), cell.id
        assert not re.fullmatch(r"[0-9a-f]{8}", cell.id), (
            f"{cell.id} is a name made by Jupyter"
        )


def test_cells_have_at_most_five_lines(notebook):
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= 5, cell.source


def facts_of(number: str) -> list[str]:
    """Returns the facts of a step's suite in words, in lower case."""
    return [
        fact.name.removeprefix("test_").replace("_", " ")
        for fact in facts(PROJECT / find_step(number).suite)
    ]


def test_fact_that_a_cell_asks_for_exists_and_has_the_name_that_it_expects(notebook):
    for cell in code_cells(notebook):
        asked = re.search(r'workshop check (\d+) --only "(.+)"', cell.source)
        if not asked:
            continue
        word = asked[2].lower()
        chosen = [fact for fact in facts_of(asked[1]) if word in fact]
        assert chosen, cell.source
        for pattern in map(str.lower, cell.metadata.get("expect", [])):
            if word in pattern:
                assert any(re.search(pattern, fact) for fact in chosen), pattern


def test_pictures_exist_and_have_alternative_text(notebook):
    found = 0
    for cell in nbformat.read(notebook, 4).cells:
        for alternative, path in re.findall(r"!\[(.*?)\]\((.*?)\)", cell.source):
            found += 1
            assert len(alternative) > 40, f"{path}: say what it shows"
            svg = pathlib.Path(notebook.parent, path).read_text()
            assert "<title" in svg and "<desc" in svg and "prefers-color-scheme" in svg
    assert found


def test_links_to_files_lead_somewhere(notebook):
    for cell in nbformat.read(notebook, 4).cells:
        for path in re.findall(r"\]\((?!https?:|#)([^)]+)\)", cell.source):
            if not path.startswith("../my/"):  # the learner's, made by a cell
                assert pathlib.Path(notebook.parent, path).exists(), path


def test_cell_that_does_not_raise_or_print_as_promised_is_found():
    cell = nbformat.v4.new_code_cell("1", metadata={"tags": ["raises-exception"]})
    cell.metadata["expect"] = ["2"]
    cell.outputs = [nbformat.v4.new_output("stream", text="1")]
    assert len(list(complaints(cell))) == 2
    cell.outputs = [
        nbformat.v4.new_output("error", ename="E", evalue="2", traceback=[])
    ]
    assert list(complaints(cell)) == []
    del cell.metadata["tags"]
    assert list(complaints(cell)) == ["it raises E"]


def test_metadata_of_cells_have_known_keys_and_valid_values(notebook):
    """A misspelled key would be a check that is never made."""
    steps = {step.parent.name for step in STEPS}
    for cell in nbformat.read(notebook, 4).cells:
        about = cell.metadata
        assert set(about) <= KNOWN, cell.id
        assert set(about.get("tags", [])) <= {"raises-exception"}, cell.id
        assert about.get("learner") in {None, *steps}, cell.id
        assert isinstance(about.get("expect", []), list), cell.id
        tab = about.get("tab", {"note": "none"})
        assert set(tab) <= {"note", "expect", "only"} and tab["note"], cell.id
        patterns = [*about.get("expect", []), *tab.get("expect", [])]
        if scene := about.get("demo"):
            assert set(scene["minutes"]) <= set(CUTS), cell.id
            parsed = parse(scene, notebook.name[:2], 1)
            patterns += [command.pattern for command in parsed.commands]
        for pattern in patterns:
            assert pattern and not re.compile(pattern).search(""), (cell.id, pattern)
        if cell.cell_type != "code":
            assert not {"tags", "expect", "learner", "only", "tab"} & set(about), (
                cell.id
            )
