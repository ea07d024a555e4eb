"""README, docs and lessons: the man pages that they name exist in this machine's
version, and the commands for the VM work.

tests/unit checks what needs no VM."""

import os
import re
import subprocess

import pytest
from pages import NOTEBOOKS, PAGES, PROJECT, commands, listed, prose

MAN7 = re.compile(
    r"https://man7\.org/linux/man-pages/man(\d)/([\w.+-]+)\.(\1\w*)\.html"
)

# Commands whose exit status is not 0 when all is well.
STATUS = {
    "diff steps/02_pid/container.py steps/03_mnt/container.py": 1,  # they differ
    "steps/05_user/breakout.py": 1,  # it asks for a RUNTIME
    "sudo steps/05_user/breakout.py steps/05_user/container.py": 1,  # the attack is stopped
}


@pytest.mark.needs("debian13")
def test_addresses_of_man_pages_lead_to_existing_pages():
    found = [MAN7.fullmatch(x) for x in listed() if "man7.org" in x]
    assert found and all(found), [x for x in listed() if "man7.org" in x]
    for match in found:
        assert subprocess.run(["man", "-w", match[3], match[2]]).returncode == 0, match[
            0
        ]


@pytest.mark.needs("debian13")
@pytest.mark.parametrize("page", PAGES + NOTEBOOKS, ids=lambda path: path.stem)
def test_named_man_pages_exist(page):
    for section, name in re.findall(r"`man (?:(\d) )?([\w.-]+)`", prose(page)):
        words = ["man", "-w", *filter(None, [section, name])]
        assert subprocess.run(words).returncode == 0, words


@pytest.fixture
def network_as_before():
    was_on = os.path.exists("/sys/class/net/workshop0")
    yield
    if not was_on:
        subprocess.run([PROJECT / "steps/network.sh", "off"], check=True)


def pages_with_commands():
    """Returns the pages as parameters of a test. Those whose commands set limits need
    cgroup v2."""
    found = []
    for page in PAGES + NOTEBOOKS:
        limits = any(re.search("steps/.*--memory", line) for line in commands(page))
        marks = [pytest.mark.needs("cgroup2")] if limits else []
        found.append(pytest.param(page, marks=marks))
    return found


@pytest.mark.usefixtures("network_as_before")
@pytest.mark.parametrize("page", pages_with_commands(), ids=lambda path: path.stem)
def test_commands_for_the_vm_work(page):
    """Runs the commands of a page in order, in the project directory, without a
    keyboard."""
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
