#!/usr/bin/env python3
"""Reads catalogue.py. As a program: writes docs/attacks.md."""

import inspect
import pathlib
import re

import catalogue

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
ROW = re.compile(
    r"(?P<title>.*): (?P<reference>[^:]*\)[^:]*|CVE[^:]*)\n"
    r'(Step (?P<step>\d\d): (?P<by>[^"]*)|Open: (?P<why>.*))( ?"(?P<says>[^"]*)")?\n'
    r"Engines: (?P<engines>.*)"
)
HEAD = """\
# Attacks on the container

This page lists the published attacks on containers, the step that stops each one, and the one
that still works. At every change the test suite runs each row against the finished container of
step 07 and against the last encore, once as root inside and once as an ordinary user inside. An
attack that a step stops must fail there with the error shown in the catalogue, and must work on
the step before, where it is aimed at something harmless. An attack that step 00 or `linux.py`
stops must work on a copy without the line that stops it. And an attack that is **open** must
work on the last encore, so that this page cannot claim too much. Steps 09 and 10 are encores:
without them, the rows that they stop are open.

No namespace separates the caller's session, keys, terminal, environment and open files from
the container's. [steps/isolation.py](../steps/isolation.py) does, for every step.

`python3 tests/attacks/table.py` makes this page from
[tests/attacks/catalogue.py](../tests/attacks/catalogue.py), which has the attacks' code.

| attack | reference | stopped by | by what | a real engine |
|---|---|---|---|---|
"""
TAIL = """
A real engine is a program such as runc, crun, Docker or Podman in its default configuration;
"the same" means that it does what the step does. If an ordinary user of the host starts the
container, root inside is that user outside. Step 05 then stops only what this user may not do
anyway. Anything that belongs to the user, such as a Python or a cgroup, belongs to root inside.

## Room on the disk

One attack stays open. A container writes to the host's filesystem, and neither a namespace nor a
cgroup counts its files and blocks. Only the filesystem itself can stop it, in one of two ways:

- **A filesystem for containers alone**, mounted on `/var/lib/workshop/containers`. When it is
  full, containers cannot write any more, but the host still can.
- **Project quotas**, which ext4 and XFS have. A *project* is a number that a directory has, and
  that everything made in the directory inherits. The kernel counts the blocks and inodes of each
  project, and beyond its limits it answers "Disk quota exceeded" (mount(8), chattr(1),
  setquota(8)). So one container reaches its limit, while its neighbours and the host can still
  write. Root inside cannot leave the project, because the kernel lets nobody in a user namespace
  change the number. On an empty disk, and for the container whose runtime has the process number
  PID:

      mkfs.ext4 -O quota,project /dev/DISK
      mount -o prjquota /dev/DISK /var/lib/workshop/containers
      chattr -R -p 7 +P /var/lib/workshop/containers/PID          # its project is number 7
      setquota -P 7 0 64M 0 10000 /var/lib/workshop/containers    # 64 MB and 10,000 files

  The suite does this in the VM, in
  [test_outside.py](../tests/attacks/test_outside.py). It replaces setquota, which is in Debian's
  package `quota`, by the system call quotactl_fd(2).

No runtime does this by itself. A quota belongs to a filesystem, so somebody must have made that
filesystem with the feature, and mounted it with the option. And somebody must hand out the
numbers, which everything on that filesystem shares. runc and crun find the container's root
directory ready-made, and know nothing of the disk. The engine above them prepares it. Docker sets
a project quota for `--storage-opt size=`, and Podman for the setting `size` in storage.conf, but
only on XFS that is mounted with `pquota`.
"""


class Attack:
    """A row of the page: what the docstring says, and what else catalogue.py knows."""

    # The groups of ROW.
    title: str
    reference: str
    step: str | None
    by: str | None
    why: str | None  # no step stops it
    says: str | None
    engines: str

    def __init__(self, function):
        text = inspect.getdoc(function) or ""
        match = ROW.fullmatch(text)
        assert match, f"{function.__name__} does not fit: {text}"
        self.__dict__.update(match.groupdict())
        self.name = function.__name__
        self.stopped_by = int(self.step) if self.step else None
        self.targets = list(inspect.signature(function).parameters)
        self.needs = catalogue.NEEDS.get(self.name)
        self.without = catalogue.WITHOUT.get(self.name)

    def row(self):
        step = self.step or "**open**"
        by = (self.by or self.why or "").strip()
        cells = [self.title, self.reference, step, by, self.engines]
        return f"| {' | '.join(cells)} |\n"


ATTACKS = {
    name: Attack(value)
    for name, value in vars(catalogue).items()
    if "\nEngines: " in (inspect.getdoc(value) or "") and inspect.isfunction(value)
}


def page():
    return HEAD + "".join(attack.row() for attack in ATTACKS.values()) + TAIL


if __name__ == "__main__":
    PAGE.write_text(page())
