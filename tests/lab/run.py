#!/usr/bin/env python3
"""Tests the lab itself from outside: runs pytest on tests/lab, on the host.

    tests/lab/run.py [ARGUMENTS FOR PYTEST]

Each file can run alone, for example `tests/lab/run.py test_browser.py`. Without a file,
all of them run. pytest runs in the virtual environment .lab/tests, which has the
VM's versions of Jupyter and what tests/lab/requirements.txt adds. A test installs the Debian
packages that it needs.
"""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
STATE = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab").absolute()
VENV = STATE / "tests"
REQUIREMENTS = [PROJECT / "vagrant/requirements.txt", HERE / "requirements.txt"]


def prepare() -> None:
    """Makes the virtual environment, unless it is there already."""
    wanted = [file.read_bytes() for file in REQUIREMENTS]
    # `./lab classroom` accepts an environment with such a first file as its own.
    done = [VENV / "requirements.txt", VENV / "requirements-tests.txt"]
    if [file.read_bytes() for file in done if file.exists()] == wanted:
        return
    STATE.mkdir(mode=0o700, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
    pip = [VENV / "bin/python", "-m", "pip", "install", "-q"]
    pip += ["--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:"]
    for file in REQUIREMENTS:
        pip += ["-r", file]
    subprocess.run(pip, check=True)
    for file, content in zip(done, wanted, strict=True):
        file.write_bytes(content)


def arguments(words: list[str]) -> list[str]:
    """Returns pytest's arguments. The path of a file may start in this directory. Without
    a file, all of them run."""
    found, named = [], False
    for word in words:
        file, colons, test = word.partition("::")
        for path in pathlib.Path(file), HERE / file:
            if file.endswith(".py") and path.is_file():
                word, named = f"{path.resolve()}{colons}{test}", True
                break
        found.append(word)
    return found if named else [*found, str(HERE)]


def main() -> None:
    prepare()
    python = VENV / "bin/python"
    options = ["-c", str(HERE / "pytest.ini")]
    words = [str(python), "-B", "-m", "pytest", *options, *arguments(sys.argv[1:])]
    sys.stdout.flush()
    os.execv(python, words)


if __name__ == "__main__":
    main()
