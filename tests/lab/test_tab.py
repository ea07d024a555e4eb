"""The machine in the browser tab: headless Chromium on the page that site/tab/build_tab.py makes.

The tests build the page (or take the one in --tab DIR), serve it on 127.0.0.1, and open it
from file:// as well. At the end they print what they have measured next to the bounds, which
hold on a machine that does nothing else; with --busy, times are only printed. With
--screenshots they save pictures for you to look at."""

import contextlib
import functools
import http.server
import itertools
import pathlib
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import driver
import firefox
import pytest
from driver import PROJECT
from playwright.sync_api import Browser, BrowserContext, Page
from tab_cells import build_tab, code_cells

pytestmark = [pytest.mark.timeout(3600), pytest.mark.in_order]
MB = 1e6
LIMIT = 900_000  # milliseconds that anything may take on a busy machine
LIVE = ["01_uts", "02_pid"]  # the lessons that run whole in Chromium
WINDOWS = {"1280": (1280, 720), "1920": (1920, 1080), "phone": (390, 844)}
SCREEN = """() => {
  const buffer = page.terminal.buffer.active, lines = [];
  for (let y = 0; y < buffer.length; y++) {
    const line = buffer.getLine(y);
    if (line.isWrapped) lines[lines.length - 1] += line.translateToString(true);
    else lines.push(line.translateToString(true));
  }
  return lines.join("\\n");
}"""
BOMB = "steps/05_user/container.py run busybox sh -c 'b() { b | b & }; b; sleep 20'"


class Figures:
    """What was measured, next to its bound."""

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self.rows: list[tuple[str, float, float, str]] = []

    def add(self, what: str, value: float, bound: float, unit: str) -> None:
        self.rows.append((what, value, bound, unit))

    def out_of_bounds(self) -> list[str]:
        """Returns what is too large, or too slow: but a busy machine is no reason for that."""
        return [
            f"{what}: {value:.2f} {unit}, at most {bound} {unit}"
            for what, value, bound, unit in self.rows
            if value > bound and (self.strict or unit not in ("s", "%"))
        ]


class Server(http.server.ThreadingHTTPServer):
    """Serves the page, and counts the bytes. `cut`: the part of a path of which only a half is
    sent."""

    sent = 0
    cut = ""


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        if self.server.cut and self.server.cut in self.path:
            data = data[: len(data) // 2]
        self.server.sent += len(data)
        with contextlib.suppress(ConnectionError):
            outputfile.write(data)
        if self.server.cut and self.server.cut in self.path:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def figures(request: pytest.FixtureRequest) -> Iterator[Figures]:
    figures = Figures(strict=not request.config.getoption("--busy"))
    yield figures
    with request.config.pluginmanager.getplugin(
        "capturemanager"
    ).global_and_fixture_disabled():
        print(f"\n\n{'measured':56} {'is':>9} {'at most':>9}")
        for what, value, bound, unit in figures.rows:
            late = "" if value <= bound else "  !"
            print(f"{what:56} {value:9.2f} {bound:9g} {unit}{late}")


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, place: pathlib.Path) -> pathlib.Path:
    """A directory with the page."""
    folder: pathlib.Path | None = request.config.getoption("--tab")
    if folder is None:
        folder = place / "tab"
        print(build_tab(request.config, folder))
    return folder.absolute()


@pytest.fixture(scope="module")
def server(folder: pathlib.Path) -> Iterator[Server]:
    handler = functools.partial(Handler, directory=folder)
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A visitor's browser, which keeps their work. A request to another machine fails."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    context.set_default_timeout(LIMIT)
    yield context
    context.close()


