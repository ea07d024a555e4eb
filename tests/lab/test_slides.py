"""The slides as the last row sees them: in headless Chromium, without a network.

The tests make the slides with `./lab slides` (or take those in --slides DIR). They look at
every single one of some lessons, on stages of 1280 x 720 and 1920 x 1080."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import driver
import pytest
from playwright.sync_api import Browser, Page

LIMIT = 2700  # seconds for ./lab slides, unless test_site.py has run the lessons
LESSONS = "0,6"  # the first one, and the one with the most figures
STAGES = [(1280, 720), (1920, 1080)]
SITE = "https://workshop.example.org/containers/"  # to which the slides lead
LETTERS = 14  # pixels of the smallest letters on a stage of 1280 x 720
pytestmark = pytest.mark.timeout(LIMIT + 600)
INSIDE = """slide => {
  const stage = document.querySelector('.slides').getBoundingClientRect(), out = [];
  const walk = document.createTreeWalker(slide, NodeFilter.SHOW_TEXT);
  // A line's box is a little higher than its letters.
  let smallest = 1000, edge = stage.width / 1280 * 4;
  while (walk.nextNode()) {
    const text = walk.currentNode, above = text.parentElement;
    if (!text.data.trim() || above.closest('aside, style, script')) continue;
    if (above.closest('details:not([open])') && !above.closest('summary')) continue;
    const range = document.createRange(); range.selectNodeContents(text);
    for (const box of range.getClientRects()) {
      if (!box.width) continue;
      if (box.left < stage.left - edge || box.right > stage.right + edge
          || box.top < stage.top - edge || box.bottom > stage.bottom + edge)
        out.push(text.data.trim().slice(0, 60));
    }
    const size = parseFloat(getComputedStyle(above).fontSize) * stage.width / 1280;
    smallest = Math.min(smallest, size);
  }
  for (const picture of slide.querySelectorAll('img')) {
    const box = picture.getBoundingClientRect();
    if (!picture.naturalWidth) out.push('a picture is missing');
    if (box.bottom > stage.bottom + edge || box.right > stage.right + edge) out.push('a picture');
  }
  const parts = [...slide.querySelectorAll(':scope > .part')].map(p => p.getBoundingClientRect());
  const above = parts[0].top - stage.top, below = stage.bottom - parts.at(-1).bottom;
  return { out: [...new Set(out)], smallest: smallest, scale: stage.width / 1280,
           above: above / stage.height, below: below / stage.height };
}"""
# What is on a slide before the speaker goes on.
QUESTION = """slide => {
  const shown = [...slide.querySelectorAll(':scope > .part')].filter(p => p.offsetHeight);
  const last = shown.at(-1);
  return last.matches('.question') && !shown.some(p => p.matches('.fragment'))
    ? parseFloat(getComputedStyle(last).fontSize) / parseFloat(getComputedStyle(slide).fontSize)
    : 0;
}"""
LINKS = "links => links.map(link => link.getAttribute('href'))"


class Slide(NamedTuple):
    place: str
    out: list[str]  # texts and pictures that leave the stage
    smallest: float  # pixels of its smallest letters
    scale: float  # of the stage, compared with 1280 x 720
    above: (
        float  # how much of the stage is empty above the slide's content, from 0 to 1
    )
    below: float  # and below it
    question: (
        float  # size of a question that is shown first, compared with other text, or 0
    )


class Seen(NamedTuple):
    slides: list[Slide]
    requests: list[str]  # the addresses that the pages requested
    errors: list[str]  # JavaScript errors of the pages
    links: list[str]  # those in the list of lessons
    ends: list[str]  # the links on the last slide of each lesson


@pytest.fixture(scope="module")
def folder(
    request: pytest.FixtureRequest, place: Path, left_to_run: list[str] | None
) -> Path:
    """A directory with slides. With --ran, they are those of the lessons that test_site.py ran."""
    folder: Path | None = request.config.getoption("--slides")
    if folder is None:
        folder = place
        lessons = request.config.getoption("--lessons")
        words = lessons.replace(",", " ").split() or left_to_run or []
        driver.Lab().run("slides", folder, *words, "--site", SITE, timeout=LIMIT)
    return folder.absolute()


@pytest.fixture(scope="module")
def decks(request: pytest.FixtureRequest, folder: Path) -> list[Path]:
    """The pages of the lessons to look at."""
    numbers = re.findall(r"\d+", request.config.getoption("--lessons") or LESSONS)
    chosen = {number.zfill(2) for number in numbers}
    return [p for p in sorted(folder.glob("[0-9]*.html")) if p.name[:2] in chosen]


@pytest.fixture(scope="module")
def seen(
    request: pytest.FixtureRequest, folder: Path, decks: list[Path], chromium: Browser
) -> Seen:
    """Looks at all their slides, on both stages."""
    screenshots = request.config.getoption("--screenshots")
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
    page = chromium.new_context(offline=True).new_page()
    seen = Seen([], [], [], [], [])
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    for path in decks:
        for stage in STAGES:
            seen.slides.extend(look(page, path, screenshots, *stage))
        seen.ends.extend(
            page.locator("section.present section.present a").evaluate_all(LINKS)
        )
    page.goto((folder / "index.html").as_uri())
    seen.links.extend(page.locator("main a").evaluate_all(LINKS))
    page.context.close()
    return seen


def look(
    page: Page, path: Path, screenshots: Path | None, width: int, height: int
) -> Iterator[Slide]:
    """Goes through the slides of a file."""
    page.set_viewport_size({"width": width, "height": height})
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    places = page.evaluate(
        "[...document.querySelectorAll('.slides > section > section')]"
        ".map(s => { const i = Reveal.getIndices(s); return [i.h, i.v || 0]; })"
    )
    assert places, path
    for column, row in places:
        slide = page.locator(".slides section.present section.present")
        page.evaluate("([h, v]) => Reveal.slide(h, v, -1)", [column, row])
        question = slide.evaluate(QUESTION)
        page.evaluate("([h, v]) => Reveal.slide(h, v, 999)", [column, row])
        found = slide.evaluate(INSIDE)
        if screenshots:
            name = f"{path.stem}-{column:02}-{row:02}-{width}.png"
            page.screenshot(path=screenshots / name)
        place = f"{path.stem} {column + 1}.{row + 1} at {width} x {height}"
        yield Slide(place=place, question=question, **found)


def test_slides_exist_on_every_stage_and_in_a_list(
    folder: Path, decks: list[Path], seen: Seen
) -> None:
    names = sorted(path.name for path in folder.glob("[0-9]*.html"))
    assert decks and [link for link in seen.links if link in names] == names
    for file in decks:
        for width, height in STAGES:
            at = f"{file.stem} ", f" at {width} x {height}"
            assert [
                s for s in seen.slides if s.place.startswith(at[0]) and at[1] in s.place
            ]


def test_list_and_the_last_slide_of_a_lesson_lead_to_the_web_site(
    request: pytest.FixtureRequest, decks: list[Path], seen: Seen
) -> None:
    if request.config.getoption("--slides"):
        pytest.skip("slides that were made before may lead to another address")
    assert seen.links[-1] == SITE
    assert seen.ends == [SITE] * len(decks)


def test_every_slide_fits_its_stage_with_its_pictures(seen: Seen) -> None:
    assert not [slide for slide in seen.slides if slide.out]


def test_content_is_in_the_middle_of_each_slide(seen: Seen) -> None:
    assert not [slide for slide in seen.slides if abs(slide.above - slide.below) > 0.05]


def test_questions_are_large_and_come_before_their_answers(seen: Seen) -> None:
    questions = [slide for slide in seen.slides if slide.question]
    assert len(questions) >= 5
    assert not [slide for slide in questions if slide.question < 1.3]


def test_letters_are_large_enough(seen: Seen) -> None:
    assert not [s for s in seen.slides if s.smallest < LETTERS * s.scale]


def test_no_page_has_an_error(seen: Seen) -> None:
    assert not seen.errors


def test_page_requests_nothing_from_another_machine(seen: Seen) -> None:
    assert seen.requests
    assert not [x for x in seen.requests if not x.startswith(("file:", "data:"))]
