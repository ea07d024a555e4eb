"""The attacks of catalogue.py that begin outside: in the way the container is started,
with a hostile image, or with a neighbour.

Each test has the name of its attack."""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import stat
import struct
import threading
from collections.abc import Iterator

import linux
import pytest
from table import ATTACKS
from runtime import (
    FINISHED,
    LAST,
    LIMIT,
    PROJECT,
    STEPS,
    Result,
    Running,
    Runtime,
    Terminal,
    assert_one_line_error,
    eventually,
    nothing_left_behind,
    shell,
)
from targets import (
    command,
    rename_exchange,
    runtime_of,
    runtime_without,
    secret,
    session_with,
    unique,
)

# setpriv(1) keeps its capabilities until it calls execve(2), so it starts env.
NOBODY = "setpriv --reuid=nobody --regid=nogroup --clear-groups env"
WHO = ["root", "user"]

pytestmark = pytest.mark.usefixtures("host_as_before")


@pytest.fixture
def host_as_before():
    with nothing_left_behind():
        yield


@pytest.fixture
def copy(image):
    """An image for this test alone: new directories with hard links to the files of
    image."""
    path = pathlib.Path("/var/tmp", unique("copy"))
    shell(f"cp -al {image} {path}")
    yield path
    shell(f"rm -rf --one-file-system {path}")


@pytest.fixture
def busybox():
    """A small image for this test alone."""
    path = pathlib.Path("/var/tmp", unique("image"))
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {path}")
    yield path
    shell(f"rm -rf --one-file-system {path}")
    # A link in it may have made the runtime create these: test_image_of_links.
    shell("rmdir /var/tmp/fs/cgroup /var/tmp/fs", check=False)


@pytest.mark.parametrize("who", WHO)
def test_leaked_descriptor(who, image):
    """close_range(2): the caller leaves the host's root directory open, as runc itself
    once did (CVE-2024-21626). Without the two lines of isolation.py, it is
    open inside."""
    attack, root = ATTACKS["leaked_descriptor"], os.open("/", os.O_RDONLY)
    options = {"image": image, "popen": {"pass_fds": [root]}}
    with secret() as (path, reached):
        words = command(attack, who, path)
        result = Runtime(FINISHED).run(*words, **options)
        assert attack.says in result.err and not reached(result.out), result
        with runtime_without(attack, 7) as careless:
            result = careless.run(*words, **options)
            assert reached(result.out), result
    os.close(root)


@pytest.mark.parametrize("who", WHO)
def test_session_keys(who, image):
    """session-keyring(7): the keyring is inherited over fork(2) and execve(2),
    regardless of the user namespace. keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING leaves
    it."""
    attack, name, text = ATTACKS["session_keys"], unique("key"), unique("text")
    words = command(attack, who, name)
    result = Runtime(FINISHED, session_with(name, text)).run(*words, image=image)
    assert attack.says in result.err and text not in result.out, result
    with runtime_without(attack, 7) as careless:
        careless.prefix = session_with(name, text)
        result = careless.run(*words, image=image)
        assert text in result.out, result


def started_with_a_copy(step: int, path: pathlib.Path) -> Runtime:
    """Returns the Runtime of a step, run by a copy of Python for this test alone."""
    shutil.copy(os.path.realpath("/usr/bin/python3"), path)
    return Runtime(STEPS[step], [path, "-S"])


def test_runtime_program(image, tmp_path):
    """execve(2): the command /proc/self/exe is the runtime's own interpreter. It starts
    from the host's disk inside the container, and is a handle to the file there."""
    attack, program = ATTACKS["runtime_program"], tmp_path / "python3"
    by = {who: command(attack, who, program="/proc/self/exe") for who in WHO}
    last, before = (started_with_a_copy(n, program) for n in (7, 4))
    for who in WHO:
        result = last.run(*by[who], image=image)
        assert attack.says in result.err, result
        assert stat.S_IMODE(program.stat().st_mode) == 0o755
    result = before.run(*by["root"], image=image)
    assert "worked" in result.out, result
    assert stat.S_IMODE(program.stat().st_mode) == 0o4755


