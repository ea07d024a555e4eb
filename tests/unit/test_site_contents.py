"""The sources of the web site. tests/lab/test_site.py looks at its pages in a browser."""

import json
import re
import sys

import pytest
from pages import LESSONS, NOTEBOOKS, PAGES
from runtime import PROJECT, STEPS

sys.path.insert(0, str(PROJECT / "site/web"))
from contents import Contents, added, code, fenced, merged, slug

from workshop.project import find_step


@pytest.fixture
def contents(tmp_path):
    """The site without output and without the machine in a tab."""
    return Contents([])


def output(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def test_every_lesson_step_helper_and_document_has_a_page(contents):
    names = [name for name, _ in contents.pages()]
    assert len(set(names)) == len(names)
    assert names[0] == "index.md"
    assert {f"lessons/{path.name}" for path in NOTEBOOKS} <= set(names)
    assert {f"code/{path.parent.name}.md" for path in STEPS} <= set(names)
    assert {f"docs/{p.name}" for p in PAGES if p.parent.name == "docs"} <= set(names)
    assert {"code/linux.md", "code/process.md", "code/network.md"} <= set(names)


def test_every_page_but_those_of_linked_files_is_in_the_sidebar(contents):
    index, *others = contents.pages()
    trees = re.findall(r"```{toctree}\n(.*?)```", index[1], re.DOTALL)
    listed = {line for tree in trees for line in tree.splitlines() if "/" in line}
    pages = {name.rpartition(".")[0] for name, _ in others}
    assert listed == {name for name in pages if not name.startswith("files/")}


def test_pages_are_written_with_their_pictures(contents, tmp_path):
    contents.write(tmp_path / "out")
    assert (tmp_path / "out/code/03_mnt.md").read_text().startswith("# Step 03: ")
    for name in "lessons/images/01_uts.svg", "docs/proof/bench.svg":
        assert (tmp_path / "out" / name).stat().st_size


# ---- the pages


def test_first_page_has_a_row_for_each_step_and_leads_to_lesson_and_code(contents):
    index = contents.index()
    assert index.startswith("# Build your own container")
    for path in STEPS:
        row = next(
            x for x in index.splitlines() if x.startswith(f"| [{path.parent.name}]")
        )
        assert f"](lessons/{path.parent.name[:2]}_" in row
        assert f"](code/{path.parent.name}.md)" in row


def test_first_page_has_readmes_first_words_picture_and_commands_of_the_lab(contents):
    index = contents.index()
    assert "what `docker run` does." in index.replace("\n", " ")
    assert "](docs/images/container.svg)" in index
    assert "\n./lab up " in index and "git clone" not in index
    assert "](docs/attacks.md)" in index and "](code/linux.md)" in index
    assert "**How long?**" in index and "**On what machine?**" not in index


def test_first_page_says_where_to_clone_only_if_there_is_an_address(tmp_path):
    address = "https://example.org/x"
    index = Contents([], repository=address).index()
    assert f"\ngit clone {address} workshop && cd workshop\n./lab up " in index


def test_readme_without_the_table_of_the_steps_is_an_error(contents, monkeypatch):
    monkeypatch.setattr("contents.ROW", re.compile("no row looks like this"))
    with pytest.raises(ValueError, match=r"README\.md has no table"):
        contents.index()


def test_readme_that_does_not_say_what_machine_is_needed_is_an_error(
    contents, monkeypatch
):
    monkeypatch.setattr("contents.MACHINE", "**On what planet?**")
    with pytest.raises(ValueError, match=r"README\.md has no commands, or no"):
        contents.index()


def test_page_of_a_step_has_the_difference_the_runtime_the_attack_and_the_hints(
    contents,
):
    page = contents.step(find_step("3"))
    parts = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert parts == ["What changes", "The whole runtime", "The attack", "Hints"]
    assert "--- steps/02_pid/container.py\n+++ steps/03_mnt/container.py\n" in page
    assert "+NAMESPACES |= linux.CLONE_NEWNS" in page
    for name in "container.py", "breakout.py":
        assert (PROJECT / "steps/03_mnt" / name).read_text().rstrip() in page
    assert page.count("<details>") == page.count("</details>") > 3
    assert "](../lessons/03_mnt.ipynb)" in page


def test_lines_that_a_step_adds_are_marked(contents):
    page = contents.step(find_step("2"))
    numbers = re.search(r":emphasize-lines: ([\d,]+)", page)[1].split(",")
    lines = (PROJECT / "steps/02_pid/container.py").read_text().splitlines()
    marked = [lines[int(number) - 1] for number in numbers]
    assert any("CLONE_NEWPID" in line for line in marked)
    assert len(marked) < 6


def test_first_step_has_no_difference_and_no_attack(contents):
    page = contents.step(find_step("0"))
    parts = re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert parts == ["The whole runtime", "Hints"]
    assert "emphasize" not in page


def test_lesson_that_has_run_has_its_output_and_another_says_that_it_has_none(tmp_path):
    name = LESSONS[0].name
    notebook = json.loads(LESSONS[0].read_text())
    cell = next(x for x in notebook["cells"] if x["cell_type"] == "code")
    cell["outputs"] = [output("real output")]
    (tmp_path / name).write_text(json.dumps(notebook))
    contents = Contents([tmp_path])
    ran, other, *_ = contents.lessons
    assert "real output" in contents.lesson(ran)
    assert "has not run" not in contents.lesson(ran)
    assert "has not run" in contents.lesson(other)


def test_lesson_comes_from_the_first_directory_that_has_it(tmp_path):
    for place, names in ("new", LESSONS[:1]), ("old", LESSONS[:2]):
        (tmp_path / place).mkdir()
        for path in names:
            (tmp_path / place / path.name).write_text("{}")
    new, old, other, *_ = Contents([tmp_path / "new", tmp_path / "old"]).lessons
    assert new.path == tmp_path / "new" / LESSONS[0].name and new.has_run
    assert old.path == tmp_path / "old" / LESSONS[1].name and old.has_run
    assert other.path == LESSONS[2] and not other.has_run


def test_pages_lead_to_the_machine_in_the_tab_only_if_there_is_one(tmp_path):
    for tab in True, False:
        contents = Contents([], tab)
        first = contents.lessons[1]
        assert ("tab/index.html" in contents.index()) == tab
        link = f"../tab/index.html?lesson={first.name}"
        assert (link in contents.lesson(first)) == tab
        in_tab = [
            lesson.name[:2]
            for lesson in contents.lessons
            if "tab/index.html" in contents.lesson(lesson)
        ]
        ours = [f"0{number}" for number in range(8)] + ["ap"]  # the story, the appendix
        assert sorted(in_tab) == (ours if tab else [])


# ---- links


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        ("docs/x.md", "[a](attacks.md)", "[a](attacks.md)"),
        ("docs/x.md", "[a](providers.md#What-is)", "[a](providers.md#what-is)"),
        ("docs/x.md", "[a](../README.md)", "[a](../index.md)"),
        ("docs/x.md", "[a](../steps/linux.py)", "[a](../code/linux.md)"),
        ("docs/x.md", "[a](../steps/network.sh)", "[a](../code/network.md)"),
        ("docs/x.md", "[a](../lab)", "[a](../files/lab.md)"),
        ("docs/x.md", "[a](proof/bench.svg)", "[a](proof/bench.svg)"),
        ("docs/x.md", "![a](proof/bench.svg)", "![a](proof/bench.svg)"),
        ("docs/x.md", "[a](https://example.org/x)", "[a](https://example.org/x)"),
        ("docs/x.md", "[a](#here)", "[a](#here)"),
        ("notebooks/01_uts.ipynb", "[a](02_pid.ipynb)", "[a](02_pid.ipynb)"),
        (
            "notebooks/01_uts.ipynb",
            "[a](../steps/01_uts/hints.md)",
            "[a](../code/01_uts.md#hints)",
        ),
        (
            "notebooks/01_uts.ipynb",
            "[a](../steps/01_uts/breakout.py) and [b](../steps/01_uts/container.py)",
            "[a](../code/01_uts.md#the-attack) and [b](../code/01_uts.md)",
        ),
        ("notebooks/01_uts.ipynb", "**[my/c](../my/container.py)**", "**my/c**"),
    ],
)
def test_link_to_a_file_becomes_a_link_to_its_page(contents, source, text, expected):
    page = source.replace("notebooks/", "lessons/")
    assert contents.links(text, source, page) == expected


