"""The class: who may log in to the hub, and with what password.

It is a file with a line for each person: the name, the salt and scrypt(3) key of the
password, and perhaps "teacher". Passwords are made here, shown once, and not kept:
somebody who forgets theirs gets a new one.
"""

from __future__ import annotations

import hashlib
import hmac
import pathlib
import re
import secrets
from collections.abc import Sequence

from host.machine import secret

NAME = re.compile("[a-z][a-z0-9]{0,30}")  # becomes part of a host name, and a directory
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # no two of them look alike
NOBODY = ["00" * 16, "00" * 64]


def _key(password: str, salt: bytes) -> bytes:
    # The cost that RFC 7914 suggests for an interactive login.
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def read(path: pathlib.Path) -> dict[str, list[str]]:
    """Returns {name: [salt, key, *marks]} of the file; empty if there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {words[0]: words[1:] for words in map(str.split, lines)}


def teachers(path: pathlib.Path) -> set[str]:
    """Returns the names of those who may stop other people's VMs."""
    return {name for name, words in read(path).items() if "teacher" in words}


def knows(path: pathlib.Path, name: str, password: str) -> bool:
    """Returns whether this is the password of somebody in the class."""
    salt, key, *_ = read(path).get(name, NOBODY)
    return hmac.compare_digest(_key(password, bytes.fromhex(salt)), bytes.fromhex(key))


def add(
    path: pathlib.Path, names: Sequence[str], marks: Sequence[str]
) -> dict[str, str]:
    """Gives each of the names a new password. Returns {name: password}."""
    given = {n: "".join(secrets.choice(LETTERS) for _ in range(10)) for n in names}
    members = read(path)
    for name, password in given.items():
        salt = secrets.token_bytes(16)
        members[name] = [salt.hex(), _key(password, salt).hex(), *marks]
    new = path.with_suffix(".new")
    secret(new, "".join(f"{' '.join([n, *words])}\n" for n, words in members.items()))
    new.replace(path)
    return given
