"""The image in which the attacks run."""

import os
import pathlib
import random
from collections.abc import Iterator

import pytest
from runtime import LAST, Runtime, shell

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def image() -> Iterator[pathlib.Path]:
    """An image with busybox, the host's Python with all that it needs, and the attacks.
    It also has a device file of the disk that every user may open, and a directory that
    every user may write to."""
    Runtime(LAST).sweep()  # removes what earlier tests may have left
    root = pathlib.Path(f"/var/tmp/attacks-{random.randint(10**6, 10**7)}")
    disk = os.stat("/var/lib/workshop").st_dev
    shell(f"""
    set -e
    cp -a /var/lib/workshop/rootfs/busybox {root}
    cd {root}
    mkdir -p open usr/bin usr/lib && chmod 1777 open
    mknod -m 666 image-disk b {os.major(disk)} {os.minor(disk)}
    /usr/bin/python3 -c 'import py_compile as p, sys; p.compile(*sys.argv[1:])' \
        {HERE}/catalogue.py catalogue.pyc
    python=$(readlink -f /usr/bin/python3); library=usr/lib/${{python##*/}}
    mkdir $library && cp $python usr/bin/python3
    for part in '*.py' __pycache__ collections ctypes encodings lib-dynload re; do
        cp -a /$library/$part $library/
    done
    ldd $python $library/lib-dynload/_ctypes.*.so |
        grep -o '/[^ ]*\\.so[^ ]* ' | sort -u | while read -r file; do
            mkdir -p .${{file%/*}}; cp -L $file .$file
        done
    """)
    yield root
    shell(f"rm -rf --one-file-system {root}")
