"""The class: who may log in at the hub, and with what.

A file with a line for each: the name, salt and scrypt(3) key of the password, and perhaps
"teacher". Passwords are made here, told once, and not kept: who forgets theirs gets another.

    python roster.py FILE [--teacher] NAME...
"""

import argparse
import hashlib
import hmac
import os
import pathlib
import re
import secrets
import sys

NAME = re.compile("[a-z][a-z0-9]{0,30}")  # each is a part of a host name, and a folder
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another


def _key(password, salt):
    # The cost that RFC 7914 names for somebody who waits at a screen.
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def read(path):
    """{name: [salt, key, *marks]} of the file; empty when there is none."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {name: words for name, *words in map(str.split, lines)}


def teachers(path):
    """The names of those who may look after the others' VMs."""
    return {name for name, words in read(path).items() if "teacher" in words}


def knows(path, name, password):
    """Whether this is the password of somebody in the class."""
    salt, key, *_ = read(path).get(name, ["00" * 16, "00" * 64])
    return hmac.compare_digest(_key(password, bytes.fromhex(salt)), bytes.fromhex(key))


def add(path, names, marks):
    """Give each of the names a new password. Returns {name: password}."""
    given = {n: "".join(secrets.choice(LETTERS) for _ in range(10)) for n in names}
    salts = {name: secrets.token_bytes(16) for name in names}
    members = read(path) | {
        name: [salts[name].hex(), _key(given[name], salts[name]).hex(), *marks]
        for name in names
    }
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.writelines(" ".join([n, *w]) + "\n" for n, w in members.items())
    new.rename(path)
    return given


def main():
    parser = argparse.ArgumentParser(prog="lab classroom add")
    parser.add_argument("file", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--teacher", action="store_true")
    parser.add_argument("names", nargs="+", metavar="NAME")
    options = parser.parse_args()
    for name in options.names:
        if not NAME.fullmatch(name):
            sys.exit(
                f"lab: {name!r}: names here are of a to z and 0 to 9, a letter first"
            )
    marks = ["teacher"] if options.teacher else []
    for name, password in add(options.file, options.names, marks).items():
        print(f"{name}\t{password}")


if __name__ == "__main__":
    main()
