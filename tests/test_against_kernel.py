"""Compares what the guide reads and what network.sh writes with what the kernel makes of the
same inputs: layers, mount points and name servers of any kind. The inputs are random, and
the same in every run. (In tests/unit/test_hostile_input.py, hypothesis finds the smallest
input that fails. Here each input takes system calls, and loading hypothesis alone would take
half a minute in an emulated VM.)"""

import os
import random
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from image_layers import KINDS, NAMES, lay, tree
from runtime import FULL, LIMIT, PROJECT

sys.path += [str(PROJECT), str(PROJECT / "steps")]
import linux

from workshop import layers as library
from workshop import procfs
from workshop.layers import Layer

MANY = 200 if FULL else 40


def any_text(dice, most):
    """Returns at most this many characters, of ASCII or of all of Unicode except surrogates."""
    letters = [
        chr(dice.choice([dice.randint(1, 127), dice.randint(128, 0xD7FF)]))
        for _ in range(dice.randint(0, most))
    ]
    letters += [chr(dice.randint(0xE000, 0x10FFFF))] if dice.random() < 0.2 else []
    return "".join(letters)


def any_name(dice):
    """Returns a name for a file."""
    name = dice.choice(NAMES) if dice.random() < 0.6 else any_text(dice, 8)
    name = name.replace("/", "")
    return name if name not in ("", ".", "..") else any_name(dice)


def any_layer(dice):
    """Returns a layer for image_layers.lay(): {path: kind}. Few different names, so that
    layers hide files below them."""

    def name():
        return dice.choice("ab") if dice.random() < 0.8 else any_name(dice)

    paths = ["/".join(name() for _ in range(dice.randint(1, 3))) for _ in range(12)]
    kinds = [*KINDS, "opaque", "directory", "file"]
    return {path: dice.choice(kinds) for path in paths[: dice.randint(0, 12)]}


def test_stack_of_layers_is_read_as_overlayfs_shows_it():
    """filesystems/overlayfs: whiteouts, opaque directories, and what hides what."""
    shown_at_all = 0
    for seed in range(MANY):
        dice = random.Random(seed)
        layers = [any_layer(dice) for _ in range(dice.randint(2, 3))]
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            top = [f"{folder}/{name}" for name in ("upper", "work", "merged")]
            for path in top:
                os.mkdir(path)
            stack = [f"{folder}/{n}" for n in range(len(layers))]
            for layer, path in zip(layers, stack, strict=True):
                lay(layer, path)
            found = {
                entry.path
                for entry in library.entries([Layer(Path(path)) for path in stack])
                if entry.is_seen
            }
            options = f"lowerdir={':'.join(stack)},upperdir={top[0]},workdir={top[1]},userxattr"
            linux.mount("overlay", top[2], "overlay", 0, options)
            try:
                shown = {
                    f"/{path}"
                    for path, about in tree(top[2]).items()
                    if not stat.S_ISDIR(about[0])
                }
            finally:
                linux.umount(top[2])
        assert found == shown, (seed, layers)
        shown_at_all += len(shown)
    assert shown_at_all > MANY


def test_mount_point_of_any_name_is_found():
    """proc_pid_mountinfo(5): the kernel writes blanks, line ends and backslashes in octal."""
    for name in [*NAMES, *(any_name(random.Random(seed)) for seed in range(MANY))]:
        with tempfile.TemporaryDirectory() as folder:
            place = f"{folder}/{name}"
            os.mkdir(place)
            linux.mount("tmpfs", place, "tmpfs")
            try:
                assert [m.kind for m in procfs.mounts("self") if m.target == place] == [
                    "tmpfs"
                ]
            finally:
                linux.umount(place)


ADDRESSES = ["127.0.0.53", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"]


def any_line(dice):
    """Returns a line of a resolv.conf."""
    other = ["", "# nameserver 192.0.2.9", "search example.org", "options edns0"]
    blank, address = dice.choice([" ", "\t", "  "]), dice.choice(ADDRESSES)
    word = any_text(dice, 12).replace("\n", " ").replace("\r", " ")
    return dice.choice([f"nameserver{blank}{address}", dice.choice(other), word])


def test_name_servers_that_a_container_can_reach_are_kept():
    """resolv.conf(5): spaces or tabs separate the keyword and the address."""
    for seed in range(30 if FULL else 8):
        dice = random.Random(seed)
        lines = [any_line(dice) for _ in range(dice.randint(1, 5))]
        script = 'mount --bind "$1" /etc/resolv.conf; mount -t tmpfs run /run; ip link set lo up;'
        script += f" {PROJECT}/steps/network.sh on && cat /run/workshop/dns"
        with tempfile.NamedTemporaryFile("w") as file:
            file.write("".join(f"{line}\n" for line in lines))
            file.flush()
            command = [
                "unshare",
                "--mount",
                "--net",
                "sh",
                "-ec",
                script,
                "sh",
                file.name,
            ]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT
            )
        kept = [
            line
            for line in lines
            if line.split()[:1] != ["nameserver"]
            or not line.split()[1:2]
            or not (line.split()[1].startswith("127.") or ":" in line.split()[1])
        ]
        assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, kept), done
