"""docs/tests.md says which fact runs where, as the suite's markers do."""

import pathlib
import subprocess
import sys

PROJECT = pathlib.Path(__file__).resolve().parents[2]


def test_page_is_made_from_the_suite():
    """`tests/where.py --write` writes it."""
    command = [sys.executable, "-B", PROJECT / "tests/where.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout == (PROJECT / "docs/tests.md").read_text()
