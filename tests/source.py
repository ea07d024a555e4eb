"""Reads Python sources: counts a step's lines of code, and finds the facts of a suite."""

import ast
import os
import pathlib


def code_lines(path: str | os.PathLike[str]) -> list[str]:
    """Returns the lines of code of a file, without blank lines, comments and
    docstrings."""
    source = pathlib.Path(path).read_text()
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                prose |= set(range(first.lineno, (first.end_lineno or 0) + 1))
    return [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in prose
    ]


def facts(suite: str | os.PathLike[str]) -> list[ast.FunctionDef]:
    """Returns the functions of a suite that check a fact."""
    return [
        node
        for node in ast.parse(pathlib.Path(suite).read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