def test_link_from_a_page_that_is_elsewhere_starts_there(contents):
    text = contents.links("[a](docs/attacks.md)", "README.md", "index.md")
    assert text == "[a](docs/attacks.md)"
    text = contents.links("[a](../linux.py)", "steps/03_mnt/hints.md", "code/03_mnt.md")
    assert text == "[a](linux.md)"


def test_file_that_a_page_links_to_gets_a_page(contents):
    contents.links("[a](../vagrant/init)", "docs/x.md", "docs/x.md")
    pages = dict(contents.pages())
    assert "orphan: true" in pages["files/vagrant/init.md"]


@pytest.mark.parametrize("target", ["nothing.md", "../steps"])
def test_link_that_leads_nowhere_is_an_error(contents, target):
    with pytest.raises(ValueError, match="a link leads to"):
        contents.links(f"[a]({target})", "docs/x.md", "docs/x.md")


# ---- parts


def test_anchor_is_as_github_makes_it():
    assert slug("#Do-it-by-hand,-once") == "#do-it-by-hand-once"


def test_added_lines_are_those_that_are_new_or_changed():
    assert added(["a", "b", "c"], ["a", "B", "c", "d"]) == [2, 4]
    assert added(["a"], ["a"]) == []


def test_fence_is_longer_than_any_in_its_text():
    assert fenced("text", "a ``` b").startswith("````text\n")
    assert code("python", "x = 1", [1]).splitlines()[:3] == [
        "```{code-block} python",
        ":linenos:",
        ":emphasize-lines: 1",
    ]


def test_pieces_of_a_stream_are_one_output_in_their_order():
    picture = {"output_type": "display_data", "data": {}}
    pieces = [output("a"), output(["b\r\n", "c"]), output("e", "stderr"), output("d")]
    assert merged([*pieces, picture, output("f")]) == [
        output("ab\nc"),
        output("e", "stderr"),
        output("d"),
        picture,
        output("f"),
    ]
