"""Runs other programs: as root, with their output in a log, ended with this process."""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO, Union

from host.errors import LabError
from host.progress import Progress, Stage

Word = Union[str, "os.PathLike[str]"]

# The scripts in vagrant/ announce their parts like "  image  12s  the disk".
PART = re.compile(r"^  [a-z]+ +\d+s  (.+)$")
LAST_LINES = 12
# The kernel kills the program when the thread that started it ends.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def as_root(argv: Sequence[Word]) -> list[Word]:
    """Returns the command line, with sudo in front if this process is not root."""
    return list(argv) if is_root() else ["sudo", "--", *argv]


def ask_for_root(progress: Progress, purpose: str) -> None:
    """Lets sudo ask for the password now, if it must. Raises LabError if there is no way to
    become root."""
    if is_root():
        return
    if shutil.which("sudo") is None:
        raise LabError(
            f"root is needed to {purpose}, and sudo is not installed",
            "Run the same command as root.",
        )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subprocess.run(["sudo", "-n", "true"], check=False, **quiet).returncode == 0:  # type: ignore[call-overload]
        return
    progress.say(f"sudo may ask for your password: root is needed to {purpose}")
    if subprocess.run(["sudo", "-v"], check=False).returncode != 0:
        raise LabError(f"root is needed to {purpose}, but sudo refused")


def environment_words(variables: Mapping[str, str]) -> list[str]:
    """Returns `env NAME=VALUE…`, because sudo does not pass the environment on."""
    return ["env", *(f"{name}={value}" for name, value in variables.items())]


def start_server(
    argv: Sequence[Word],
    log: pathlib.Path,
    *,
    cwd: pathlib.Path,
    variables: Mapping[str, str],
) -> subprocess.Popen[bytes]:
    """Starts a program that goes on after this process has ended, in a session of its own.
    Only its user can read its log and the files that it creates.
    variables: what its environment has in addition to ours."""
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)
    with open(log, "wb") as output:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
        )


def run_logged(
    stage: Stage,
    argv: Sequence[Word],
    log: pathlib.Path,
    *,
    lifeline: bool = False,
    cwd: pathlib.Path | None = None,
) -> None:
    """Runs a command with its output in a log, and shows the parts that it announces.

    With a lifeline the command's standard input is a pipe that closes when this
    process ends, however it ends. A root program under sudo cannot be killed from
    here; it can watch that pipe.
    """
    with open(log, "ab") as output:
        begin = output.tell()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if lifeline else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
        )
        try:
            _follow(stage, process, log, begin)
        finally:
            _end(process)
    if process.returncode != 0:
        raise failure(stage.title, log)


def _follow(
    stage: Stage, process: subprocess.Popen[bytes], log: pathlib.Path, begin: int
) -> None:
    with open(log, errors="replace") as lines:
        lines.seek(begin)
        rest = ""
        while True:
            ended = process.poll() is not None
            rest += lines.read()
            *whole, rest = rest.split("\n")
            for line in whole:
                match = PART.match(line)
                if match:
                    stage.note(match[1])
            if ended:
                return
            time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command that is still running: with its lifeline, or with a signal."""
    if process.poll() is not None:
        return
    if process.stdin:
        process.stdin.close()
    else:
        with contextlib.suppress(OSError):
            process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):  # it runs as root
            process.kill()


def failure(title: str, log: pathlib.Path) -> LabError:
    """Returns the error for a stage that failed, with the last lines of its log."""
    text = log.read_text(errors="replace")
    if "No space left on device" in text:
        return LabError(
            f"the disk is full: {title} failed",
            f"Make room on the file system of {log.parent}, then run the command again.",
        )
    last = [f"| {line}" for line in text.splitlines()[-LAST_LINES:]]
    return LabError(f"{title} failed", *last, f"The whole log is {log}")


def stop(process: subprocess.Popen[bytes], seconds: float = 5) -> None:
    """Ends a child process, with SIGKILL if SIGTERM is not enough."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def quote(words: Sequence[str]) -> str:
    """Quotes words so that a POSIX shell reads the same words back."""
    return " ".join(shlex.quote(word) for word in words)


def read_bounded(stream: IO[bytes], limit: int) -> bytes:
    """Reads at most `limit` bytes, and ignores the rest."""
    return stream.read(limit)
