#!/usr/bin/env python3
"""Runs the static checks, which read the project but run none of it. They take seconds.

tests/static.py              all of them
tests/static.py types shell  only these: lint, format, shell, types, spelling
tests/static.py --here       with the tools of the Python that runs this script

It needs Python with venv, and no root. The tools are installed when they are first needed,
in .lab/static, in the versions that pyproject.toml pins. Exit status: 1 if a check fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PLACE = PROJECT / ".lab/static"
# Directories with nothing of the project's own: see .gitignore.
FOREIGN = {".git", ".lab", ".vagrant", ".venv", "my", "node_modules", "__pycache__"}
# Written by programs, or full of checksums.
UNSPELLED = {"package-lock.json", "requirements.txt", "LICENSE"}
# Steps and break-outs have no types on purpose: a learner reads them first.
TYPED = [
    "host",
    "site/web/*.py",
    "site/tab/*.py",
    "steps/*.py",
    "tests/attacks/catalogue.py",
    "tests/attacks/table.py",
    "tests/attacks/targets.py",
    "tests/[!t]*.py",
    "tests/unit/test_version.py",
    "workshop",
]


def files() -> Iterator[Path]:
    """Yields the project's own files. It does not need git."""
    for folder, inside, names in os.walk(PROJECT):
        hidden = {name for name in inside if name.endswith("_cache")}
        inside[:] = sorted(set(inside) - FOREIGN - hidden)
        yield from (Path(folder, name).relative_to(PROJECT) for name in sorted(names))


def interpreter(path: Path) -> str:
    """Returns what runs a file: "python", "sh", "bash", "login shell" or something else,
    and "" for a text. If a program has no file extension, its first line says so."""
    if path.is_symlink() or not path.is_file():
        return ""
    with open(path, "rb") as file:
        line = file.readline(200)
    if line.startswith(b"#!"):
        words = line[2:].decode(errors="replace").split()
        words = [word for word in words if not word.startswith("-")]
        return Path(words[-1]).name.rstrip("0123456789.") if words else ""
    if line.startswith(b"# shellcheck shell="):  # a part of another script
        return "sh"
    return {".py": "python", ".sh": "login shell"}.get(path.suffix, "")


def commands(everything: list[Path]) -> dict[str, list[list[str]]]:
    """Returns {check: its command lines}."""
    run_by = {path: interpreter(PROJECT / path) for path in everything}
    python = [str(path) for path, what in run_by.items() if what == "python"]
    # ruff itself finds the files called *.py, and the Python in Markdown.
    python = [".", *(path for path in python if not path.endswith(".py"))]
    shell = [str(path) for path, what in run_by.items() if what in ("sh", "bash")]
    login = [str(path) for path, what in run_by.items() if what == "login shell"]
    prose = [str(path) for path in everything if path.name not in UNSPELLED]
    typed = [str(p.relative_to(PROJECT)) for t in TYPED for p in PROJECT.glob(t)]
    cache = f"--cache-dir={PLACE}/cache"
    login_shell = ["shellcheck", "--shell=sh", "--exclude=SC2164"]  # it must not exit
    return {
        "lint": [["ruff", "check", "--quiet", cache, *python]],
        "format": [["ruff", "format", "--quiet", "--diff", cache, *python]],
        "shell": [["shellcheck", "--external-sources", *shell], [*login_shell, *login]],
        "types": [["mypy", "--no-error-summary", f"{cache}/mypy", *typed]],
        "spelling": [["codespell", "--check-hidden", *prose]],
    }


def pins() -> list[str]:
    """Returns the tools and their versions, as arguments for pip."""
    with open(PROJECT / "pyproject.toml", "rb") as file:
        groups = tomllib.load(file)["dependency-groups"]
    return [str(pin) for pin in groups["static"]]


def installed() -> Path:
    """Installs the tools unless they are there. Returns their directory."""
    stamp = PLACE / "pins"
    wanted = "\n".join([sys.version, *pins()])
    if not stamp.exists() or stamp.read_text() != wanted:
        begin = time.monotonic()
        shutil.rmtree(PLACE, ignore_errors=True)
        venv.create(PLACE, with_pip=True)
        pip = [str(PLACE / "bin/pip"), "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *pins()], check=True)
        stamp.write_text(wanted)
        print(f"tools installed in {PLACE}: {time.monotonic() - begin:.1f} s")
    return PLACE / "bin"


def main(arguments: list[str]) -> int:
    found = commands(list(files()))
    parser = argparse.ArgumentParser(
        description="Runs the static checks, which read the project but run none of it."
    )
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=", ".join(found))
    parser.add_argument("--here", action="store_true", help="install no tools")
    options = parser.parse_args(arguments)
    if unknown := set(options.checks) - set(found):
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    PLACE.parent.mkdir(mode=0o700, exist_ok=True)  # the mode that lab gives it
    try:
        tools = Path(sysconfig.get_path("scripts")) if options.here else installed()
    except subprocess.CalledProcessError:
        print("static: pip could not install the tools", file=sys.stderr)
        return 1
    failed = False
    for check in options.checks or found:
        begin, good = time.monotonic(), True
        for name, *words in found[check]:
            done = subprocess.run([tools / name, *words], cwd=PROJECT)
            good = good and done.returncode == 0
        failed = failed or not good
        result = "ok" if good else "FAILED"
        print(f"{check:8}  {result:6}  {time.monotonic() - begin:4.1f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
