"""Writes the lessons as slides, with their output. They need no network.

The lessons run in a VM that is thrown away, unless they have not changed since
they ran last. reveal.js, which shows the slides, is fetched from npm once, and copied
next to them. With --site they lead to the web site that ./lab site makes.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil
import subprocess

from host import lessons, packages, processes, sums
from host.errors import LabError
from host.lab import Lab

REVEAL = "reveal.js@6.0.2"
REVEAL_SHA256 = "2f0c20bfb02447a198a1ebe8a8c097a5437d035caa38f2820bf4ba887a3eac91"
REVEAL_PARTS = [
    "package/LICENSE",
    "package/dist/reset.css",
    "package/dist/reveal.css",
    "package/dist/reveal.js",
    "package/dist/plugin/notes.js",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=pathlib.Path, metavar="DIRECTORY")
    parser.add_argument("lessons", nargs="*", metavar="N", help="these lessons only")
    text = "the address of the workshop's web site"
    parser.add_argument("--site", default="", metavar="URL", help=text)


def run(lab: Lab, options: argparse.Namespace) -> int:
    folder: pathlib.Path = options.directory
    folder.mkdir(parents=True, exist_ok=True)
    lab.prepare_state()
    tarball = reveal(lab)
    ran = lessons.run(lab, options.lessons)
    shutil.copytree(ran.slides, folder, dirs_exist_ok=True)
    unpack(tarball, folder / "reveal.js")
    script = f"// The address of the workshop's web site.\nconst SITE = {json.dumps(options.site)};\n"
    (folder / "site.js").write_text(script)
    lab.say(f"the slides are {folder}/index.html")
    return 0 if ran.passed else 1


def reveal(lab: Lab) -> pathlib.Path:
    """Fetches the package of reveal.js, once. Raises LabError if its checksum is not
    the one above."""
    state = lab.settings.state
    tarball = state / f"{REVEAL.replace('@', '-')}.tgz"
    if not tarball.exists():
        packages.ensure(lab, "slides")
        with lab.progress.stage("fetching reveal.js from npm", "2 s") as stage:
            fetch = ["npm", "pack", "--pack-destination", str(state), REVEAL]
            processes.run_logged(stage, fetch, lab.log("npm"))
    if sums.sha256(tarball) != REVEAL_SHA256:
        tarball.unlink()
        raise LabError(
            f"the {REVEAL} that npm sent has the wrong checksum",
            "Run ./lab slides again, which fetches it again.",
        )
    return tarball


def unpack(tarball: pathlib.Path, folder: pathlib.Path) -> None:
    folder.mkdir(exist_ok=True)
    words = ["tar", "-C", str(folder), "--strip-components=1", "-xzf", str(tarball)]
    subprocess.run([*words, *REVEAL_PARTS], check=True)
