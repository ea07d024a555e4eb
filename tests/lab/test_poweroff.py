"""The VM loses its power while `workshop commit` copies a layer, and `workshop image import`
unpacks one.

Everything from before is still there: every image is unchanged, and so are the
learner's files. The unfinished images are either complete or absent, and `workshop clean`
removes the rest."""

import os
import pathlib
import signal
import subprocess
from collections.abc import Iterator

import driver
import pytest

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_order]

DIGEST = """
cd /var/lib/workshop
find layers images rootfs \\( -name '*cut-short*' -o -name 'sha256-*' -o -name pulled \\) -prune -o -type f -print0 |
sort -z | xargs -0 md5sum | md5sum; ls images | grep -vx 'cut-short\\|pulled'
"""
# 300 MB, so that there is time to pull the plug when the last line says so.
COMMIT = """
cd /workshop; workshop image export busybox /var/tmp/pulled.tar >&2; sync
while workshop image import /var/tmp/pulled.tar && workshop image rm pulled; do :; done >&2 &
steps/07_overlay/container.py run --net none debian sh -c \
    'head -c 300M /dev/zero >/big; touch /done; sleep 600' &
until [ -e /var/lib/workshop/containers/$!/upper/done ]; do sleep 0.2; done
workshop commit $! cut-short &
until ls -d /var/lib/workshop/layers/.cut-short.*/big 2>/dev/null; do sleep 0.1; done
sleep 600
"""


def root(script: str) -> str:
    """Returns the command that runs a script as root in the VM."""
    quoted = script.replace("'", "'\\''")
    return f"sudo sh -c '{quoted}'"


@pytest.fixture(scope="module")
def mine() -> Iterator[pathlib.Path]:
    """A file of the learner."""
    path = driver.PROJECT / "my/of-the-learner.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("kept\n")
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def before(lab: driver.Lab, mine: pathlib.Path) -> str:
    """Cuts the power during a commit. Returns the images as they were before."""
    before = lab.in_vm(root(DIGEST))
    command = [lab.project / "lab", "ssh", "--", root(COMMIT)]
    with subprocess.Popen(
        command,
        env=os.environ | lab.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        line = process.stdout.readline()
        os.kill(int((lab.vm / "pid").read_text()), signal.SIGKILL)
    assert "cut-short" in line, f"the commit did not begin: {line!r}"
    return before


def test_lab_comes_up_again(lab: driver.Lab, before: str) -> None:
    assert "One kernel, two views" in lab.run("up")


def test_every_image_is_as_it_was(lab: driver.Lab, before: str) -> None:
    assert lab.in_vm(root(DIGEST)) == before


def test_interrupted_image_is_complete_or_absent(lab: driver.Lab) -> None:
    listed = lab.in_vm(root("cd /workshop; workshop image ls"))
    if "cut-short" in listed:
        lab.in_vm(
            "sudo /workshop/steps/07_overlay/container.py run --net none cut-short test -s /big"
        )


def test_interrupted_import_has_left_no_half_layer(lab: driver.Lab) -> None:
    """It would be taken for the whole layer when the next import needs it."""
    lab.in_vm(root("workshop image import /var/tmp/pulled.tar"))
    same = "diff -r --no-dereference rootfs/busybox layers/sha256-*"
    lab.in_vm(root(f"cd /var/lib/workshop && {same} && workshop image rm pulled"))


def test_clean_removes_the_remains_of_the_interrupted_image(lab: driver.Lab) -> None:
    lab.in_vm(root("workshop clean"))
    left = lab.in_vm(root("cd /var/lib/workshop && ls -A layers images containers"))
    assert "layers:" in left
    assert ".cut-short" not in left


def test_container_runs_again(lab: driver.Lab) -> None:
    lab.in_vm(root("rm -f /var/lib/workshop/images/cut-short; workshop clean"))
    command = "sudo steps/07_overlay/container.py run --net none debian echo runs"
    assert lab.in_vm(command) == "runs\n"


def test_file_of_the_learner_is_kept(mine: pathlib.Path) -> None:
    assert mine.read_text() == "kept\n"