class Visitor:
    """A person at the page."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, lesson: str = "02_pid") -> None:
        self.page.goto(f"{self.address}#{lesson}")
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_function("page.ready")

    def warm(self) -> None:
        self.page.wait_for_function("page.warmed")

    def screen(self) -> str:
        """Returns what the terminal shows, and has shown."""
        shown: str = self.page.evaluate(SCREEN)
        return shown.rstrip()  # lines that were not used yet

    def types(self, command: str, pattern: str) -> str:
        """Types a command in the terminal, and waits for a pattern. Returns the terminal's
        text since then."""
        before = len(self.screen())
        self.page.locator("#terminal").click()
        self.page.keyboard.type(f"{command}\n")
        return self.sees(pattern, before)

    def sees(self, pattern: str, before: int = 0) -> str:
        driver.wait_until(
            lambda: re.search(pattern, self.screen()[before:], re.MULTILINE),
            LIMIT / 1000,
            f"no {pattern!r} in the terminal",
        )
        return self.screen()[before:]

    def sh(self, command: str) -> tuple[str, float]:
        """Returns the output and the seconds of a command over the page's own line."""
        start = time.monotonic()
        done = self.page.evaluate("command => page.machine.sh(command)", command)
        return done["output"], time.monotonic() - start

    def cell(self, code: str, number: int = 0) -> dict[str, Any]:
        """Runs code in a cell of the lesson that is shown."""
        done: dict[str, Any] = self.page.evaluate(
            """async ([code, number]) => {
              const cell = page.lesson.cells[number], view = cell.editor;
              const before = view.state.doc.toString();
              const set = insert => view.dispatch(
                { changes: { from: 0, to: view.state.doc.length, insert } });
              set(code);
              const done = await cell.run();
              set(before);
              return { messages: cell.messages, ...done };
            }""",
            [code, number],
        )
        return done


@pytest.fixture(scope="module")
def visitor(context: BrowserContext, server: Server) -> Visitor:
    visitor = Visitor(
        context.new_page(), f"http://127.0.0.1:{server.server_port}/index.html"
    )
    visitor.open()
    return visitor


def test_first_view_is_small_and_soon_there(
    visitor: Visitor, server: Server, figures: Figures
) -> None:
    times = visitor.page.evaluate("page.times")
    figures.add("first view", server.sent / MB, 32, "MB")
    figures.add(
        "usable shell, after the download", times["ready"] - times["downloaded"], 3, "s"
    )
    memory, _ = visitor.sh("sed -n 's/MemTotal: *//p' /proc/meminfo")
    figures.add("memory of the machine", int(memory.split()[0]) / 1024, 512, "MB")


def test_link_of_the_site_opens_its_lesson(chromium: Browser, server: Server) -> None:
    page = chromium.new_page()
    page.set_default_timeout(LIMIT)
    page.route("**/state.js", lambda route: route.abort())
    page.goto(f"http://127.0.0.1:{server.server_port}/index.html?lesson=03_mnt")
    page.wait_for_function("page.lesson?.name === '03_mnt'")
    page.close()


def test_terminal_types_and_answers(visitor: Visitor) -> None:
    assert "i686" in visitor.types("uname -m; echo $((6 * 7))", "^42$")


def test_clock_is_right(visitor: Visitor) -> None:
    output, _ = visitor.sh("date +%s")
    assert abs(int(output) - time.time()) < 5


def test_warm_machine_is_quick(visitor: Visitor, figures: Figures) -> None:
    visitor.warm()
    for _ in range(3):
        done = visitor.cell("1 + 1")
    figures.add("cell 1 + 1, warm", done["seconds"], 0.1, "s")
    for _ in range(3):
        done = visitor.cell("!/workshop/steps/02_pid/container.py run ps")
    figures.add(
        "cell !steps/02_pid/container.py run ps, warm", done["seconds"], 1.5, "s"
    )
    _, seconds = visitor.sh("steps/07_overlay/container.py run busybox true")
    figures.add("steps/07_overlay/container.py run busybox true, warm", seconds, 2, "s")
    _, seconds = visitor.sh("steps/02_pid/breakout.py steps/01_uts/container.py")
    figures.add("break-out 02, warm", seconds, 5, "s")


