"""docs/attacks.md, and the catalogue that it is made from."""

import sys

from runtime import PROJECT

sys.path.append(str(PROJECT / "tests/attacks"))
import table


def test_page_is_made_from_the_catalogue():
    """docs/attacks.md is what `python3 tests/attacks/table.py` writes."""
    assert table.PAGE.read_text() == table.page()
