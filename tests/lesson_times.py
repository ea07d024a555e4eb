#!/usr/bin/env python3
"""Computes how long each lesson takes, from the notebooks and the steps themselves, and how
long the three paths through the workshop take.

    tests/lesson_times.py [--write]

It prints a table. With --write it writes the times into the first cell of each notebook, into
README.md and into docs/teaching.md. tests/unit/test_lesson_times.py checks that they are up to
date.
"""

import difflib
import functools
import json
import math
import pathlib
import re
import sys
from dataclasses import dataclass
from typing import Any, Literal

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "tests")]
from pages import LESSONS
from source import code_lines

from workshop.project import STEPS, STORY
from workshop.scenes import scenes

README = PROJECT / "README.md"
TEACHING = PROJECT / "docs" / "teaching.md"

# The rates. People who read a text that they enjoy read 240 words a minute. A text that they
# learn from, with new words and perhaps in a second language, takes longer: it is read at the
# speed at which somebody would read it aloud.
WORDS_PER_MINUTE = 150
# Read the code, press Shift+Enter, wait for the output, compare it with the guess.
CELL = 20 / 60
# Think before you read on; or, at the end of a lesson, unfold the answer and read it.
QUESTION = 30 / 60
# Find the line in the specification, type it, and correct it after the first check. (To type
# it takes ten seconds; the rest is looking up and correcting.)
LINE_OF_CODE = 1
# Most people check twice: once with a mistake and once without. The facts take about half a
# minute in an emulated VM, and reading what failed takes as long.
CHECKS = 2 * 1
ROUNDED_TO = 5  # minutes, always up

