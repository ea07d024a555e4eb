"""Writes the sources of the web site, which Sphinx turns into its pages.

| page | made from |
|---|---|
| index.md | the first words of README.md, its table of the steps, and its questions |
| lessons/NAME.ipynb | notebooks/NAME.ipynb, with its output where it has run |
| code/NN_name.md | steps/NN_name: difference from the step before, runtime, attack, hints |
| code/NN_name.md | steps/NN_name without hints: a program to read, such as 11_oci |
| code/NAME.md | steps/NAME.py and steps/network.sh |
| docs/NAME.md | docs/NAME.md |
| files/PATH.md | any other file of the project that one of these pages links to |

Links between the project's files become links between the pages. A link that leads nowhere is an
error.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
import posixpath
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from workshop.hints import hints_of
from workshop.project import PROJECT, STEPS, STORY, Step

LINK = re.compile(
    r"(?<!!)\[([^\[\]]*)\]\((?!https?:|mailto:|#)([^()\s#]+)(#[^()\s]*)?\)"
)
# Beside the steps that learners write: those that are there to be read.
PROGRAMS = [
    path.parent
    for path in sorted(PROJECT.glob("steps/[0-9]*/container.py"))
    if path.parent.name not in {step.name for step in STEPS}
]
# A row of README's table: the step, what it adds, how many lines it has, the attack.
ROW = re.compile(r"^\| \[(\d\d_\w+)\]\([^)]*\) \|(.*)\|(.*)\|(.*)\|$", re.MULTILINE)
# A paragraph of README that answers a question, such as "How long?".
QUESTION = re.compile(r"^\*\*[^*]+\?\*\*(?:.+\n)+", re.MULTILINE)
MACHINE = "**On what machine?**"  # the one about the lab
LANGUAGES = {".py": "python", ".sh": "sh", ".yaml": "yaml", ".json": "json"}
REAL = (
    "Every output in the lessons is real: their cells ran one after the other in the workshop's "
    "Linux VM. Where a lesson has you write code, the reference solution took its place."
)
PICTURES = "*.svg", "*.png"


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A notebook: a lesson, or an appendix to the lessons."""

    path: Path
    has_run: bool  # whether it has the output of its cells

    @property
    def name(self) -> str:
        return self.path.stem