def typed_at_the_terminal(
    step: int, image: pathlib.Path, who: str, text: str, at_a_terminal: bool
) -> tuple[str, str]:
    """Starts a container from a shell at a terminal. Returns what the shell then reads
    from its terminal, and what the container printed."""
    words = runtime_of(step).argv(
        *command(ATTACKS["type_into_terminal"], who, text), image=image
    )
    # Its standard error is the terminal in any case.
    pipe = "" if at_a_terminal else "</dev/null | cat"
    script = f'"$@" {pipe}; echo over; read -r line; echo "host reads <$line>"'
    with contextlib.closing(Terminal(["/bin/sh", "-c", script, "sh", *words])) as shell:
        output = shell.wait_for(r"(?s)(.*)over\r?\n", 60)[1]
        shell.type("\n")
        return shell.wait_for("host reads <(.*)>")[1], output


def test_type_into_terminal(image):
    """ioctl_tty(2): TIOCSTI puts a byte where the terminal's next reader finds it. If
    the terminal is not the caller's controlling terminal, this needs CAP_SYS_ADMIN."""
    attack, text = ATTACKS["type_into_terminal"], unique("typed")
    for who in WHO:
        typed, output = typed_at_the_terminal(7, image, who, text, at_a_terminal=False)
        assert typed == "" and any(w in output for w in attack.says.split("|")), output
    # At a terminal, root in step 04 may type, but only into the container's own one.
    assert typed_at_the_terminal(4, image, "root", text, at_a_terminal=True)[0] == ""
    assert typed_at_the_terminal(4, image, "root", text, at_a_terminal=False)[0] == text


LINKS = ["sys ..", "proc /..", "dev ../../", "tmp /sys/../.."]
# Once /proc is mounted, this leads elsewhere: /sys/fs would be created on the host.
LINKS += ["sys /proc/self/cwd/../var/tmp", "etc/resolv.conf /../var/tmp/fs"]


@pytest.mark.parametrize("link", LINKS)
def test_image_of_links(link, busybox):
    """pivot_root(2): until the host's tree is detached, it is at /.., and a link in the image
    can lead there. A mount on top of that tree would even make umount2(2) remove the mount
    instead of the tree."""
    attack, made = ATTACKS["image_of_links"], pathlib.Path("/var/tmp/fs")
    name, target = link.split()
    shell(f"cd {busybox}; mkdir -p proc/self/cwd proc/self/var/tmp; rm -rf {name}")
    shell(f"ln -s {target} {busybox}/{name}")
    resolver = name == "etc/resolv.conf"
    options = {"image": busybox} | ({"net": "bridge"} if resolver else {})
    network = network_on() if resolver else contextlib.nullcontext()
    with secret() as (path, reached), network:
        for step in range(4 if resolver else 3, 8):
            result = runtime_of(step).run(f"cat /..{path}", **options)
            assert result.status == 1 and attack.says in result.err, result
            assert not reached(result.out) and not made.exists(), result


def test_link_swapped_in(busybox):
    """renameat2(2): a directory and a link change places all the time. In steps 03 to
    06, a neighbour that shares the image can do this."""
    attack = ATTACKS["link_swapped_in"]
    shell(f"ln -s .. {busybox}/link")
    over = threading.Event()

    def swap():
        while not over.is_set():
            rename_exchange(busybox / "tmp", busybox / "link")

    neighbour = threading.Thread(target=swap)
    neighbour.start()
    try:
        with secret() as (path, reached), runtime_without(attack, 5) as careless:
            script = f"cat /..{path}"
            for _ in range(8):
                result = runtime_of(5).run(script, image=busybox)
                assert not reached(result.out), result
                if attack.says not in result.err:
                    # The directory or the link was replaced while attach looked at it.
                    assert_one_line_error(result)
            for _ in range(20):
                if worked := reached(careless.run(script, image=busybox).out):
                    break
            assert worked
    finally:
        over.set()
        neighbour.join()


