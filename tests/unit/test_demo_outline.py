"""What `workshop demo` plays, as it stands in the lessons."""

import pytest
from runtime import PROJECT

from workshop.commands import demo


@pytest.mark.parametrize("cut", demo.CUTS)
def test_parts_of_a_cut_take_its_minutes(cut):
    assert sum(scene["minutes"] for scene in demo.scenes(cut)) == float(cut)


@pytest.mark.parametrize("cut", demo.CUTS)
def test_outline_stands_in_the_page_for_speakers(cut, capsys):
    assert demo.main(["--outline", "--minutes", cut]) == 0
    assert capsys.readouterr().out in (PROJECT / "docs/speaking.md").read_text()
