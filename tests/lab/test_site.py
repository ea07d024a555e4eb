"""The web site as a visitor sees it: in headless Chromium, without a network.

The tests make the site with `./lab site` (or take the one in --site DIR), and open every page as
a file, on a phone, a laptop and a large screen, in light and in dark."""

import functools
import html.parser
import http.server
import json
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import driver
import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    FloatRect,
    Page,
    Request,
    Route,
)

LIMIT = 2700  # seconds for ./lab site, which runs all lessons
SCREENS = [(360, 740), (1280, 720), (1920, 1080)]
SCHEMES: list[Literal["light", "dark"]] = ["light", "dark"]
CONTRAST = 4.5  # WCAG 2, level AA, for text of this size
pytestmark = pytest.mark.timeout(LIMIT + 600)
STEPS = sorted(driver.PROJECT.glob("steps/*/hints.md"))  # those that learners write
NOTEBOOKS = sorted((driver.PROJECT / "notebooks").glob("*.ipynb"))
# How many pixels of the page are to the right of the screen. The theme cuts them off instead of
# scrolling. What is in a box that scrolls by itself, such as a listing, does not count.
OVERFLOW = """() => {
  const scrolls = node => /auto|scroll/.test(getComputedStyle(node).overflowX);
  let most = document.scrollingElement.scrollWidth - innerWidth;
  const look = node => {
    const box = node.getBoundingClientRect();
    if (box.width) most = Math.max(most, box.right - innerWidth);
    if (!scrolls(node)) [...node.children].forEach(look);
  };
  look(document.querySelector('article'));
  return most;
}"""
# What one has to scroll sideways on this page.
SCROLLED = """() => [...document.querySelectorAll('article :is(pre, .table-wrapper)')]
  .filter(box => box.scrollWidth > box.clientWidth + 1)
  .map(box => box.tagName === 'PRE' ? 'a listing' : 'a table')"""
# The lowest contrast between a text and what is behind it, and where. Chromium computes colours
# as rgb(), rgba() or color(srgb …), which a canvas turns into bytes.
FAINTEST = """() => {
  const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;
  const draw = canvas.getContext('2d', { willReadFrequently: true }), seen = new Map();
  const bytes = colour => {
    if (!seen.has(colour)) {
      draw.clearRect(0, 0, 1, 1); draw.fillStyle = colour; draw.fillRect(0, 0, 1, 1);
      seen.set(colour, [...draw.getImageData(0, 0, 1, 1).data]);
    }
    return seen.get(colour);
  };
  const over = (top, alpha, below) => below.map((b, i) => top[i] * alpha + b * (1 - alpha));
  const behind = node => {
    const layers = [];
    for (let n = node; n; n = n.parentElement) {
      const colour = bytes(getComputedStyle(n).backgroundColor);
      layers.unshift(colour);
      if (colour[3] === 255) break;
    }
    return layers.reduce((below, c) => over(c, c[3] / 255, below), [255, 255, 255]);
  };
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let faintest = [100, ''];
  const walk = document.createTreeWalker(document.querySelector('article'), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !node.checkVisibility()) continue;
    if (node.closest('.headerlink, style, script, svg')) continue;
    let alpha = 1;
    for (let n = node; n; n = n.parentElement) alpha *= getComputedStyle(n).opacity;
    const below = behind(node), ink = bytes(getComputedStyle(node).color);
    const [a, b] = [light(over(ink, alpha * ink[3] / 255, below)), light(below)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < faintest[0]) faintest = [contrast, walk.currentNode.data.trim().slice(0, 40)];
  }
  return faintest;
}"""


class Look(NamedTuple):
    """A page on one screen, in one colour scheme."""

    name: str
    width: int
    scheme: str
    overflow: float  # pixels that are to the right of the screen
    background: float  # brightness of the page, from 0 to 1
    scrolled: list[str]  # boxes that are wider than their place


class Faintest(NamedTuple):
    """The text of a page with the lowest contrast, in one colour scheme."""

    name: str
    scheme: str
    contrast: float
    text: str


class Seen(NamedTuple):
    looks: list[Look]
    faintest: list[Faintest]
    requests: list[str]
    failures: list[str]  # JavaScript errors, messages of the console, failed requests


@pytest.fixture(scope="module")
def folder(
    request: pytest.FixtureRequest, place: Path, left_to_run: list[str] | None
) -> Path:
    """A directory with the site."""
    folder: Path | None = request.config.getoption("--site")
    if folder is None:
        folder = place / "site"
        ran = request.config.getoption("--ran")
        words = [] if left_to_run is None else [*left_to_run, "--notebooks", ran]
        driver.Lab().run("site", folder, *words, timeout=LIMIT)
    return folder.absolute()