def path_on_disk(image: pathlib.Path, box: Running) -> pathlib.Path:
    """Returns where a file in /open is on the host's disk while the container runs."""
    return next(
        pathlib.Path("/var/lib/workshop/containers").glob(f"{box.process.pid}/upper"),
        image,
    )


MARK = """
import os, sys
if sys.argv[1] == "user":
    os.setgid(1000), os.setuid(1000)
path = sys.argv[2]
if not os.path.exists(path):
    with open("/usr/bin/python3", "rb") as a, open(path, "wb") as b:
        b.write(a.read())
if sys.argv[1] == "root":
    os.setxattr(path, "security.capability", bytes.fromhex(sys.argv[3]))
os.chmod(path, 0o4755)
"""
CAPABILITIES = "01000002" + "80000000" + 12 * "00"  # CAP_SETUID: capabilities(7)


def marked(path: pathlib.Path) -> bool:
    """Returns whether this program gives every user on the host more rights."""
    caps = "security.capability" in os.listxattr(path)
    return bool(os.stat(path).st_mode & stat.S_ISUID) or caps


def leave_marked_program(
    step: int, name: str, image: pathlib.Path, who: str, uid: int
) -> tuple[pathlib.Path, Result]:
    """Marks a program in a container of a step, and starts it as a user on the host.
    Returns where the program is on the disk, and the Result of the start."""
    command = ["python3", "-IS", "-c", MARK, who, f"/open/{name}", CAPABILITIES]
    code = "import os; print(os.geteuid())"
    with runtime_of(step).running(image=image) as box:
        words = " ".join(f"'{word}'" for word in command)
        assert box.ask(words) == ""
        path = path_on_disk(image, box) / "open" / name
        assert marked(path) and os.stat(path).st_uid == uid
        return path, shell(f"{NOBODY} {path} -IS -c '{code}'", check=False)


def assert_no_marked_program_stays(
    name: str, image: pathlib.Path, who: str, uid: int
) -> None:
    """Asserts that on the last step the program is out of reach and is removed with the
    container, and that on the step before it works and stays."""
    before = marked_programs(image)
    path, result = leave_marked_program(7, name, image, who, uid)
    assert result.status != 0 and "Permission denied" in result.err, result
    assert not path.exists() and marked_programs(image) == before
    path, result = leave_marked_program(6, name, image, who, uid)
    assert result.out == f"{uid}\n", result
    assert path == image / "open" / name and marked(path)


def marked_programs(image: pathlib.Path) -> dict[str, bool]:
    """Returns {name of a file in /open of the image: whether it is marked}."""
    return {path.name: marked(path) for path in (image / "open").iterdir()}


@pytest.mark.parametrize(("who", "uid"), [("root", 0), ("user", 1000)])
def test_program_left_behind(who, uid, copy):
    """execve(2): a set-user-ID program runs as its owner, whoever starts it. If root
    inside creates it, its owner on the disk is root: mount_setattr(2)."""
    assert_no_marked_program_stays("new", copy, who, uid)


@pytest.mark.parametrize(("who", "uid"), [("root", 0), ("user", 1000)])
def test_copy_up(who, uid, copy):
    """The kernel's filesystems/overlayfs, copy_up: a new mode for a file of a lower
    layer applies to a copy, which is removed with the container. capabilities(7)."""
    shell(f"cp {copy}/usr/bin/python3 {copy}/open/old; chown {uid} {copy}/open/old")
    assert_no_marked_program_stays("old", copy, who, uid)


