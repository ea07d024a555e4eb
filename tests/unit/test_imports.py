"""Which module of the guide imports which: subcommands import library modules, and never the
other way round."""

import ast
import importlib
import pathlib
import subprocess
import sys

import pytest
from runtime import PROJECT

from workshop.subcommands import SUBCOMMANDS

GUIDE = PROJECT / "workshop"
FILES = sorted(GUIDE.rglob("*.py"))
COMMANDS = sorted((GUIDE / "commands").glob("[a-z]*.py"))
LIBRARY = [path for path in FILES if path not in COMMANDS]


def imported(path: pathlib.Path) -> set[str]:
    """Returns the names of all modules that a file imports, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(GUIDE))


@pytest.mark.parametrize("path", LIBRARY, ids=name_of)
def test_library_module_imports_no_subcommand(path):
    assert not [name for name in imported(path) if name.startswith("workshop.commands")]


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_subcommand_imports_no_other_subcommand(path):
    assert not [name for name in imported(path) if name.startswith("workshop.commands")]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_module_does_not_change_where_modules_are_found(path):
    assert "sys.path" not in path.read_text()


def test_there_is_a_module_for_each_subcommand_and_no_other():
    names = {path.stem.rstrip("_") for path in COMMANDS} - {"__init__"}
    assert names == set(SUBCOMMANDS)


@pytest.mark.parametrize("path", COMMANDS, ids=name_of)
def test_subcommand_says_what_it_does_and_has_a_main(path):
    module = importlib.import_module(f"workshop.commands.{path.stem}")
    name = path.stem.rstrip("_")
    usage = "`workshop`" if name == "progress" else f"`workshop {name}"
    assert module.__doc__.startswith(usage)
    assert module.main.__annotations__ == {"arguments": list[str], "return": int}


def test_guide_starts_without_importing_the_subcommands():
    script = "import sys, workshop.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = done.stdout.split()
    assert "workshop.__main__" in loaded
    assert not [name for name in loaded if name.startswith("workshop.commands")]
    assert "rich" not in loaded
