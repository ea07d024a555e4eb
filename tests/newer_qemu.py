#!/usr/bin/env python3
"""Gets a QEMU for CI that emulates faster than Debian 12's.

    tests/newer_qemu.py DIRECTORY

Debian 12 has QEMU 7.2, and 10.0 among its backports, in which a program starts in a third of
the time. Nothing is installed: Debian's packages are unpacked in DIRECTORY, and whoever has
DIRECTORY/bin first in PATH uses them. On any other system DIRECTORY stays empty, so
its own QEMU is used. Needs the libraries of Debian's own QEMU, and no root.
"""

import argparse
import os
import pathlib
import platform
import shutil
import subprocess

PROGRAM = "qemu-system-x86_64"
PACKAGES = ["qemu-system-x86", "qemu-system-common", "qemu-system-data"]
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
WRAPPER = """\
#!/bin/sh
exec {root}/usr/bin/{program} -L {root}/usr/share/qemu -L /usr/share/seabios \\
	-L /usr/lib/ipxe/qemu "$@"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Gets a QEMU that emulates faster.")
    parser.add_argument("directory", type=pathlib.Path, metavar="DIRECTORY")
    directory: pathlib.Path = parser.parse_args().directory.absolute()
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    if not is_debian_12():
        print("this is not Debian 12 on an x86-64 machine: its own QEMU is used")
        return
    unpack(directory, directory / "root")
    (directory / "bin").mkdir()
    wrapper = directory / "bin" / PROGRAM
    wrapper.write_text(WRAPPER.format(root=directory / "root", program=PROGRAM))
    wrapper.chmod(0o755)
    print(output(str(wrapper), "--version").splitlines()[0])


def is_debian_12() -> bool:
    release = platform.freedesktop_os_release()
    return (
        release["ID"] == "debian"
        and release.get("VERSION_ID") == "12"
        and platform.machine() == "x86_64"
    )


def unpack(work: pathlib.Path, root: pathlib.Path) -> None:
    """Downloads the packages from the mirror that apt uses, with lists of their own, and
    unpacks them below `root`."""
    apt = {
        "Dir::Etc::SourceList": work / "backports.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": work / "lists",
        "Dir::Cache": work / "cache",
        "APT::Sandbox::User": "root",  # apt's own user cannot write there
    }
    options = [
        word for name, value in apt.items() for word in ("-o", f"{name}={value}")
    ]
    source = f"deb [signed-by={KEYS}] {mirror()} bookworm-backports main\n"
    (work / "backports.list").write_text(source)
    for name in "lists/partial", "cache/archives/partial":
        (work / name).mkdir(parents=True)
    output("apt-get", *options, "-q", "update")
    wanted = [f"{name}/bookworm-backports" for name in PACKAGES]
    output("apt-get", *options, "-q", "download", *wanted, cwd=work / "cache")
    for package in (work / "cache").glob("*.deb"):
        output("dpkg-deb", "-x", str(package), str(root))


def mirror() -> str:
    """Returns the address that apt gets Debian 12 itself from."""
    chosen = ["Created-By: Packages", "Release: bookworm"]
    urls = output("apt-get", "indextargets", "--format", "$(REPO_URI)", *chosen)
    return urls.splitlines()[0] if urls else "http://deb.debian.org/debian"


def output(*words: str, cwd: pathlib.Path | None = None) -> str:
    """Returns what a command prints. Raises CalledProcessError if it fails."""
    return subprocess.run(
        words, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd, env=ENVIRONMENT
    ).stdout


ENVIRONMENT = os.environ | {"LC_ALL": "C"}

if __name__ == "__main__":
    main()