def test_idle_machine_leaves_the_processor_alone(
    visitor: Visitor, figures: Figures
) -> None:
    metrics = visitor.page.context.new_cdp_session(visitor.page)
    metrics.send("Performance.enable")

    def busy() -> float:
        found = metrics.send("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in found if m["name"] == "TaskDuration"))

    time.sleep(3)
    before, start = busy(), time.monotonic()
    time.sleep(15)
    share = (busy() - before) / (time.monotonic() - start) * 100
    figures.add("one core, idle", share, 20, "%")


def test_click_on_a_command_in_the_text_types_it(visitor: Visitor) -> None:
    before = len(visitor.screen())
    code = visitor.page.locator("#lesson code.command").first
    words = code.text_content()
    assert words
    code.evaluate("code => code.click()")
    visitor.sees(re.escape(words.lstrip("!")[:20]), before)
    visitor.page.keyboard.press("Control+C")


def test_edited_runtime_is_saved_and_run(visitor: Visitor) -> None:
    page = visitor.page
    page.click("#begin")
    page.wait_for_function("page.editor.get().includes('CLONE_NEWUTS')")
    page.evaluate("page.editor.set(page.editor.get() + '\\n# a line of mine\\n')")
    page.fill("#command", "sh -c 'echo I am $((40 + 2))'")
    before = len(visitor.screen())
    page.click("#run")
    visitor.sees("^I am 42$", before)
    assert "a line of mine" in visitor.sh("cat my/container.py")[0]


def test_break_in_works_and_then_fails(visitor: Visitor) -> None:
    page = visitor.page
    visitor.sh("cp steps/01_uts/container.py my/")
    page.wait_for_function("page.editor.get().includes('CLONE_NEWUTS')")
    before = len(visitor.screen())
    page.click("#attack")
    visitor.sees("your container was broken out of", before)
    visitor.sh("cp steps/02_pid/container.py my/")
    page.wait_for_function("page.editor.get().includes('CLONE_NEWPID')")
    before = len(visitor.screen())
    page.click("#attack")
    visitor.sees("Step 02: your container holds", before)


@pytest.mark.parametrize("lesson", LIVE)
def test_live_lesson_prints_what_it_promises(
    request: pytest.FixtureRequest, visitor: Visitor, lesson: str
) -> None:
    page = visitor.page
    page.evaluate("name => { location.hash = name; }", lesson)
    page.wait_for_function("name => page.lesson.name === name", arg=lesson)
    visitor.sh("rm -rf my/container.py my/.workshop")
    quick = request.config.getoption("--tab-quick")
    wrong = []
    for number, cell in enumerate(
        code_cells(PROJECT / f"notebooks/{lesson}.ipynb", quick)
    ):
        if cell.learner:
            visitor.sh(f"cp steps/{cell.learner}/container.py my/")
        wrong += cell.complaints(visitor.cell(cell.code, number)["messages"])
    assert not wrong, "\n".join(wrong)


def test_cell_shows_html_colours_and_errors(visitor: Visitor) -> None:
    visitor.cell("%load_ext workshop\n1")
    visitor.cell("%diff 2")
    assert visitor.page.locator(".cell iframe").first.is_visible()
    done = visitor.cell("1/0")
    assert done["raised"] == "ZeroDivisionError" and not done["done"]
    assert visitor.page.locator(".cell .output span[style*=ansi]").count()


def test_stop_interrupts_a_cell(visitor: Visitor) -> None:
    page = visitor.page
    code = "import time; time.sleep(1000)"
    page.evaluate("code => { window.slow = page.machine.cells.run(code); }", code)
    time.sleep(2)
    page.click("#stop")
    assert page.evaluate("slow")["done"] is False
    assert visitor.cell("1 + 1")["text"] == "2"


def test_restart_of_the_cells_forgets_their_variables(visitor: Visitor) -> None:
    visitor.cell("x = 1")
    visitor.page.click("#restart")
    visitor.page.wait_for_function(
        "document.getElementById('status').value === 'Ready'"
    )
    assert visitor.cell("x")["raised"] == "NameError"


def test_check_of_step_01_is_bearable(visitor: Visitor, figures: Figures) -> None:
    visitor.sh("cp steps/01_uts/container.py my/")
    output, seconds = visitor.sh("workshop check 1 --alone")
    assert "Step 01 holds" in output, output
    figures.add("workshop check 1 --alone", seconds, 60, "s")


def test_kept_machine_goes_on_after_a_reload(visitor: Visitor) -> None:
    page = visitor.page
    visitor.warm()
    visitor.sh("touch /root/trace my/old")
    visitor.cell("kept = 41")
    page.click("#keep")
    page.wait_for_function(
        "document.getElementById('status').value.includes('is kept in this browser')"
    )
    visitor.sh("rm my/old; echo new >my/new")
    page.wait_for_function("page.files.new && !page.files.old")
    page.reload()
    visitor.ready()
    assert visitor.cell("kept + 1")["text"] == "42"
    output, _ = visitor.sh("ls /root/trace my/old; cat my/new")
    assert output.splitlines()[1:] == ["/root/trace", "new"], output
    assert abs(int(visitor.sh("date +%s")[0]) - time.time()) < 5
    assert visitor.types("echo $((2 * 3))", "^6$")


def test_work_survives_a_reload(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate("page.editor.set('# saved\\n')")
    page.click("#save")
    page.wait_for_function("document.getElementById('dirty').hidden")
    visitor.sh("mkdir -p my/.workshop && echo kept >my/.workshop/note")
    time.sleep(1)
    page.evaluate("page.editor.set('# saved\\n# only typed\\n')")
    time.sleep(1)
    page.reload()
    visitor.ready()
    assert page.evaluate("page.editor.get()") == "# saved\n# only typed\n"
    assert visitor.sh("cat my/container.py my/.workshop/note")[0] == "# saved\nkept\n"


def test_reset_keeps_the_files_and_nothing_else(visitor: Visitor) -> None:
    visitor.page.click("#reset")
    visitor.page.wait_for_function("!page.ready")
    visitor.ready()
    assert (
        visitor.sh("ls /root/trace 2>/dev/null; cat my/container.py")[0] == "# saved\n"
    )
    assert abs(int(visitor.sh("date +%s")[0]) - time.time()) < 5


def test_download_and_upload_of_the_runtime(
    visitor: Visitor, place: pathlib.Path
) -> None:
    page = visitor.page
    with page.expect_download() as download:
        page.click("#download")
    assert pathlib.Path(download.value.path()).read_text() == page.evaluate(
        "page.editor.get()"
    )
    file = place / "container.py"
    file.write_text("# uploaded\n")
    page.set_input_files("#upload", file)
    page.wait_for_function("page.editor.get() === '# uploaded\\n'")
    driver.wait_until(
        lambda: visitor.sh("cat my/container.py")[0] == "# uploaded\n", 60, "no upload"
    )


def test_fork_bomb_stays_in_the_terminal(visitor: Visitor) -> None:
    """Step 05 has no limits yet. The page's own line still works, and reset as well."""
    visitor.page.keyboard.press("Control+C")
    visitor.types(BOMB, "can't fork|Resource temporarily unavailable")
    assert visitor.sh("echo alive")[0] == "alive\n"
    visitor.page.click("#reset")
    visitor.page.wait_for_function("!page.ready")
    visitor.ready()
    assert visitor.sh("cat my/container.py")[0] == "# uploaded\n"


def test_second_tab_asks_before_it_takes_the_machine(
    visitor: Visitor, context: BrowserContext
) -> None:
    second = Visitor(context.new_page(), visitor.address)
    second.page.goto(second.address)
    dialog = second.page.locator("#trouble")
    dialog.wait_for()
    assert "another tab" in (dialog.text_content() or "")
    dialog.locator("button").click()
    second.ready()
    visitor.page.locator("#trouble[open]").wait_for()
    assert second.sh("cat my/container.py")[0] == "# uploaded\n"
    second.page.close()
    visitor.page.locator("#trouble button").click()
    visitor.page.wait_for_load_state()
    visitor.ready()


def test_page_needs_nobody_else(visitor: Visitor) -> None:
    origin = visitor.address.removesuffix("index.html")
    own = origin, "data:", "blob:", "about:"
    assert visitor.requests
    assert not [url for url in visitor.requests if not url.startswith(own)]


def test_page_has_no_errors(visitor: Visitor) -> None:
    assert not visitor.errors


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("delete globalThis.WebAssembly", "no WebAssembly"),
        (
            "WebAssembly.Memory = function () { throw new RangeError('no memory'); }",
            "not enough memory",
        ),
    ],
    ids=["no WebAssembly", "too little memory"],
)
def test_browser_that_cannot_is_told_so(
    chromium: Browser, server: Server, script: str, words: str
) -> None:
    page = chromium.new_page()
    page.set_default_timeout(LIMIT)
    page.add_init_script(script)
    page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
    page.locator("#trouble").wait_for()
    assert words in (page.locator("#trouble").text_content() or "")
    assert page.locator("#lesson h1").text_content()
    page.close()


