"""Builds the web site. `./lab site` runs this, in a virtual environment with the packages of
site/web/requirements.txt.

    python site/web/make.py FOLDER NOTEBOOKS... [--tab DIRECTORY] [--repository URL]

FOLDER gets the site. NOTEBOOKS are directories with the lessons that have run; if several have
a lesson, the first one counts. DIRECTORY contains the machine in a browser tab, as
site/tab/build_tab.py made it. Visitors can clone the project from URL.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))  # workshop/ is there

from contents import Contents
from sphinx.cmd.build import build_main


def main() -> int:
    """Builds the site. Returns Sphinx's exit status: a warning is an error."""
    parser = argparse.ArgumentParser(description="Builds the web site.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("notebooks", type=Path, nargs="+")
    parser.add_argument("--tab", type=Path)
    parser.add_argument("--repository", default="")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        source, doctrees = Path(place, "source"), Path(place, "doctrees")
        tab, repository = bool(options.tab), options.repository
        Contents(options.notebooks, tab, repository).write(source)
        words = ["-q", "-W", "--keep-going", "-b", "html", "-c", HERE, "-d", doctrees]
        words += ["-A", "has_tab=1"] if options.tab else []
        status: int = build_main([*map(str, words), str(source), str(options.folder)])
    if options.tab:
        shutil.copytree(options.tab, options.folder / "tab", dirs_exist_ok=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