@pytest.mark.needs("cgroup2")
@pytest.mark.parametrize("who", WHO)
def test_processes(who, image):
    """cgroups(7), pids.max: fork(2) fails with EAGAIN, and the host keeps working."""
    attack = ATTACKS["processes"]
    result = Runtime(FINISHED).run(*command(attack, who), image=image, pids=32)
    assert attack.says in result.err, result
    result = runtime_of(5).run(*command(attack, who), image=image)
    assert "worked" in result.out, result


@pytest.mark.needs("machine")
@pytest.mark.parametrize("who", WHO)
def test_inodes(who, image):
    """statvfs(3): an upper layer takes its inodes from the disk that all containers
    share. They are freed when the container ends."""

    def free():
        return os.statvfs("/var/lib/workshop/containers").f_ffree

    with Runtime(LAST).running(image=image) as box:
        before = free()
        assert "worked" in box.ask(" ".join(command(ATTACKS["inodes"], who)))
        assert before - free() > 1500
    assert before - free() < 500


@pytest.fixture(scope="module")
def counting_disk() -> Iterator[pathlib.Path]:
    """A filesystem of its own that counts by project: mkfs.ext4(8), mount(8). It is there
    before host_as_before looks, because the first one makes the kernel's loop devices."""
    path = pathlib.Path("/var/tmp", unique("disk"))
    shell(f"truncate -s 64M {path}.img && mkfs.ext4 -q -O quota,project {path}.img")
    shell(f"mkdir {path} && mount -o prjquota {path}.img {path}")
    yield path
    shell(f"umount {path} && rmdir {path} && rm {path}.img")


def limit_project(disk: pathlib.Path, project: int, kib: int, files: int) -> None:
    """What setquota(8) does, which the lab lacks: quotactl_fd(2) with Q_SETQUOTA and
    PRJQUOTA. struct dqblk is in quotactl(2); 5: the hard limits of both kinds are valid."""
    limits = struct.pack("8QI4x", kib, 0, 0, files, 0, 0, 0, 0, 5)
    descriptor = os.open(disk, os.O_RDONLY)
    call = [
        linux.SYSCALL["quotactl_fd"],
        descriptor,
        0x800008 << 8 | 2,
        project,
        limits,
    ]
    failed = ctypes.CDLL(None, use_errno=True).syscall(*call)
    os.close(descriptor)
    assert not failed, os.strerror(ctypes.get_errno())


# ioctl_fs with FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR: project 0 has no limit.
LEAVE_PROJECT = """
import fcntl, os
where = os.open("/open", os.O_RDONLY)
attributes = fcntl.ioctl(where, 0x801c581f, bytes(28))
print("project", attributes[12])
fcntl.ioctl(where, 0x401c5820, attributes[:12] + bytes(4) + attributes[16:])
"""


@pytest.mark.needs("debian13")
@pytest.mark.parametrize("who", WHO)
def test_project_quota_stops_inodes_and_writes_of_one_container(
    who, image, counting_disk
):
    """quotactl(2): EDQUOT for the project that the container's layer belongs to. Its
    neighbour and the host write to the same disk. Nobody in a user namespace can give a file
    to another project."""
    bind = f"mount --bind {counting_disk} /var/lib/workshop/containers"
    there = Runtime(
        LAST, ["unshare", "--mount", "sh", "-ec", f'{bind}; exec "$@"', "sh"]
    )
    attack = " ".join(command(ATTACKS["inodes"], who))
    write = "dd if=/dev/zero of=/open/big bs=1M count=4 2>&1; rm /open/big"
    with there.running(image=image) as box, there.running(image=image) as neighbour:
        shell(f"chattr -R -p 7 +P {counting_disk}/{box.process.pid}")
        limit_project(counting_disk, 7, kib=2048, files=500)
        assert "Disk quota exceeded" in box.ask(write)
        assert "Disk quota exceeded" in box.ask(attack)
        left = box.ask(f"python3 -IS -c '{LEAVE_PROJECT}'")
        assert "project 7" in left and "Invalid argument" in left, left
        assert "4+0 records out" in neighbour.ask(write)
        assert "worked" in neighbour.ask(attack)
        (counting_disk / "host").write_bytes(bytes(4 << 20))
        (counting_disk / "host").unlink()


