"""Somebody who uses the guide, in this process and with a my/ directory of their own."""

import contextlib
import io
import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from workshop import __main__ as guide
from workshop import progress, talk


class Learner:
    """A learner, and what they type: run in this process, because a new process for each
    command would take most of the time."""

    def __init__(self, folder: pathlib.Path):
        self.my, self.path = folder, folder / "container.py"

    def type(
        self, words: str | list[str], seconds: float = 0
    ) -> subprocess.CompletedProcess[str]:
        """Runs `workshop WORDS`. Returns a CompletedProcess."""
        out, err = io.StringIO(), io.StringIO()
        words = words.split() if isinstance(words, str) else words
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = guide.main(words)
            except SystemExit as end:
                status = end.code
        return subprocess.CompletedProcess(
            words, status, out.getvalue(), err.getvalue()
        )

    def has(self, source: str) -> None:
        """Writes the learner's runtime."""
        self.my.mkdir(exist_ok=True)
        self.path.write_text(source)
        self.path.chmod(0o755)

    def snapshots(self) -> list[str]:
        """Returns the texts of the snapshots, the oldest first."""
        found = sorted((self.my / ".workshop/snapshots").glob("*.py"))
        return [path.read_text() for path in found]


@contextlib.contextmanager
def learner_with(folder: pathlib.Path) -> Iterator[Learner]:
    """Yields a Learner whose my/ directory is `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        patch.setenv("WORKSHOP_MY", str(folder))
        # The real one is in /run, which belongs to root. Anybody may lock this one.
        patch.setattr(progress, "LOCK", pathlib.Path("/dev/null"))
        patch.setattr(talk, "SAVED", folder.parent / "demo.json")
        yield Learner(folder)


def one_line(
    done: subprocess.CompletedProcess[str], pattern: str, status: int = 1
) -> bool:
    """Returns whether a command failed with one line on stderr that matches a pattern."""
    lines = done.stderr.splitlines()
    said = len(lines) == 1 and re.search(pattern, lines[0]) is not None
    return done.returncode == status and said
