"""What site/tab/build_tab.py writes for the page with a machine in a browser tab."""

import codecs
import json
import os
import queue
import random
import re
import sys

from pages import LESSONS, PROJECT

sys.path[len(sys.path) :] = [
    str(PROJECT / "site/tab"),
    str(PROJECT / "site/tab/guest"),
]
import build_tab as build
import cells
import tab_lessons as lessons

ON_PAGE = [
    *(path for path in LESSONS if path.name < "08"),  # without the encores
    PROJECT / "notebooks/appendix_process.ipynb",
]
# What a browser makes of windows-1252: of the five bytes without a character, a control
# character (https://encoding.spec.whatwg.org/).
CHARACTERS = "".join(
    codecs.decode(bytes([byte]), "cp1252", "ignore") or chr(byte) for byte in range(256)
)


def test_packed_file_is_a_script_with_the_same_bytes():
    dice = random.Random(1)
    data = bytes(range(256)) * 2 + dice.randbytes(5000) + b'\\"\n\r\\n'
    script = "".join(CHARACTERS[byte] for byte in build.packed(data))
    found = re.fullmatch(r'packed\("(.*)"\)', script, re.DOTALL)
    assert found and "\n" not in found[1] and "\r" not in found[1]
    plain = re.sub(
        r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), found[1], flags=re.S
    )
    assert bytes(CHARACTERS.index(letter) for letter in plain) == data


def test_pinned_packages_keep_their_hashes():
    lines = build.pinned(build.PACKAGES)
    for name in build.PACKAGES:
        assert re.search(rf"^{name}==\S+.*\\\n +--hash=sha256:", lines, re.MULTILINE)
    assert "jupyterlab==" not in lines


def test_every_lesson_is_on_the_page_with_all_its_cells():
    for path, lesson in zip(ON_PAGE, lessons.all_lessons(), strict=True):
        cells = json.loads(path.read_text())["cells"]
        assert [cell["id"] for cell in lesson["cells"]] == [
            cell["id"] for cell in cells
        ]
        for cell, source in zip(lesson["cells"], cells, strict=True):
            assert ("code" in cell) == (source["cell_type"] == "code")
            assert cell.get("note") == source["metadata"].get("tab", {}).get("note")


def test_links_between_lessons_lead_to_lessons_of_the_page():
    for lesson in lessons.all_lessons():
        text = "".join(cell.get("html", "") for cell in lesson["cells"])
        links = set(re.findall(r'<a href="#([a-z0-9_]+)"', text))
        assert links <= {path.stem for path in ON_PAGE}, lesson["name"]


def test_links_mean_something_on_the_page():
    text = (
        "[a](01_uts.ipynb) [b](../my/container.py) [c](../steps/process.py) "
        "[d](https://example.org)"
    )
    page = lessons.rendered(text)
    assert '<a href="#01_uts"' in page
    assert '<a href="#" data-open="editor"' in page
    assert '<a href="#" data-type="less steps/process.py"' in page
    assert 'rel="noopener" href="https://example.org"' in page


def test_key_changes_with_each_input():
    same = PROJECT / "lab"
    assert build.key_of(same, "a") == build.key_of(same, "a")
    assert build.key_of(same, "a") != build.key_of(same, "b")
    assert build.key_of(same) != build.key_of(PROJECT / "Vagrantfile")


class Sent:
    """Takes the place of the line to the page."""

    def __init__(self):
        self.messages = queue.Queue()

    def send(self, **message):
        self.messages.put(message)

    def next(self):
        return self.messages.get(timeout=20)


def test_output_of_programs_is_sent_in_whole_lines():
    """Otherwise lines of stdout and stderr would be mixed, because programs write pieces."""
    source, end = os.pipe()
    line = Sent()
    relay = cells.Relay(line, "stderr", source)
    os.write(end, b"date: ")
    relay.pass_on(everything=False)
    os.write(end, b"cannot set date\nand \xc3")
    relay.pass_on(everything=False)
    os.write(end, b"\xa4")
    relay.pass_on(everything=True)  # the cell has ended
    os.write(end, bytes(65536))
    relay.pass_on(everything=False)
    texts = [line.next()["text"] for _ in range(2)]
    assert texts == ["date: cannot set date\n", "and ä"]
    os.write(end, b"more")  # the line is long, so the next piece does not wait
    relay.pass_on(everything=False)
    assert len(line.next()["text"]) == 65540
    relay.pass_on(everything=True)
    assert line.messages.empty()


def test_prompt_of_a_program_is_sent_although_its_line_has_not_ended():
    source, end = os.pipe()
    line = Sent()
    cells.Relay(line, "stdout", source).start()
    os.write(end, b"Are you sure? ")
    assert line.next() == {"stream": "stdout", "text": "Are you sure? "}
