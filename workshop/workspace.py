"""The learner's own directory, my/, with their runtime my/container.py. What the guide saves
is in my/.workshop.

my/ can be a directory that the VM shares with the learner's machine, without locks, links
or owners. So a file is always replaced as a whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

from workshop.errors import Failure
from workshop.project import PROJECT


@dataclasses.dataclass(frozen=True)
class Workspace:
    """A learner's directory: my/, unless WORKSHOP_MY in the environment names another."""

    folder: Path

    @classmethod
    def current(cls) -> Workspace:
        return cls(Path(os.environ.get("WORKSHOP_MY") or PROJECT / "my").absolute())

    @property
    def container(self) -> Path:
        """The learner's runtime."""
        return self.folder / "container.py"

    @property
    def state(self) -> Path:
        """The directory of what the guide saves."""
        return self.folder / ".workshop"

    @property
    def name(self) -> str:
        """The learner's runtime, as the guide calls it: my/container.py."""
        return shown(self.container)

    def source(self) -> bytes:
        """Returns the contents of the learner's runtime. Raises Failure if there is none."""
        try:
            return self.container.read_bytes()
        except FileNotFoundError:
            raise Failure(
                f"there is no {self.name} yet: `workshop start` creates it"
            ) from None

    def unused(self, name: str, suffix: str) -> Path:
        """Returns a path in the state directory that does not exist yet."""
        number, path = 1, self.state / f"{name}{suffix}"
        while path.exists():
            number += 1
            path = path.with_name(f"{name}-{number}{suffix}")
        return path


def shown(path: Path) -> str:
    """Returns a path as the guide prints it: relative to the project if it is inside."""
    with contextlib.suppress(ValueError):
        return str(path.relative_to(PROJECT))
    return str(path)


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replaces a file as a whole. The new one belongs to the owner of its directory."""
    path = path.resolve()  # if the learner made it a link, keep the link
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(data)
        adopt(new, mode)
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def adopt(path: Path, mode: int) -> None:
    """Sets a file's mode, and gives it to the owner of its directory, because root has
    created it. Does nothing on a filesystem without modes or owners."""
    with contextlib.suppress(OSError):
        path.chmod(mode)
        parent = path.parent.stat()
        os.chown(path, parent.st_uid, parent.st_gid)


def make_folder(path: Path) -> None:
    """Creates a directory and its missing parents. Each gets the owner of the directory that
    it is in."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        adopt(path, 0o755)