@pytest.fixture(scope="module")
def files(folder: Path) -> list[Path]:
    """The pages, without the machine in the tab, which has its own test."""
    found = sorted(folder.rglob("*.html"))
    return [path for path in found if path.relative_to(folder).parts[0] != "tab"]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A new page without a network."""
    context = chromium.new_context(offline=True)
    yield context.new_page()
    context.close()


def listen(page: Page, seen: Seen) -> None:
    """Notes what a page requests, and what goes wrong in it."""

    def failed(request: Request) -> None:
        seen.failures.append(f"{request.url}: {request.failure}")

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            seen.failures.append(message.text)

    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("pageerror", lambda error: seen.failures.append(str(error)))
    page.on("requestfailed", failed)
    page.on("console", said)


@pytest.fixture(scope="module")
def seen(
    request: pytest.FixtureRequest, folder: Path, files: list[Path], chromium: Browser
) -> Seen:
    """Looks at all pages, on all screens, in both colour schemes."""
    screenshots: Path | None = request.config.getoption("--screenshots")
    if screenshots:
        screenshots.mkdir(parents=True, exist_ok=True)
    seen = Seen([], [], [], [])
    context = chromium.new_context(offline=True)
    page = context.new_page()
    listen(page, seen)
    for path in files:
        name = path.relative_to(folder).as_posix()
        page.goto(path.as_uri())
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            seen.faintest.append(Faintest(name, scheme, *page.evaluate(FAINTEST)))
            for width, height in SCREENS:
                page.set_viewport_size({"width": width, "height": height})
                seen.looks.append(look(page, name, width, scheme))
                if screenshots:
                    file = f"{name.replace('/', '-')}-{width}-{scheme}.png"
                    page.screenshot(path=screenshots / file)
    context.close()
    return seen


def look(page: Page, name: str, width: int, scheme: str) -> Look:
    overflow = page.evaluate(OVERFLOW)
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    parts = [int(part) for part in re.findall(r"\d+", colour)[:3]]
    brightness, scrolled = sum(parts) / 765, page.evaluate(SCROLLED)
    return Look(name, width, scheme, overflow, brightness, scrolled)


class Reader(html.parser.HTMLParser):
    """Reads a page: where its links lead, what it loads, its anchors, its text, and the
    output of each cell."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors = {""}
        self.pieces: list[str] = []
        self.outputs: list[str] = []
        self.depth = 0  # in an output: how many divs are open
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)
        if tag == "div" and self.depth:
            self.depth += 1
        elif tag == "div" and "cell_output" in (dict(attrs).get("class") or ""):
            self.depth = 1
            self.outputs.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self.depth:
            self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)
        if self.depth:
            self.outputs[-1] += data

    @property
    def text(self) -> str:
        return "".join(self.pieces)


read = functools.cache(Reader)


def lessons(request: pytest.FixtureRequest) -> list[Path]:
    """Returns the notebooks that --lessons selects, or all of them."""
    numbers = re.findall(r"\d+", request.config.getoption("--lessons"))
    wanted = {number.zfill(2) for number in numbers}
    return [path for path in NOTEBOOKS if not wanted or path.name[:2] in wanted]


# ---- what is there


def test_site_has_every_lesson_with_its_output(
    folder: Path, request: pytest.FixtureRequest
) -> None:
    """As in tests/test_notebooks.py, the cells say what their output must be."""
    checked = 0
    for path in lessons(request):
        outputs = [
            x.strip() for x in read(folder / f"lessons/{path.stem}.html").outputs
        ]
        for cell in json.loads(path.read_text())["cells"]:
            for pattern in cell["metadata"].get("expect", []):
                found = [x for x in outputs if re.search(pattern, x, re.MULTILINE)]
                assert found, (path.stem, pattern)
                checked += 1
    assert checked > 20


def test_site_has_the_code_of_every_step_and_all_docs(folder: Path) -> None:
    for path in sorted((driver.PROJECT / "steps").glob("*/*.py")):
        text = read(folder / f"code/{path.parent.name}.html").text
        for line in path.read_text().splitlines():
            assert line.strip() in text, (path, line)
    for path in sorted((driver.PROJECT / "docs").glob("*.md")):
        title = path.read_text().partition("\n")[0].removeprefix("# ")
        assert title in read(folder / f"docs/{path.stem}.html").text


def test_links_inside_the_site_lead_somewhere(folder: Path, files: list[Path]) -> None:
    checked = 0
    for path in files:
        for link in read(path).links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path.parent / unquote(parts.path) if parts.path else path
            assert target.is_file(), (path, link)
            assert folder in target.resolve().parents, (path, link)
            if target.suffix == ".html" and target.parent != folder / "tab":
                assert unquote(parts.fragment) in read(target).anchors, (path, link)
            checked += 1
    assert checked > 1000


# ---- how it looks


def test_no_page_has_an_error(files: list[Path], seen: Seen) -> None:
    assert len(seen.looks) == len(files) * len(SCREENS) * len(SCHEMES)
    assert not seen.failures


def test_page_requests_nothing_from_another_machine(seen: Seen) -> None:
    assert seen.requests
    assert not [x for x in seen.requests if not x.startswith(("file:", "data:"))]


def test_no_page_is_wider_than_the_screen(seen: Seen) -> None:
    assert not [look for look in seen.looks if look.overflow > 1]


