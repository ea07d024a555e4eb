"""Checksums of files: SHA256SUMS, as sha256sum(1) writes and reads it."""

from __future__ import annotations

import hashlib
import pathlib

from host.errors import LabError


def digest(path: pathlib.Path, algorithm: str) -> str:
    """Returns the checksum of a file, in hexadecimal."""
    total = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while True:
            block = file.read(1 << 20)
            if not block:
                return total.hexdigest()
            total.update(block)


def sha256(path: pathlib.Path) -> str:
    return digest(path, "sha256")


def write(folder: pathlib.Path, names: list[str]) -> None:
    """Writes SHA256SUMS for these files of a directory."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def check(folder: pathlib.Path, part: str, log: pathlib.Path) -> None:
    """Compares the files in a subdirectory with SHA256SUMS. Raises LabError, and writes
    why to the log, if a file is missing, damaged, or not named there."""
    try:
        lines = (folder / "SHA256SUMS").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    known = {}
    for line in lines:
        total, _, name = line.partition("  ")
        if name.startswith(f"{part}/"):
            known[name] = total
    wrong = [] if known else [f"{folder}/SHA256SUMS does not list {part}/"]
    for name, total in known.items():
        path = folder / name
        if not path.is_file() or sha256(path) != total:
            wrong.append(f"{path} is damaged")
    if wrong:
        wrong.append(f"{folder}/{part} is damaged")
        with open(log, "a") as file:
            file.writelines(f"{line}\n" for line in wrong)
        raise LabError(f"{folder}/{part} is damaged", *wrong[:-1][:5])
