"""`workshop slides DIR [N...]`: the lessons as slides, executed, in one folder. `./lab slides` is
the way to call it, and puts reveal.js beside them, which they need.

What becomes of a cell is in its metadata, as everywhere in Jupyter: slideshow.slide_type is
slide (a new one), subslide (below it), fragment (comes when asked for), skip, notes, or nothing
(on the slide of the cell before). What a demo's scene says is the speaker's note.
"""

import contextlib
import functools
import os
import pathlib
import shutil
import tempfile
import time

from workshop import learner
from workshop.command_line import Parser
from workshop.commands.report import page

SECONDS = 600  # that any one cell may take: a whole check, emulated
PROJECT = learner.PROJECT


def main(arguments):
    """Writes the slides. Returns the exit status."""
    parser = Parser(prog="workshop slides")
    parser.add_argument("folder", type=pathlib.Path, metavar="DIR")
    parser.add_argument("lessons", nargs="*", metavar="N", help="these lessons only")
    options = parser.parse_args(arguments)
    chosen, lessons = learner.lessons(options.lessons), []
    options.folder.mkdir(parents=True, exist_ok=True)
    for path in chosen:
        begin = time.monotonic()
        with learners_folder() as my:
            notebook = executed(path, my)
        columns = slides(notebook)
        title = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
        values = {"title": title, "columns": columns}
        (options.folder / f"{path.stem}.html").write_bytes(page("slides.html", values))
        lessons.append((path.stem, title))
        count = sum(len(column) for column in columns)
        print(
            f"{path.stem}: {count} slides, {time.monotonic() - begin:.0f} s", flush=True
        )
    pictures = options.folder / "images"
    shutil.copytree(PROJECT / "notebooks/images", pictures, dirs_exist_ok=True)
    index = page("slides-index.html", {"lessons": lessons, "today": learner.now()})
    (options.folder / "index.html").write_bytes(index)
    return 0


# ---- executed


@contextlib.contextmanager
def learners_folder():
    """A folder in my/'s place, beside steps/: the real one is the learner's. In the block
    WORKSHOP_MY names it; open to the ordinary users that some facts are about."""
    before = os.environ.get("WORKSHOP_MY")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        my = pathlib.Path(name, "my")
        my.mkdir()
        (my.parent / "steps").symlink_to(PROJECT / "steps")
        os.environ["WORKSHOP_MY"] = str(my)
        try:
            yield my
        finally:
            del os.environ["WORKSHOP_MY"]
            if before is not None:
                os.environ["WORKSHOP_MY"] = before


def executed(path, my):
    """A lesson, executed as it is, by a learner with the folder my, who has written what each
    step asks for when it is checked: that is in the cells' metadata, see
    tests/test_notebooks.py. Cells that raise stay in it with their errors."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, 4)

    def play_the_learner(cell, cell_index):
        if step := cell.metadata.get("learner"):
            assert (my / "container.py").exists(), f"{cell.id}: nothing there to change"
            shutil.copy(PROJECT / "steps" / step / "container.py", my)
        if word := cell.metadata.get("only"):
            assert "!workshop check" in cell.source.splitlines()[-1], cell.id
            cell.source += f" --only {word}"

    NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        allow_errors=True,  # all that is wrong, and not just the first
        on_cell_execute=play_the_learner,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    return notebook


# ---- as slides


def slides(notebook):
    """[[slide]]: columns of slides, each {"parts": [(html, whether it is a fragment)],
    "notes": [text]}."""
    columns: list[list[dict]] = []
    for cell in notebook.cells:
        kind = cell.metadata.get("slideshow", {}).get("slide_type", "")
        if kind == "skip":
            continue
        if kind == "slide" or not columns:
            columns.append([])
        if kind in ("slide", "subslide") or not columns[-1]:
            columns[-1].append({"parts": [], "notes": []})
        slide = columns[-1][-1]
        if kind == "notes":
            slide["notes"].append(cell.source)
            continue
        slide["parts"].append((as_html(cell), kind == "fragment"))
        if scene := cell.metadata.get("demo"):
            slide["notes"].append(scene["say"])
    return columns


def as_html(cell):
    """What JupyterLab would show of a cell, as HTML."""
    import nbformat

    alone = nbformat.v4.new_notebook(cells=[cell])
    return exporter().from_notebook_node(alone)[0]


@functools.cache
def exporter():
    """nbconvert's, of cells without anything around them. It reads its templates once."""
    from nbconvert import HTMLExporter

    bare = HTMLExporter(template_name="basic")
    bare.exclude_input_prompt = bare.exclude_output_prompt = True
    bare.exclude_anchor_links = True
    return bare
