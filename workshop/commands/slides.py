"""`workshop slides [--ran NOTEBOOKS] DIRECTORY [N...]`: writes the lessons as slides.

It runs them first, unless NOTEBOOKS is a directory where they are with their output.
`./lab slides` does that in the VM, and then puts what the slides need into the directory: reveal.js,
and site.js, which says where the workshop's web site is.
"""

import shutil
import time
from pathlib import Path

from workshop import lesson_runner, slides
from workshop.command_line import Parser
from workshop.pages import page
from workshop.progress import now
from workshop.project import PROJECT, lessons


def main(arguments: list[str]) -> int:
    """Writes a page for each lesson, and a page that lists them. Returns the exit status."""
    import nbformat  # here, because it takes long to load

    parser = Parser(prog="workshop slides")
    text = "where to write the pages"
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help=text)
    text = "a lesson; all of them unless there are numbers"
    parser.add_argument("lessons", nargs="*", metavar="N", help=text)
    text = "take the lessons, which have run, from here"
    parser.add_argument("--ran", type=Path, metavar="NOTEBOOKS", help=text)
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    chosen, decks = lessons(options.lessons), []
    directory.mkdir(parents=True, exist_ok=True)
    for path in chosen:
        begin = time.monotonic()
        if options.ran:
            notebook = nbformat.read(options.ran / path.name, 4)
        else:
            with lesson_runner.temporary_workspace() as workspace:
                notebook = lesson_runner.run(path, workspace)
        deck = slides.deck(path.stem, notebook)
        (directory / f"{deck.name}.html").write_bytes(deck.as_html())
        decks.append(deck)
        seconds = time.monotonic() - begin
        print(f"{deck.name}: {len(deck)} slides, {seconds:.0f} s", flush=True)
    pictures = PROJECT / "notebooks/images"
    shutil.copytree(pictures, directory / "images", dirs_exist_ok=True)
    index = page("slides-index.html", {"decks": decks, "today": now()})
    (directory / "index.html").write_bytes(index)
    return 0
