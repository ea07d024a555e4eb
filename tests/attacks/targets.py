"""What attacks aim at: harmless things of the host's, made for one attack and removed; and
what the two modules of tests share.

Each target is a context manager with the name of a parameter in catalogue.py. It yields the
argument for the attack and harmed(output), which tells whether the attack has reached it;
output is what the attack has found out."""

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

import pytest
from catalogue import call
from runtime import PROJECT, STEPS, Runtime, eventually, shell

CGROUPS = pathlib.Path("/sys/fs/cgroup")


@functools.cache
def runtime_of(step):
    return Runtime(STEPS[step])


def facts(attacks):
    """Returns the attacks as parameters of a test, each with its needs as a marker."""
    marks = {a.name: [pytest.mark.needs(a.needs)] if a.needs else [] for a in attacks}
    return [pytest.param(attack, marks=marks[attack.name]) for attack in attacks]


def command(attack, who, *arguments, place="", program="/usr/bin/python3"):
    """The words that run an attack, by root or an ordinary user. place: where the image
    is, if it is not /."""
    return [program, "-IS", f"{place}/catalogue.pyc", attack.name, who, *arguments]


@contextlib.contextmanager
def runtime_without(attack, step):
    """The Runtime of a step with the line changed that stops an attack."""
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


def unique(word):
    return f"{word}-{random.randint(10**6, 10**7)}"


def contains(text):
    return lambda output: text in output


@contextlib.contextmanager
def secret():
    """A file that everybody on the host may read."""
    path, text = pathlib.Path("/var/tmp", unique("secret")), unique("text")
    path.write_text(text)
    try:
        yield str(path), contains(text)
        assert path.read_text() == text
    finally:
        path.unlink()


def device(kind, number):
    """A device, by its numbers, which the host's own root may open."""
    path = pathlib.Path("/var/tmp", unique("device"))
    os.mknod(path, kind | 0o600, number)
    try:
        os.close(os.open(path, os.O_RDONLY))
    finally:
        path.unlink()
    return f"{os.major(number)}:{os.minor(number)}", contains("worked")


@contextlib.contextmanager
def disk():
    """The disk that the images are on."""
    yield device(stat.S_IFBLK, os.stat("/var/lib/workshop").st_dev)


@contextlib.contextmanager
def memory():
    """The machine's memory: mem(4)."""
    yield device(stat.S_IFCHR, os.makedev(1, 1))


@contextlib.contextmanager
def interpreters(tmp="/var/tmp"):
    """The number of the host's binfmt_misc, which is the same wherever it is mounted."""
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
def cgroup():
    """A cgroup of the host's, and options: cgroup2 has those of the latest mount(2) of
    root's everywhere. Reached: a process says that it is in it."""
    place = CGROUPS / unique("attack")
    place.mkdir()
    options = shell(f"findmnt -n -o FS-OPTIONS {CGROUPS}").out.strip()
    options = [word for word in options.split(",") if word not in ("rw", "ro")]
    try:
        yield f"{place.name}:{','.join(options)}", contains(place.name)
    finally:
        assert eventually(lambda: not (place / "cgroup.procs").read_text())
        place.rmdir()


@contextlib.contextmanager
def victim():
    """A process with a secret in its memory: its pid and the address."""
    text = unique("text")
    code = "import ctypes, sys; b = ctypes.create_string_buffer(sys.argv[1].encode())\n"
    code += "print(ctypes.addressof(b), flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, text], stdin=-1, stdout=-1, text=True
    ) as process:
        address = process.stdout.readline().strip()
        # A tracer tells of itself: proc_pid_status(5).
        yield (
            f"{process.pid}:{address}",
            lambda out: text in out or re.search("TracerPid:\t[1-9]", out),
        )
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        assert "TracerPid:\t0\n" in status
        process.stdin.close()


@contextlib.contextmanager
def user_key():
    """A key in the keyring of root, user-keyring(7)."""
    name, text = unique("key"), unique("text")
    key = call("add_key", b"user", name.encode(), text.encode(), len(text), -4)
    try:
        yield name, contains(text)
    finally:
        call("keyctl", 9, key, -4)  # KEYCTL_UNLINK


@contextlib.contextmanager
def listener():
    """An abstract socket with a service behind it that greets whoever comes."""
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
def link():
    """A network device. Reached: it is gone."""
    name = f"at{random.randint(10**6, 10**7)}"
    place = pathlib.Path("/sys/class/net", name)
    shell(f"ip link add {name} type bridge")
    try:
        yield name, lambda output: not place.exists()
    finally:
        shell(f"ip link delete {name}", check=False)


@contextlib.contextmanager
def machine():
    """What the kernel was started with."""
    yield "", contains(pathlib.Path("/proc/cmdline").read_text())


def session_with(name, text):
    """The words that start a command in a session with one key: session-keyring(7)."""
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from catalogue import call\n"
    )
    code += "call('keyctl', 1, None)\n"
    code += "call('add_key', b'user', *[x.encode() for x in sys.argv[2:4]], "
    code += "len(sys.argv[3]), -3); os.execv(sys.argv[4], sys.argv[4:])"
    here = str(pathlib.Path(__file__).parent)
    return [sys.executable, "-c", code, here, name, text]


def rename_exchange(one, other):
    """Let two names change places at once: renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0