def test_tables_and_python_fit_any_screen_but_a_phones(seen: Seen) -> None:
    python = {f"code/{path.stem}.html" for path in driver.PROJECT.glob("steps/*.py")}
    python |= {f"code/{path.parent.name}.html" for path in STEPS}
    looks = [look for look in seen.looks if look.width > SCREENS[0][0]]
    assert python <= {look.name for look in looks}
    assert not [look for look in looks if "a table" in look.scrolled]
    assert not [x for x in looks if x.name in python and "a listing" in x.scrolled]


def test_pages_are_light_or_dark_as_the_visitor_likes(seen: Seen) -> None:
    for seen_look in seen.looks:
        light = seen_look.background > 0.9
        dark = seen_look.background < 0.2
        assert light if seen_look.scheme == "light" else dark, seen_look


def test_text_has_enough_contrast(seen: Seen) -> None:
    assert not [x for x in seen.faintest if x.contrast < CONTRAST]


def test_switch_makes_a_page_dark_and_the_next_page_too(
    folder: Path, page: Page
) -> None:
    page.emulate_media(color_scheme="light")
    page.goto((folder / "index.html").as_uri())
    theme = "document.body.dataset.theme"
    for _ in range(3):  # from auto to dark, light, or back to auto
        if page.evaluate(theme) != "dark":
            page.locator(".theme-toggle:visible").first.click()
    assert page.evaluate(theme) == "dark"
    page.goto((folder / "search.html").as_uri())
    assert page.evaluate(theme) == "dark"


def test_phone_has_the_menu_behind_a_button(folder: Path, page: Page) -> None:
    page.set_viewport_size({"width": SCREENS[0][0], "height": SCREENS[0][1]})
    page.goto((folder / "index.html").as_uri())
    link = page.locator(".sidebar-tree a", has_text="filesystem of its own").first
    assert not in_sight(page, link.bounding_box())
    page.locator(".nav-overlay-icon").click()
    page.wait_for_timeout(500)  # it slides in
    assert in_sight(page, link.bounding_box())
    link.click()
    page.wait_for_url("**/lessons/03_mnt.html")


def in_sight(page: Page, box: FloatRect | None) -> bool:
    size = page.viewport_size
    return bool(box and size and 0 <= box["x"] < size["width"])


# ---- search


def search(page: Page, start: str, words: str) -> None:
    """Searches for words from a page, as a visitor does, and waits for the results."""
    page.goto(start)
    box = page.locator("input[name=q]").first
    box.fill(words)
    box.press("Enter")
    page.wait_for_selector("#search-results li")


def test_search_works_from_a_file_and_leads_to_the_word(
    folder: Path, page: Page
) -> None:
    seen = Seen([], [], [], [])
    listen(page, seen)
    search(page, (folder / "index.html").as_uri(), "pivot_root")
    link = page.locator("#search-results li a[href^='lessons/03_mnt.html']").first
    link.click()
    page.wait_for_url("**/lessons/03_mnt.html*")
    assert "pivot_root" in page.locator("article").inner_text()
    assert not seen.failures
    assert all(request.startswith("file:") for request in seen.requests)


def test_search_on_a_web_server_shows_the_words_in_their_context(
    folder: Path, chromium: Browser
) -> None:
    """Everything but that server is refused, and nothing else is asked for."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    here = f"http://127.0.0.1:{server.server_port}/"
    context = chromium.new_context()
    refused = []

    def refuse(route: Route) -> None:
        if route.request.url.startswith(here):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    context.route("**/*", refuse)
    page = context.new_page()
    seen = Seen([], [], [], [])
    listen(page, seen)
    try:
        search(page, f"{here}docs/teaching.html", "pivot_root")
        page.wait_for_selector("#search-results p.context")
        assert not refused and not seen.failures
    finally:
        context.close()
        server.shutdown()
        server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and prints nothing."""

    def log_message(self, format: str, *args: object) -> None:
        pass


# ---- the machine in a browser tab


def test_site_leads_to_the_machine_in_the_tab_if_it_has_one(
    folder: Path, place: Path
) -> None:
    """Made of the same lessons, with a page in the place of the machine."""
    lab = driver.Lab()
    tab, with_tab = place / "tab", place / "with"
    tab.mkdir()
    (tab / "index.html").write_text("<!doctype html><title>tab</title>")
    notebooks = place / "none"
    notebooks.mkdir()
    lab.run("site", with_tab, "--notebooks", notebooks, "--tab", tab)
    assert (with_tab / "tab/index.html").read_bytes() == (
        tab / "index.html"
    ).read_bytes()
    for name, link in [
        ("index.html", "tab/index.html"),
        ("lessons/03_mnt.html", "../tab/index.html?lesson=03_mnt"),
        ("docs/attacks.html", "../tab/index.html"),
    ]:
        assert link in read(with_tab / name).links
    if not (folder / "tab").exists():
        assert not [x for x in read(folder / "index.html").links if "tab/" in x]
    shutil.rmtree(with_tab)
