"""Makes what attacks aim at: harmless things on the host, each made for one attack and
removed afterwards. It also has what the two modules of tests share.

Each target is a context manager with the name of a parameter in catalogue.py. It yields
the argument for the attack, and harmed(output), which returns whether the attack
reached the target. output is what the attack printed."""

import contextlib
import ctypes
import functools
import os
import pathlib
import random
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from catalogue import call
from runtime import PROJECT, STEPS, Runtime, Word, eventually, shell
from table import Attack

CGROUPS = pathlib.Path("/sys/fs/cgroup")
Harmed = Callable[[str], bool]  # of what the attack printed
Target = tuple[str, Harmed]


@functools.cache
def runtime_of(step: int) -> Runtime:
    """Returns the Runtime of a finished step."""
    return Runtime(STEPS[step])


def facts(attacks: Iterable[Attack]) -> list[Any]:
    """Returns the attacks as parameters of a test, with their needs as markers."""
    marks = {a.name: [pytest.mark.needs(a.needs)] if a.needs else [] for a in attacks}
    return [pytest.param(attack, marks=marks[attack.name]) for attack in attacks]


def command(
    attack: Attack,
    who: str,
    *arguments: str,
    place: Word = "",
    program: str = "/usr/bin/python3",
) -> list[str]:
    """Returns the command that runs an attack, as root or as an ordinary user. place is
    where the image is, if it is not /."""
    return [program, "-IS", f"{place}/catalogue.pyc", attack.name, who, *arguments]


@contextlib.contextmanager
def runtime_without(attack: Attack, step: int) -> Iterator[Runtime]:
    """Yields the Runtime of a step, in a copy in which the line that stops the attack
    is changed."""
    assert attack.without
    file, old, new = attack.without
    place = pathlib.Path("/var/tmp/attacked")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(PROJECT / "steps", place)
    source = (place / file).read_text()
    assert source.count(old) == 1, f"{file} has {source.count(old)} times {old!r}"
    (place / file).write_text(source.replace(old, new))
    try:
        yield Runtime(place / STEPS[step].parent.name / "container.py")
    finally:
        shutil.rmtree(place)


def unique(word: str) -> str:
    return f"{word}-{random.randint(10**6, 10**7)}"


def contains(text: str) -> Harmed:
    return lambda output: text in output


@contextlib.contextmanager
def secret() -> Iterator[Target]:
    """A file that every user on the host may read."""
    path, text = pathlib.Path("/var/tmp", unique("secret")), unique("text")
    path.write_text(text)
    try:
        yield str(path), contains(text)
        assert path.read_text() == text
    finally:
        path.unlink()


def device(kind: int, number: int) -> tuple[str, Harmed]:
    """Returns a device as a target, by its numbers. The host's own root may open it."""
    path = pathlib.Path("/var/tmp", unique("device"))
    os.mknod(path, kind | 0o600, number)
    try:
        os.close(os.open(path, os.O_RDONLY))
    finally:
        path.unlink()
    return f"{os.major(number)}:{os.minor(number)}", contains("worked")


@contextlib.contextmanager
def disk() -> Iterator[Target]:
    """The disk that contains the images."""
    yield device(stat.S_IFBLK, os.stat("/var/lib/workshop").st_dev)


@contextlib.contextmanager
def memory() -> Iterator[Target]:
    """The machine's memory: mem(4)."""
    yield device(stat.S_IFCHR, os.makedev(1, 1))


@contextlib.contextmanager
def interpreters(tmp: str = "/var/tmp") -> Iterator[Target]:
    """The device number of the host's binfmt_misc, which is the same wherever it is
    mounted."""
    place = pathlib.Path(tmp, unique("binfmt"))
    place.mkdir()
    shell(f"mount -t binfmt_misc binfmt {place}")
    try:
        number, before = os.stat(place).st_dev, os.listdir(place)
        yield str(number), contains("worked")
        assert os.listdir(place) == before
    finally:
        shell(f"umount {place}; rmdir {place}")


@contextlib.contextmanager
def cgroup() -> Iterator[Target]:
    """A cgroup on the host, and mount options: cgroup2 has the options of root's latest
    mount(2) everywhere. It is reached if a process reports to be in it."""
    place = CGROUPS / unique("attack")
    place.mkdir()
    found = shell(f"findmnt -n -o FS-OPTIONS {CGROUPS}").out.strip()
    options = [word for word in found.split(",") if word not in ("rw", "ro")]
    try:
        yield f"{place.name}:{','.join(options)}", contains(place.name)
    finally:
        assert eventually(lambda: not (place / "cgroup.procs").read_text())
        place.rmdir()


@contextlib.contextmanager
def victim() -> Iterator[Target]:
    """A process with a secret in its memory. The argument is its PID and the
    address."""
    text = unique("text")
    code = "import ctypes, sys; b = ctypes.create_string_buffer(sys.argv[1].encode())\n"
    code += "print(ctypes.addressof(b), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, text], stdin=-1, stdout=-1, text=True
    ) as process:
        address = process.stdout.readline().strip()
        # The victim's status shows a tracer: proc_pid_status(5).
        yield (
            f"{process.pid}:{address}",
            lambda out: text in out or bool(re.search("TracerPid:\t[1-9]", out)),
        )
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        assert "TracerPid:\t0\n" in status
        process.stdin.close()


@contextlib.contextmanager
def user_key() -> Iterator[Target]:
    """A key in root's user keyring, user-keyring(7)."""
    name, text = unique("key"), unique("text")
    key = call("add_key", b"user", name.encode(), text.encode(), len(text), -4)
    try:
        yield name, contains(text)
    finally:
        call("keyctl", 9, key, -4)  # KEYCTL_UNLINK


@contextlib.contextmanager
def listener() -> Iterator[Target]:
    """An abstract socket whose server greets the first client."""
    name, text = unique("socket"), unique("text")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        server.listen()
        greeter = os.fork()
        if greeter == 0:
            with contextlib.suppress(OSError):
                server.accept()[0].send(text.encode())
            os._exit(0)
        try:
            yield name, contains(text)
        finally:
            os.kill(greeter, 9)
            os.waitpid(greeter, 0)


@contextlib.contextmanager
def link() -> Iterator[Target]:
    """A network device. It is reached if it is gone."""
    name = f"at{random.randint(10**6, 10**7)}"
    place = pathlib.Path("/sys/class/net", name)
    shell(f"ip link add {name} type bridge")
    try:
        yield name, lambda output: not place.exists()
    finally:
        shell(f"ip link delete {name}", check=False)


@contextlib.contextmanager
def machine() -> Iterator[Target]:
    """The command line that the kernel was started with."""
    yield "", contains(pathlib.Path("/proc/cmdline").read_text())


def session_with(name: str, text: str) -> list[str]:
    """Returns the words that start a command in a session with one key:
    session-keyring(7)."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from catalogue import call\n"
    )
    code += "call('keyctl', 1, None)\n"
    code += "call('add_key', b'user', *[x.encode() for x in sys.argv[2:4]], "
    code += "len(sys.argv[3]), -3); os.execv(sys.argv[4], sys.argv[4:])"
    here = str(pathlib.Path(__file__).parent)
    return [sys.executable, "-c", code, here, name, text]


def rename_exchange(one: Word, other: Word) -> None:
    """Exchanges two names atomically: renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    flags = 2  # RENAME_EXCHANGE
    assert libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), flags) == 0
