"""The project's files, as a new checkout has them."""

from __future__ import annotations

import contextlib
import pathlib
import tarfile

# Personal files, and files that can be made again.
LEFT_OUT = {".git", ".lab", ".vagrant", "__pycache__", ".pytest_cache", ".ruff_cache"}
LEFT_OUT |= {".mypy_cache", ".ipynb_checkpoints"}


def add(
    archive: tarfile.TarFile,
    project: pathlib.Path,
    name: str,
    without: pathlib.Path | None = None,
) -> None:
    """Adds the project to an archive, below this name, as root's and without personal files:
    my/ is empty. The directory `without` is left out, too, and so is what is removed
    meanwhile."""

    def add_all(path: pathlib.Path, name: str) -> None:
        if path.name in LEFT_OUT or path == without:
            return
        with contextlib.suppress(FileNotFoundError):
            archive.add(path, name, recursive=False, filter=as_roots)
            if path.is_dir() and not path.is_symlink() and path != project / "my":
                for each in sorted(path.iterdir()):
                    add_all(each, f"{name}/{each.name}")

    add_all(project, name)


def as_roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