class Contents:
    """The pages of the site."""

    def __init__(
        self, ran: Sequence[Path], tab: bool = False, repository: str = ""
    ) -> None:
        """ran: directories with the lessons that have run; if several have a lesson, the first
        one counts. tab: whether the site has the machine in a browser tab, in tab/. repository: the
        address from which visitors can clone the project, if there is one."""
        self.tab, self.repository = tab, repository
        self.lessons = []
        for path in sorted(PROJECT.glob("notebooks/*.ipynb")):
            outputs = [x / path.name for x in ran if (x / path.name).exists()]
            self.lessons.append(Lesson([*outputs, path][0], bool(outputs)))
        names = "steps/*.py", "steps/*.sh"
        self.helpers = sorted(path for name in names for path in PROJECT.glob(name))
        self.docs = sorted(PROJECT.glob("docs/*.md"))
        self.linked: set[PurePosixPath] = set()  # files that need a page

    def write(self, folder: Path) -> None:
        """Writes all pages, and the pictures that they show, to a directory."""
        for name, text in self.pages():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for source, target in ("notebooks", "lessons"), ("docs", "docs"):
            for pattern in PICTURES:
                for path in (PROJECT / source).rglob(pattern):
                    copy = folder / target / path.relative_to(PROJECT / source)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, copy)

    def pages(self) -> Iterator[tuple[str, str]]:
        """Yields the path and the text of each page. The files that a page links to come
        last, because only then are all of them known."""
        yield "index.md", self.index()
        for lesson in self.lessons:
            yield f"lessons/{lesson.name}.ipynb", self.lesson(lesson)
        for step in STEPS:
            yield f"code/{step.name}.md", self.step(step)
        for folder in PROGRAMS:
            yield f"code/{folder.name}.md", self.program(folder)
        for path in self.helpers:
            yield f"code/{path.stem}.md", self.helper(path)
        for path in self.docs:
            name = f"docs/{path.name}"
            yield name, self.links(path.read_text(), name, name)
        for linked in sorted(self.linked):
            yield f"files/{linked}.md", self.file(PROJECT / linked)

    # ---- the pages

    def index(self) -> str:
        """Returns the first page."""
        text = (PROJECT / "README.md").read_text()
        readme = self.links(text, "README.md", "index.md")
        title, _, rest = readme.removeprefix("# ").partition("\n")
        lead = rest.partition("```")[0].strip()
        ways = f'<a class="way" href="lessons/{self.lessons[0].name}.html">Read lesson 0</a>'
        if self.tab:
            ways = tab_link("", "Open a Linux machine in this tab") + ways
        parts = [f"# {title}", lead, f'<p class="ways">{ways}</p>']
        parts += re.findall(r"^!\[[^\]]*\]\(docs/[^)]*\)$", readme, re.MULTILINE)
        parts.append(self.table(readme))
        for lesson in self.lessons:
            if not lesson.name[0].isdigit():
                parts.append(f"There is also [](lessons/{lesson.name}.ipynb).")
        if all(lesson.has_run for lesson in self.lessons):
            parts.append(REAL)
        parts += [x for x in QUESTION.findall(readme) if not x.startswith(MACHINE)]
        parts.append(self.own_machine(readme))
        parts.append(self.links("[MIT licence](LICENSE)", "README.md", "index.md"))
        for caption, names in [
            ("Lessons", [f"lessons/{lesson.name}" for lesson in self.lessons]),
            ("The code", [f"code/{name}" for name in names_of_code()]),
            ("Beside the steps", [f"code/{path.stem}" for path in self.helpers]),
            ("More to read", [f"docs/{path.stem}" for path in self.docs]),
        ]:
            options = [":hidden:", f":caption: {caption}", ""]
            parts.append(fenced("{toctree}", "\n".join(names), options))
        return "\n\n".join(parts) + "\n"

    def own_machine(self, readme: str) -> str:
        """Returns the part of the first page about the lab. Raises ValueError if README does
        not say what machine it needs."""
        commands = re.findall(r"^\./lab .*", readme, re.MULTILINE)
        needs = [x for x in QUESTION.findall(readme) if x.startswith(MACHINE)]
        if not commands or len(needs) != 1:
            raise ValueError(f"README.md has no commands, or no {MACHINE}")
        place = "In a copy of the project, type:"
        if self.repository:
            place = "In a terminal, type:"
            commands.insert(0, f"git clone {self.repository} workshop && cd workshop")
        about = needs[0].removeprefix(MACHINE).strip()
        listing = fenced("sh", "\n".join(commands))
        return f"## On your own machine\n\n{about}\n\n{place}\n\n{listing}"

    def table(self, readme: str) -> str:
        """Returns the table of the steps. Raises ValueError if README has none."""
        lessons = {lesson.name[:2]: lesson.name for lesson in self.lessons}
        rows = [
            f"| [{name}](lessons/{lessons[name[:2]]}.ipynb) | {adds.strip()} | "
            f"[{lines.strip()} lines](code/{name}.md) | {attack.strip()} |"
            for name, adds, lines, attack in ROW.findall(readme)
        ]
        if len(rows) != len(STEPS):
            raise ValueError("README.md has no table with a row for each step")
        head = ["| lesson | it adds | code | the attack it stops |", f"|{' --- |' * 4}"]
        return fenced("{table}", "\n".join([*head, *rows]), [":class: steps", ""])

    def lesson(self, lesson: Lesson) -> str:
        """Returns a lesson as a notebook, with links to the pages of the site."""
        notebook = json.loads(lesson.path.read_text())
        source, page = f"notebooks/{lesson.path.name}", f"lessons/{lesson.path.name}"
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                text = "".join(cell["source"])
                cell["source"] = self.links(text, source, page)
            else:
                cell["outputs"] = merged(cell.get("outputs", []))
        top = ""
        # The machine has the lessons of the story and the appendix: see tab_lessons.py.
        numbers = {step.number for step in STORY}
        in_tab = lesson.name[:2] in numbers or not lesson.name[0].isdigit()
        if self.tab and in_tab:
            words = "Run this lesson in a Linux machine in this tab"
            top = tab_link("../", words, f"?lesson={lesson.name}")
        if not lesson.has_run:
            top += "\n\n```{note}\nThis lesson has not run, so its cells have no output.\n```"
        if top:
            cell = {"cell_type": "markdown", "metadata": {}, "source": top.strip()}
            notebook["cells"].insert(1, {"id": "site-top", **cell})
        return json.dumps(notebook, ensure_ascii=False)

    def step(self, step: Step) -> str:
        """Returns the page of a step."""
        runtime, before = step.container.read_text(), step.previous
        parts = [f"# {first_line(runtime).partition('. ')[0]}"]
        for lesson in self.lessons:
            if lesson.name.startswith(step.number):
                parts.append(
                    f"The lesson about it: [](../lessons/{lesson.name}.ipynb)."
                )
        marked: list[int] = []
        about = f"`steps/{step.name}/container.py`."
        if before:
            old = before.container.read_text()
            link = f"[{before.name}]({before.name}.md)"
            parts.append(f"## What changes\n\nThe difference from {link}:")
            parts.append(fenced("diff", difference(before, step)))
            marked = added(old.splitlines(), runtime.splitlines())
            about += " The lines that this step adds are marked."
        parts.append(f"## The whole runtime\n\n{about}")
        parts.append(code("python", runtime, marked))
        if step.breakout.exists():
            about = "It works on the step before, and this step stops it."
            parts.append(f"## The attack\n\n`steps/{step.name}/breakout.py`. {about}")
            parts.append(code("python", step.breakout.read_text()))
        parts.append("## Hints\n\nEach one gives away more than the one before.")
        source, page = f"steps/{step.name}/hints.md", f"code/{step.name}.md"
        for count, hint in enumerate(hints_of(step), 1):
            summary = f"<details><summary>Hint {count}</summary>"
            hint = self.links(hint, source, page)
            parts.append(f"{summary}\n\n{hint}\n\n</details>")
        return "\n\n".join(parts) + "\n"

    def program(self, folder: Path) -> str:
        """Returns the page of a program that is there to be read."""
        parts = [f"# {folder.name}", first_line((folder / "container.py").read_text())]
        for path in sorted(folder.glob("*.py")):
            parts += [f"## {path.name}", code("python", path.read_text())]
        return "\n\n".join(parts) + "\n"

    def helper(self, path: Path) -> str:
        """Returns the page of a file that the steps share."""
        text = path.read_text()
        about = first_line(text) if path.suffix == ".py" else ""
        parts = [f"# {path.name}", about, code(LANGUAGES[path.suffix], text)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def file(self, path: Path) -> str:
        """Returns the page of any other file."""
        language = LANGUAGES.get(path.suffix, "text")
        name = path.relative_to(PROJECT)
        return f"---\norphan: true\n---\n\n# {name}\n\n{code(language, path.read_text())}\n"

    # ---- links

    def links(self, text: str, source: str, page: str) -> str:
        """Returns Markdown whose links lead to pages of the site. `source`: the file of the
        project that the text comes from. `page`: the page that it becomes a part of."""
        start = posixpath.dirname(page) or "."

        def replaced(match: re.Match[str]) -> str:
            words, target, anchor = match[1], match[2], match[3] or ""
            name = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
            found = self.page_of(PurePosixPath(name))
            if found is None:  # the learner's own file
                return words
            path, _, own_anchor = found.partition("#")
            anchor = f"#{own_anchor}" if own_anchor else slug(anchor)
            return f"[{words}]({posixpath.relpath(path, start)}{anchor})"

        return LINK.sub(replaced, text)

    def page_of(self, name: PurePosixPath) -> str | None:
        """Returns the page for a file of the project, as a path with or without an anchor, and
        None for the learner's own files. Raises ValueError if there is no such file."""
        if name.parts[0] == "my":
            return None
        if not (PROJECT / name).exists():
            raise ValueError(f"a link leads to {name}, which does not exist")
        if name.suffix in (".svg", ".png"):
            first = {"notebooks": "lessons"}.get(name.parts[0], name.parts[0])
            return str(PurePosixPath(first, *name.parts[1:]))
        if str(name) == "README.md":
            return "index.md"
        if name.parent == PurePosixPath("notebooks"):
            return f"lessons/{name.name}"
        if name.parent == PurePosixPath("docs") and name.suffix == ".md":
            return str(name)
        if PROJECT / name in self.helpers:
            return f"code/{name.stem}.md"
        if name.parts[0] == "steps" and len(name.parts) == 3:
            anchor = {"breakout.py": "#the-attack", "hints.md": "#hints"}
            return f"code/{name.parts[1]}.md{anchor.get(name.name, '')}"
        if (PROJECT / name).is_dir():
            raise ValueError(f"a link leads to the directory {name}")
        self.linked.add(name)
        return f"files/{name}.md"


# ---- parts of pages


def first_line(source: str) -> str:
    """Returns the first line of a Python module's docstring."""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def merged(outputs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the outputs of a cell with neighbouring pieces of the same stream joined, as
    JupyterLab shows them. A terminal's line ends become ordinary ones."""
    found: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] == "stream":
            text = "".join(output["text"]).replace("\r\n", "\n")
            if found and found[-1].get("name") == output["name"]:
                found[-1]["text"] += text
                continue
            output = {**output, "text": text}
        found.append(output)
    return found


def difference(before: Step, step: Step) -> str:
    """Returns the unified diff between the runtimes of two steps."""
    old, new = (x.container.read_text().splitlines() for x in (before, step))
    names = (f"steps/{before.name}/container.py", f"steps/{step.name}/container.py")
    return "\n".join(difflib.unified_diff(old, new, *names, lineterm=""))


def added(old: list[str], new: list[str]) -> list[int]:
    """Returns the numbers, from 1, of the lines of `new` that `old` does not have."""
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    return [
        number + 1
        for tag, _, _, first, last in matcher.get_opcodes()
        if tag in ("insert", "replace")
        for number in range(first, last)
    ]


def slug(anchor: str) -> str:
    """Returns an anchor of JupyterLab or GitHub in the form that MyST and GitHub use."""
    return re.sub(r"[^\w#-]", "", anchor.lower())


def fenced(info: str, text: str, options: Iterable[str] = ()) -> str:
    """Returns a block of code, with a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    head = "".join(f"{option}\n" for option in options)
    return f"{fence}{info}\n{head}{text.rstrip()}\n{fence}"


def code(language: str, text: str, marked: Iterable[int] = ()) -> str:
    """Returns a listing with numbered lines, some of which are marked."""
    options = [":linenos:"]
    if numbers := ",".join(map(str, marked)):
        options.append(f":emphasize-lines: {numbers}")
    return fenced(f"{{code-block}} {language}", text, [*options, ""])


def names_of_code() -> list[str]:
    """Returns the names of the pages with the code of the steps, in order."""
    return [step.name for step in STEPS] + [folder.name for folder in PROGRAMS]


def tab_link(up: str, words: str, query: str = "") -> str:
    """Returns the link to the machine in a browser tab. `up`: the relative path from
    the page to the site's root."""
    return f'<a class="way tab" href="{up}tab/index.html{query}">{words}</a>'
