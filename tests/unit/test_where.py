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


def test_fact_that_ci_leaves_to_the_rehearsal_is_there_with_the_same_cut():
    sys.path.append(str(PROJECT / "tests"))
    from ci import CUT, REHEARSED

    assert REHEARSED.endswith(f"tests/guide/test_demo.py::{CUT}[20]")
    rehearsal = (PROJECT / "tests/lab/test_rehearse.py").read_text()
    assert 'CUT = "20"\n' in rehearsal and f"def {CUT}(lab" in rehearsal
