"""docs/attacks.md is generated from the catalogue of attacks."""

import sys

from runtime import PROJECT

sys.path.append(str(PROJECT / "tests/attacks"))
import table


def test_page_is_made_from_the_catalogue():
    """The page is exactly what `python3 tests/attacks/table.py` writes."""
    assert table.PAGE.read_text() == table.page()