def test_download_that_is_cut_off_is_told_and_tried_again(
    chromium: Browser, server: Server
) -> None:
    page = chromium.new_page()
    page.set_default_timeout(LIMIT)
    server.cut = "state.js"
    try:
        page.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        page.locator("#trouble").wait_for()
        assert "cut off" in (page.locator("#trouble").text_content() or "")
    finally:
        server.cut = ""
    page.click("#trouble button")
    page.wait_for_function("page.ready")
    page.close()


def test_page_works_from_a_folder_without_a_network(
    chromium: Browser, folder: pathlib.Path, figures: Figures
) -> None:
    context = chromium.new_context(offline=True)
    context.set_default_timeout(LIMIT)
    visitor = Visitor(context.new_page(), (folder / "index.html").as_uri())
    visitor.open()
    assert visitor.sh("steps/07_overlay/container.py run debian hostname")[0].strip()
    assert visitor.cell("1 + 1")["text"] == "2"
    figures.add(
        "from file://: usable shell", visitor.page.evaluate("page.times.ready"), 8, "s"
    )
    assert not [
        u
        for u in visitor.requests
        if not u.startswith(("file:", "data:", "blob:", "about:"))
    ]
    assert not visitor.errors
    context.close()


def test_firefox_runs_the_machine_too(server: Server, figures: Figures) -> None:
    with firefox.started(optimize=figures.strict) as browser:
        browser.open(f"http://127.0.0.1:{server.server_port}/index.html#02_pid")
        browser.wait_for("page.ready")
        times = browser.evaluate("() => page.times")
        seconds = times["ready"] - times["downloaded"]
        figures.add("Firefox: usable shell, after the download", seconds, 6, "s")
        command = "steps/07_overlay/container.py run busybox hostname"
        done = browser.evaluate("(command) => page.machine.sh(command)", command)
        assert done == {"status": 0, "output": "container\n"}
        for _ in range(2):  # the cell before has %load_ext
            cells = [browser.evaluate("(n) => page.run(n)", n) for n in range(2)]
        assert "signal 9" in cells[1]["text"]
        begin = time.monotonic()
        browser.evaluate(
            "async () => { while (!page.warmed) await new Promise(r => setTimeout(r, 500)); }"
        )
        figures.add("Firefox: warm-up", time.monotonic() - begin, 120, "s")


