"""README, docs and lessons: links lead somewhere, and the commands that are shown work."""

import os
import re
import subprocess

import nbformat
import pytest
from runtime import PROJECT

from workshop.__main__ import WORDS

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
LESSONS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
LINKS = PROJECT / "docs" / "links.txt"
MAN7 = re.compile(
    r"https://man7\.org/linux/man-pages/man(\d)/([\w.+-]+)\.(\1\w*)\.html"
)

# Commands that are for the learner's own machine: what CI runs them, and the line there. A
# command is the first of these that it begins with.
ON_THE_HOST = {
    "LAB=local ./lab up": ("tests/lab/local", "export LAB=local"),
    "./lab up --from": ("tests/lab/offline", "./lab up --from"),
    "./lab up": (".ci/run", "./lab up"),
    "./lab ssh": ("tests/lab/offline", "./lab ssh -- true"),
    "./lab test": (".ci/run", "./lab test"),
    "./lab rehearse": (".ci/run", "./lab rehearse"),
    "./lab demo": (".ci/run", "./lab demo --outline"),
    "./lab kernel": ("tests/lab/kernel.py", '"lab", "kernel", "install"'),
    "./lab grade": ("tests/lab/grade.py", '"grade", "--out"'),
    "./lab classroom add": ("tests/lab/classroom", 'room.run("add"'),
    "./lab classroom up": ("tests/lab/classroom", 'room.run("up"'),
    "./lab classroom status": ("tests/lab/classroom", 'self.run("status")'),
    "./lab classroom collect": ("tests/lab/classroom", 'room.run("collect"'),
    "./lab classroom down": ("tests/lab/classroom", 'room.run("down")'),
    "./lab slides": ("tests/lab/slides", '"lab", "slides"'),
    "./lab down": (".ci/run", "./lab down"),
    "./lab destroy": (".ci/run", "./lab destroy"),
    "./lab doctor": ("tests/lab/doctor.py", '"sh", LAB, "doctor"'),
    "./lab pack": ("tests/lab/offline", '"$project/lab" pack'),
    "./lab box": ("tests/vagrant/run", 'lab" box'),
    "vagrant up": ("tests/vagrant/run", "vagrant up"),
    "vagrant validate": ("tests/vagrant/run", "vagrant validate"),
    "LAB=vagrant ./lab up --from": ("tests/vagrant/run", "LAB=vagrant ./lab up --from"),
    "vagrant box add": ("tests/vagrant/run", "vagrant box add catalog.json"),
}
# For a provider that nobody has started, as docs/providers.md says where it names them; and
# what takes long: figures are of a machine that has nothing else to do.
NOT_RUN = ["vagrant rsync", "./lab bench", "./lab proof"]
# Commands whose exit status is not 0 when all is well.
STATUS = {
    "diff steps/02_pid/container.py steps/03_mnt/container.py": 1,  # they differ
    "steps/05_user/breakout.py": 1,  # it asks for a RUNTIME
    "sudo steps/05_user/breakout.py steps/05_user/container.py": 1,  # is stopped
}


def prose(path, kind="markdown"):
    """The text of a page, or of a lesson's cells of a kind: those that are text."""
    if path.suffix == ".md":
        return path.read_text()
    cells = nbformat.read(path, 4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == kind)


def addresses(text):
    """The web addresses in a text, but for the lab's own, and for examples (RFC 2606)."""
    found = re.findall(r"https?://[^\s)<>\"'`\]]+", text)
    own = re.compile(r"http://(127\.0\.0\.1|localhost)[:/]|https://[a-z.]*example\.org")
    return {x.rstrip(".,;:") for x in found if not own.match(x)}


def listed():
    lines = LINKS.read_text().splitlines()
    return [line.split()[0] for line in lines if line and line[0] != "#"]


def test_every_address_is_in_the_list_once_and_every_entry_is_used():
    assert sorted(set(listed())) == listed()
    assert set(listed()) == {
        x for page in PAGES + LESSONS for x in addresses(prose(page))
    }


