"""README, docs and lessons: their links lead somewhere, and docs/links.txt lists every
web address."""

import re

import pytest
from pages import NOTEBOOKS, PAGES, PROJECT, listed, prose


def addresses(text):
    """Returns the web addresses in a text, except the lab's own, and examples (RFC
    2606)."""
    found = re.findall(r"https?://[^\s)<>\"'`\]]+", text)
    own = re.compile(r"http://(127\.0\.0\.1|localhost)[:/]|https://[a-z.]*example\.org")
    return {x.rstrip(".,;:") for x in found if not own.match(x)}


def test_every_address_is_in_the_list_once_and_every_entry_is_used():
    assert sorted(set(listed())) == listed()
    assert set(listed()) == {
        x for page in PAGES + NOTEBOOKS for x in addresses(prose(page))
    }


def anchors(path):
    """Returns what the part of a link after # can be: headings, as GitHub or JupyterLab
    turn them into anchors."""
    heads = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    if path.suffix == ".ipynb":
        return {head.replace(" ", "-") for head in heads}
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES + NOTEBOOKS, ids=lambda path: path.stem)
def test_links_inside_the_project_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if "my" in target.relative_to(PROJECT).parts:
            continue  # the learner's file, which a cell creates
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_links_and_addresses_are_found():
    """Without links on the pages, the tests above would pass as well."""
    text = "".join(prose(page) for page in PAGES + NOTEBOOKS)
    assert len(re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)) > 50
    assert len(re.findall(r"\]\([^)\s]*#[^)\s]+\)", text))
    assert len(addresses(text)) > 20
