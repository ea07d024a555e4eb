"""The staging directory of a check: the runtime under check, and the files that it needs next
to it. Every sandbox of the check shows it, read-only, as /tmp/learner."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

from workshop.project import PROJECT, STATE

# The files of all sandboxes. Those of one sandbox are removed when it ends.
SCRATCH = STATE / "sandbox"
SHOWN = Path("/tmp/learner")  # the staging directory, as a sandbox shows it
# The runtime under check, as a sandbox shows it: it finds steps/ in ../steps, and ordinary
# users, whom some facts need, can read it.
RUNTIME = SHOWN / "my/container.py"


@dataclasses.dataclass(frozen=True)
class Staging:
    """A staging directory."""

    folder: Path

    def create(self, source: bytes) -> None:
        """Makes the directory, with a runtime that has these contents."""
        runtime = self.folder / RUNTIME.relative_to(SHOWN)
        for folder in runtime.parent, self.pycache:
            folder.mkdir(parents=True)
        (self.folder / "steps").symlink_to(PROJECT / "steps")
        runtime.write_bytes(source)
        runtime.chmod(0o755)
        # Facts may change busybox, so it is a copy. debian is too large to copy: here it is
        # only a mount point.
        for root in STATE.glob("rootfs/*"):
            (self.rootfs / root.name).mkdir(parents=True)
        if (STATE / "rootfs/busybox").is_dir():
            copy = ["cp", "-a", str(STATE / "rootfs/busybox"), str(self.rootfs)]
            subprocess.run(copy, check=True)

    def remove(self) -> None:
        """Removes the directory, even if only a part of it is left."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def pycache(self) -> Path:
        """Where Python keeps compiled modules. All sandboxes share it, and can write to it."""
        return self.folder / "pycache"

    @property
    def rootfs(self) -> Path:
        """The root filesystems that sandboxes show in /var/lib/workshop/rootfs."""
        return self.folder / "rootfs"

    @property
    def usage(self) -> Path:
        """What the runtime's --help has printed."""
        return self.folder / "usage"

    @property
    def planned(self) -> Path:
        """How many facts of each step pytest has chosen, as JSON."""
        return self.folder / "planned"

    @property
    def log(self) -> Path:
        """What pytest has printed."""
        return self.folder / "log"

    @property
    def junit(self) -> Path:
        """What pytest has found, as JUnit XML."""
        return self.folder / "last.xml"