@contextlib.contextmanager
def network_on() -> Iterator[None]:
    """Switches the host's side of the network on, and afterwards off again if it was
    off."""
    script = PROJECT / "steps" / "network.sh"
    was_on = shell(f"{script} status", check=False).status == 0
    shell(f"{script} on")
    try:
        yield
    finally:
        if not was_on:
            shell(f"{script} off")


@pytest.fixture(scope="module", params=[8, 9, STEPS.index(LAST)])
def neighbours(request, image):
    """Two containers of a step on the bridge. Yields the step, the attacker, and the other one
    with its address."""
    runtime = runtime_of(request.param)
    with (
        network_on(),
        runtime.running(image=image, net="bridge") as one,
        runtime.running(image=image, net="bridge") as other,
    ):
        address = other.ask("ip -o -4 addr show eth0").split("inet ")[1]
        yield request.param, one, other, address.split("/")[0]


SEND = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.sendto(b"hello", ("100.64.0.1", 9))
"""


@pytest.mark.parametrize("who", ["user", "root"])
def test_arp_spoofing(who, neighbours):
    """arp(7): the latest answer counts, whoever sends it. packet(7) needs CAP_NET_RAW,
    which root inside has until step 09. The gateway's own kernel soon repairs the table, so the
    test looks at it while the attacker sends."""
    step, attacker, other, address = neighbours
    attack = ATTACKS["arp_spoofing"]
    mac = attacker.ask("cat /sys/class/net/eth0/address").strip()
    # The neighbour learns the gateway's hardware address when it sends it a packet.
    assert other.ask(f"python3 -IS -c '{SEND}'") == ""
    asked = "grep '^100.64.0.1 .* 0x2 ' /proc/net/arp"
    assert eventually(lambda: "status" not in other.ask(asked))
    spoof = " ".join(command(attack, who, address))
    attacker.ask(f"{spoof} >/tmp/said 2>&1 & echo")
    seen: list[str] = []  # at each look

    def decided() -> bool:
        refused = "refused" in attacker.ask("cat /tmp/said")
        seen.append(other.ask("grep '^100.64.0.1 ' /proc/net/arp"))
        return refused or mac in seen[-1]

    assert eventually(decided, LIMIT), seen
    output = attacker.ask("kill $! 2>/dev/null; wait $! 2>/dev/null; cat /tmp/said")
    assert re.search("([0-9a-f]{2}:){5}[0-9a-f]{2}", seen[-1]), seen
    if who == "user" or step >= attack.stopped_by:
        assert attack.says in output and mac not in "".join(seen), (output, seen)
    else:
        assert "refused" not in output and mac in seen[-1], (output, seen)


SEEN = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("", 5353))
    s.settimeout(60)
    print("ready", flush=True)
    print(s.recvfrom(99))
"""


@pytest.mark.parametrize("who", ["user", "root"])
def test_address_spoofing(who, neighbours):
    """raw(7): with IPPROTO_RAW the sender writes the whole header, including the source
    address."""
    step, attacker, other, address = neighbours
    attack = ATTACKS["address_spoofing"]
    other.ask(f"python3 -IS -c '{SEEN}' >/tmp/seen & sleep 0.1")
    assert eventually(lambda: "ready" in other.ask("cat /tmp/seen"))
    output = attacker.ask(" ".join(command(attack, who, address)))
    if "worked" in output:  # otherwise nothing was sent
        assert eventually(lambda: "fake" in other.ask("cat /tmp/seen"), LIMIT)
    seen = other.ask("kill $! 2>/dev/null; wait $! 2>/dev/null; cat /tmp/seen")
    if who == "user" or step >= attack.stopped_by:
        assert attack.says in output and "fake" not in seen, (output, seen)
    else:
        assert "worked" in output and "('100.64.0.1', 53)" in seen, (output, seen)
