"""Whether Linux and Python can start a learner's runtime at all, and what to type if not."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from workshop.errors import Failure
from workshop.workspace import Workspace

SHEBANG = "#!/usr/bin/python3 -S"
BOM = b"\xef\xbb\xbf"
BOMS_OF_UTF_16 = b"\xff\xfe", b"\xfe\xff"


def startable(workspace: Workspace) -> bytes:
    """Returns the contents of the learner's runtime. Raises Failure if there is none, or if
    the kernel or Python could not start it."""
    source, path, name = workspace.source(), workspace.container, workspace.name
    if not os.access(path, os.X_OK):
        raise Failure(f"{name} is not executable: type `chmod +x {path}`")
    if problem := encoding_problem(source, path):
        raise Failure(f"{name} {problem}")
    try:
        compile(source, name, "exec")
    except SyntaxError as error:
        line = (error.text or "").strip()
        where = f"{name}, line {error.lineno}" if error.lineno else name
        raise Failure(f"{where}: {error.msg}{f': {line}' if line else ''}") from None
    if problem := interpreter_problem(source):
        raise Failure(f"the first line of {name} {problem}. It should be {SHEBANG}")
    return source


def encoding_problem(source: bytes, path: Path) -> str | None:
    """Returns what is wrong with the bytes of a file, and what to type, or None. These are
    the ways in which editors on Windows save a file. The kernel reads a script's first line
    byte by byte: execve(2)"""
    if source.startswith(BOMS_OF_UTF_16):
        typed = f"`{converted('UTF-16', path)}`"
        return f"is in UTF-16. Type {typed}, and let your editor save UTF-8"
    if b"\0" in source:
        return "contains null bytes, so Python cannot read it. `workshop undo` goes back to the version before"
    if source.startswith(BOM):
        return (
            "begins with a byte order mark (BOM), so Linux does not see its first line. "
            rf"Type `sed -i '1s/^\xef\xbb\xbf//' {path}`, and let your editor save UTF-8 "
            "without a BOM"
        )
    if source.partition(b"\n")[0].endswith(b"\r"):
        # To the kernel, the \r is a part of the interpreter's name.
        return (
            "has the line ends of Windows (CRLF), so Linux cannot start it. Type "
            rf"`sed -i 's/\r$//' {path}`, and let your editor write LF"
        )
    try:
        source.decode()
    except UnicodeDecodeError as error:
        if not re.search(rb"coding[:=]", b"".join(source.splitlines()[:2])):
            number = source.count(b"\n", 0, error.start) + 1
            typed = f"`{converted('WINDOWS-1252', path)}`"
            return (
                f"has a letter in line {number} that is not in UTF-8. If the file is from "
                f"Windows, type {typed}, and let your editor save UTF-8"
            )
    return None


def converted(encoding: str, path: Path) -> str:
    """Returns the command that makes UTF-8 of a file in place."""
    return f"iconv -f {encoding} -t UTF-8 {path} >/tmp/utf8 && cp /tmp/utf8 {path}"


def interpreter_problem(source: bytes) -> str | None:
    """Returns why the kernel does not find the interpreter in the first line of a script, as
    the end of a sentence about that line, or None. execve(2), env(1)"""
    first = os.fsdecode(source.partition(b"\n")[0])
    interpreter, *rest = first.removeprefix("#!").split(maxsplit=1)[:2] or [""]
    if not first.startswith("#!") or not interpreter:
        return "names no interpreter"
    if not interpreter.startswith("/"):
        return f"names {interpreter}, which is not an absolute path"
    if not os.path.isfile(interpreter) or not os.access(interpreter, os.X_OK):
        return f"names {interpreter}, but there is no such program here"
    if os.path.basename(interpreter) == "env" and rest:
        # The kernel passes on the rest of the line as one word, which only -S splits.
        words = rest[0].removeprefix("-S").split() if rest[0][:2] == "-S" else rest
        program = next((word for word in words if "=" not in word), "").rstrip()
        if not shutil.which(program):
            return f"has env look for {program!r}, but there is no such program here"
    return None