def test_all_figures_are_within_their_bounds(figures: Figures) -> None:
    assert not figures.out_of_bounds()


@pytest.mark.pictures
def test_screenshots(
    request: pytest.FixtureRequest, chromium: Browser, server: Server
) -> None:
    pictures: pathlib.Path = request.config.getoption("--screenshots")
    pictures.mkdir(parents=True, exist_ok=True)
    context = chromium.new_context()
    context.set_default_timeout(LIMIT)
    visitor = Visitor(
        context.new_page(), f"http://127.0.0.1:{server.server_port}/index.html"
    )
    visitor.open("01_uts")
    page = visitor.page
    page.click("#begin")
    for number in range(6):
        page.evaluate("number => page.run(number)", number)
    visitor.types("workshop breakout 1", "broken out of|holds")
    schemes: list[Any] = ["light", "dark"]
    for scheme, (name, (width, height)) in itertools.product(schemes, WINDOWS.items()):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": height})
        for part in ["lesson", "code", "screen"] if name == "phone" else ["lesson"]:
            if name == "phone":
                page.click(f"nav [data-show={part}]")
            for top in [0, 1500] if part == "lesson" else [0]:
                page.evaluate(
                    "top => document.getElementById('lesson').scrollTo(0, top)", top
                )
                time.sleep(1)
                page.screenshot(path=pictures / f"{scheme}-{name}-{part}-{top}.png")
    context.close()