BUILD, READING = "Build it", "Further reading"  # the headings of two sections
TIME_LINE = re.compile(r"^\*(?:About )?\d+ minutes.*\*$", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """What there is to do in a lesson or in a part of it."""

    words: int = 0
    cells: int = 0
    questions: int = 0

    def __add__(self, other: "Section") -> "Section":
        return Section(
            self.words + other.words,
            self.cells + other.cells,
            self.questions + other.questions,
        )

    def minutes(self) -> float:
        cells = self.cells * CELL + self.questions * QUESTION
        return self.words / WORDS_PER_MINUTE + cells


@dataclass(frozen=True)
class Lesson:
    """A lesson, and how long it takes."""

    number: str  # two digits
    path: pathlib.Path
    read: Section  # everything except the next one
    build: Section  # "Build it": the specification, the check
    lines: int  # of code that the learner adds to the runtime

    @property
    def reading(self) -> int:
        """The minutes to read the lesson, to run its cells and to think about its
        questions."""
        return rounded(self.read.minutes())

    @property
    def writing(self) -> int:
        """The minutes to read the section "Build it", and to write and check the step. 0 if
        the lesson has no such section."""
        return rounded(self.minutes_to_write())

    def minutes_to_write(self) -> float:
        """Returns what `writing` rounds up."""
        if not self.lines:
            return 0
        return self.build.minutes() + self.lines * LINE_OF_CODE + CHECKS

    @property
    def minutes(self) -> int:
        return self.reading + self.writing

    def line(self) -> str:
        """Returns the line for the notebook's first cell."""
        if not self.writing:
            return f"*About {self.minutes} minutes.*"
        return (
            f"*About {self.minutes} minutes: {self.reading} to read and run, "
            f"{self.writing} to write the step.*"
        )

    def link(self) -> str:
        """Returns a link to the lesson, for docs/teaching.md."""
        cells = json.loads(self.path.read_text())["cells"]
        title = "".join(cells[0]["source"]).partition("\n")[0]
        name = re.sub(r"^# (\d+ · )?", "", title)
        return f"[{int(self.number)}, {name}](../notebooks/{self.path.name})"


def rounded(minutes: float) -> int:
    """Returns the next multiple of ROUNDED_TO."""
    return math.ceil(minutes / ROUNDED_TO) * ROUNDED_TO


def words(text: str) -> int:
    """Returns how many words of a Markdown text are read: without folded answers, the
    alternative text of pictures, addresses, tags and marks."""
    text = re.sub(r"(?s)(<summary>.*?</summary>).*?</details>", r"\1", text)
    text = re.sub(r"!\[.*?\]\(.*?\)", "", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"<[^>]+>", " ", text)
    return len(re.findall(r"[^\W_][\w'’./-]*", text))


def questions(text: str) -> int:
    """Returns how many questions a Markdown text asks the reader: those that it folds an
    answer to, and its last paragraph if it asks for a guess."""
    plain = re.sub(r"(?s)<details>.*?</details>", "", text).strip()
    last = plain.rpartition("\n\n")[2]
    asked = "?" in last or re.search(r"\*\*.*(Question|Guess|Predict)", last)
    return text.count("<details>") + bool(asked)


def sections(notebook: dict[str, Any]) -> dict[str, Section]:
    """Returns what there is to do in each section of a notebook, by its heading. The part
    before the first heading has the name ""."""
    found, name = {"": Section()}, ""
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found[name] += Section(cells=1)
            continue
        for part in re.split(r"(?m)^(?=## )", TIME_LINE.sub("", text)):
            if part.startswith("## "):
                name = part.partition("\n")[0].removeprefix("## ")
                found.setdefault(name, Section())
            found[name] += Section(words(part), 0, questions(part))
    return found


def added_lines(number: str) -> int:
    """Returns how many lines of code a step adds. Step 00 adds none, because `workshop
    start` writes it."""
    step = next(step for step in STEPS if step.number == number)
    if step.previous is None:
        return 0
    before, after = code_lines(step.previous.container), code_lines(step.container)
    return sum(line.startswith("+ ") for line in difflib.ndiff(before, after))


def lesson_in(path: pathlib.Path) -> Lesson:
    """Returns the lesson in a notebook."""
    read = Section()
    found = sections(json.loads(path.read_text()))
    build = found.pop(BUILD, Section())
    for name, section in found.items():
        if not name.startswith(READING):
            read += section
    number = path.name[:2]
    lines = added_lines(number)
    if not lines:  # there is nothing to build, only to read about it
        read, build = read + build, Section()
    return Lesson(number, path, read, build, lines)


@functools.cache
def lessons() -> dict[str, Lesson]:
    """Returns all lessons by their numbers, except those about a program to read, such as
    11: no path through the workshop has them."""
    written = [step.number for step in STEPS]
    return {n: lesson_in(path) for path in LESSONS if (n := path.name[:2]) in written}


# ---- paths through the workshop

CUT = "45"  # of `workshop demo`, unless the time is short
PAUSE = 10
SOLVE = 5  # minutes to take over a step: type it twice, and look at the difference
REPORT = 10  # minutes for the check of all steps so far, and the report


@dataclass(frozen=True)
class Part:
    """A part of a path: what the learner does, with which lessons.

    read: work through the lessons, and write their steps. write: watch the lessons' demo,
    then write their steps. show: only watch the demo. solve: take over a step, and
    with it those before. report: check everything, write a report. pause: rest."""

    action: Literal["read", "write", "show", "solve", "report", "pause"]
    lessons: tuple[str, ...] = ()
    cut: str = CUT

    def minutes(self) -> int:
        """Returns how long this part takes."""
        fixed = {"solve": SOLVE, "report": REPORT, "pause": PAUSE}
        if self.action in fixed:
            return fixed[self.action]
        chosen = [lessons()[number] for number in self.lessons]
        if self.action == "read":
            return sum(lesson.minutes for lesson in chosen)
        shown = sum(scene.minutes for scene in scenes(self.cut, self.lessons))
        if self.action == "write":
            return rounded(shown + sum(lesson.minutes_to_write() for lesson in chosen))
        return rounded(shown)

    def commands(self) -> list[str]:
        """Returns the commands that the learner types for it, outside the lessons."""
        numbers = " ".join(str(int(number)) for number in self.lessons)
        cut = "" if self.cut == "20" else f" --minutes {self.cut}"
        show, check = f"./lab demo{cut} {numbers}", f"workshop check {numbers}"
        return {
            "read": [],
            "write": [show, check],
            "show": [show],
            "solve": [f"workshop solve {numbers} --write"],
            "report": [check, "workshop report --name NAME"],
            "pause": [],
        }[self.action]

    def row(self) -> str:
        """Returns its last two columns in the table."""
        titles = ", ".join(lessons()[number].link() for number in self.lessons)
        what = {
            "read": f"read {titles}"
            if self.lessons == ("00",)
            else f"read and write {titles}",
            "write": f"watch and write {titles}",
            "show": f"watch {titles}",
            "solve": f"take over the runtime of {titles}",
            "report": "check all steps so far, and write a report",
            "pause": "a break",
        }[self.action]
        return f"{what} | {', '.join(f'`{one}`' for one in self.commands())} |"


@dataclass(frozen=True)
class Session:
    """A part of a path without a night or a meal in it."""

    name: str
    limit: int  # minutes that it may take
    parts: tuple[Part, ...]

    def minutes(self) -> int:
        return sum(part.minutes() for part in self.parts)


@dataclass(frozen=True)
class Path:
    """A way through the workshop, which is complete in itself."""

    name: str  # its heading in docs/teaching.md
    passes: str  # the learner's runtime passes step 00 to this one at the end
    sessions: tuple[Session, ...]

    def parts(self) -> list[Part]:
        return [part for session in self.sessions for part in session.parts]

    def table(self) -> str:
        """Returns the table for docs/teaching.md."""
        lines = ["| at | min | what | type |\n", "| --: | --: | --- | --- |\n"]
        for session in self.sessions:
            lines.append(f"| | **{session.minutes()}** | **{session.name}** | |\n")
            at = 0
            for part in session.parts:
                clock = f"{at // 60}:{at % 60:02}"
                lines.append(f"| {clock} | {part.minutes()} | {part.row()}\n")
                at += part.minutes()
        return "".join(lines)


def read(*numbers: str) -> tuple[Part, ...]:
    return tuple(Part("read", (number,)) for number in numbers)


LAST = Part("report", ("07",))
PATHS = [
    Path(
        "Two hours",
        "03",
        (
            Session(
                "two hours",
                120,
                (
                    Part("show", ("00",)),
                    Part("write", ("01",)),
                    Part("write", ("02",)),
                    Part("pause"),
                    Part("write", ("03",)),
                    Part("report", ("03",)),
                    Part("show", ("04", "05", "06", "07"), "20"),
                ),
            ),
        ),
    ),
    Path(
        "An afternoon and an evening",
        "07",
        (
            Session(
                "the afternoon",
                240,
                (*read("00", "01", "02"), Part("pause"), *read("03")),
            ),
            Session(
                "the evening",
                210,
                (
                    Part("show", ("04", "05")),
                    Part("solve", ("05",)),
                    *read("06"),
                    Part("pause"),
                    *read("07"),
                    LAST,
                ),
            ),
        ),
    ),
    Path(
        "Four afternoons",
        "07",
        tuple(
            Session(
                f"afternoon {n}", 180, (*read(one), Part("pause"), *read(two), *end)
            )
            for n, (one, two, end) in enumerate(
                [
                    ("00", "01", ()),
                    ("02", "03", ()),
                    ("04", "05", ()),
                    ("06", "07", (LAST,)),
                ],
                1,
            )
        ),
    ),
]


# ---- where the times are written


def in_notebook(lesson: Lesson) -> str:
    """Returns the notebook's file with the right time in it."""
    text, line = lesson.path.read_text(), lesson.line()
    pattern = r'(?m)^( *")' + TIME_LINE.pattern[1:-1] + '"'
    return replaced(pattern, rf'\g<1>{line}"', text)


def total() -> str:
    """Returns the sentence of the README that says how long the workshop takes."""
    all_minutes = [lessons()[step.number].minutes for step in STORY]
    halves = round(sum(all_minutes) / 30)
    hours = f"{halves // 2}{'½' if halves % 2 else ''}"
    return (
        f"The eight lessons take about {hours} hours, "
        f"{min(all_minutes)} to {max(all_minutes)} minutes each"
    )


def in_readme() -> str:
    """Returns the README with the right times in it."""
    return replaced(
        r"The eight lessons\s+take\s+about\s[^,]+,\s+\d+\s+to\s+\d+\s+minutes\s+each",
        total(),
        README.read_text(),
    )


def in_teaching() -> str:
    """Returns docs/teaching.md with the tables of the paths in it."""
    text = TEACHING.read_text()
    for path in PATHS:
        pattern = rf"(?s)(?<=\n## {path.name}\n)(.*?\n\n)(?:\|[^\n]*\n)+"
        text = replaced(pattern, rf"\1{path.table()}", text)
    return text


def replaced(pattern: str, new: str, text: str) -> str:
    """Returns a text in which the only match of a pattern is replaced."""
    text, count = re.subn(pattern, new, text)
    if count != 1:
        raise ValueError(f"{count} places match {pattern}")
    return text


def files() -> dict[pathlib.Path, str]:
    """Returns the files that contain times, and what each of them must be."""
    found = {lesson.path: in_notebook(lesson) for lesson in lessons().values()}
    return found | {README: in_readme(), TEACHING: in_teaching()}


def main(words: list[str]) -> int:
    """Prints the times, and writes them with --write. Returns the exit status."""
    print("lesson  words  cells  questions  lines  to read  to write  minutes")
    for one in lessons().values():
        all_of_it = one.read + one.build
        print(
            f"{one.number:6} {all_of_it.words:6} {all_of_it.cells:6} "
            f"{all_of_it.questions:10} {one.lines:6} {one.reading:8} {one.writing:9} "
            f"{one.minutes:8}"
        )
    print(f"{total()}.")
    for path in PATHS:
        sums = ", ".join(f"{s.name} {s.minutes()} of {s.limit}" for s in path.sessions)
        print(f"{path.name}: {sums}")
    if words == ["--write"]:
        for file, text in files().items():
            file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
