"""The image that the attacks are run in."""

import os
import pathlib
import random

import pytest
from runtime import STEPS, Runtime, shell

HERE = pathlib.Path(__file__).parent


@pytest.fixture(scope="session")
def image():
    """busybox, the host's Python with what it needs, the attacks, a device file of the disk
    that everybody may open, and a directory that everybody may write to."""
    Runtime(STEPS[-1]).sweep()  # what earlier tests may have had to leave
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