def test_addresses_of_man_pages_are_of_pages_that_exist():
    found = [MAN7.fullmatch(x) for x in listed() if "man7.org" in x]
    assert found and all(found), [x for x in listed() if "man7.org" in x]
    for match in found:
        assert subprocess.run(["man", "-w", match[3], match[2]]).returncode == 0, match[
            0
        ]


@pytest.mark.parametrize("page", PAGES + LESSONS, ids=lambda path: path.stem)
def test_man_pages_that_are_named_exist(page):
    for section, name in re.findall(r"`man (?:(\d) )?([\w.-]+)`", prose(page)):
        words = ["man", "-w", *filter(None, [section, name])]
        assert subprocess.run(words).returncode == 0, words


def anchors(path):
    """What a # can lead to: headings, as GitHub calls them, or as JupyterLab does."""
    heads = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    if path.suffix == ".ipynb":
        return {head.replace(" ", "-") for head in heads}
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES + LESSONS, ids=lambda path: path.stem)
def test_links_inside_the_project_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if "my" in target.relative_to(PROJECT).parts:
            continue  # the learner's, made by a cell
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def commands(page):
    """The commands that a page shows: lines of fenced blocks, and what stands in `` as a
    command with its words."""
    text = prose(page)
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [
        line.partition("  #")[0] for block in blocks for line in block.splitlines()
    ]
    spans = re.findall(
        r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    )
    found = [re.sub(r"\s+", " ", line).strip() for line in lines + spans]
    begin = re.compile(
        r"(LAB=\w+ )?\./lab \w|(sudo )?steps/\S+|(diff|vagrant|workshop) \w"
    )
    # A path is a command where it is a line of a block, or has words after it.
    return [
        command
        for n, command in enumerate(found)
        if begin.match(command) and (n < len(lines) or " " in command)
    ]


def test_commands_are_found():
    found = commands(PROJECT / "README.md")
    assert "sudo steps/network.sh on" in found
    assert "./lab up --from FOLDER" in found
    assert "steps/05_user/breakout.py" in found


@pytest.mark.parametrize("page", PAGES + LESSONS, ids=lambda path: path.stem)
def test_commands_for_the_host_are_run_by_ci(page):
    ci = (PROJECT / ".ci/run").read_text()
    for command in commands(page):
        if command.startswith(("./lab", "vagrant", "LAB=")):
            known = [begin for begin in ON_THE_HOST if command.startswith(begin)]
            assert known or command in NOT_RUN, command
            for script, line in map(ON_THE_HOST.get, known[:1]):
                assert script == ".ci/run" or re.search(
                    rf"(^|\s){script}( |$)", ci, re.M
                ), script
                assert line in (PROJECT / script).read_text(), (command, script)


@pytest.mark.parametrize("page", PAGES + LESSONS, ids=lambda path: path.stem)
def test_words_of_the_guide_are_known_and_tested(page):
    suites = (PROJECT / "tests").rglob("test_*.py")
    tests = "".join(path.read_text() for path in suites)
    tests += "".join(prose(lesson, "code") for lesson in LESSONS)  # CI executes them
    for command in commands(page):
        if command.startswith("workshop "):
            word = command.split()[1]
            assert word in WORDS, command
            typed = f'"{word}"', f'"{word} ', f"workshop {word}"
            assert any(text in tests for text in typed), command


@pytest.fixture
def network_as_before():
    was_on = os.path.exists("/sys/class/net/workshop0")
    yield
    if not was_on:
        subprocess.run([PROJECT / "steps/network.sh", "off"], check=True)


@pytest.mark.usefixtures("network_as_before")
@pytest.mark.parametrize("page", PAGES + LESSONS, ids=lambda path: path.stem)
def test_commands_for_the_vm_work(page):
    """In their order, in the project folder, with nobody at the keyboard."""
    for command in commands(page):
        if command.startswith(("steps/", "sudo steps/", "diff steps/")):
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                text=True,
                timeout=120,
            )
            assert done.returncode == STATUS.get(command, 0), (command, done)
