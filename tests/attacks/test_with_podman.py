"""The attacks of catalogue.py in a container that podman has started with step 11.

It has podman's defaults: root inside is root outside, but with eleven capabilities, a filter of
system calls, covered paths, and, where the machine has cgroup v2, a filter of devices. So what
refuses an attack is often not what refuses it in step 07. NOT_HERE names the attacks that say
nothing about a runtime of podman's."""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from runtime import PROJECT, Running, Terminal, Word, shell
from table import ATTACKS, Attack
from targets import command, facts, secret, session_with, unique
from test_attacks import aimed, name
from test_outside import LINKS

CONTAINER = PROJECT / "steps/11_oci/container.py"
WHO = ["root", "user"]
LIMITS = "memory" in shell("cat /sys/fs/cgroup/cgroup.controllers", check=False).out
NOT_HERE = {
    "program_left_behind": "where a layer is on the disk, and who can get there, is podman's",
    "copy_up": "where a layer is on the disk, and who can get there, is podman's",
    "inodes": "open everywhere: the disk is podman's",
    "link_swapped_in": "a race to where image_of_links goes, with a podman that takes a second",
}
# With podman's defaults these work with every runtime: it does not cover /proc/cmdline, its filter
# allows keyctl and unshare, and without a user namespace root's keys are the host's.
OPEN = ["facts_about_the_machine", "user_keys", "nested_user_namespace"]
REFUSED = {  # what refuses each attack, in the kernel's words
    "second_chroot": "No such file|not permitted",
    "kept_descriptor": "No such file",
    "root_of_others": "No such file|Permission denied",
    "disk_by_number": "Operation not permitted",
    "memory_by_number": "Operation not permitted",
    "device_of_the_image": "Operation not permitted",  # the filter of devices
    "core_pattern": "Read-only file system|Permission denied",
    "modprobe_path": "Read-only file system|Permission denied",
    "sysrq": "Read-only file system|Permission denied",
    "uevent": "Operation not permitted",
    "binfmt": "Operation not permitted",
    "bpf": "Operation not permitted",
    "kernel_log": "Operation not permitted",
    "cgroup_of_others": "Operation not permitted",
    "release_agent": "Operation not permitted",
    "trace": "No such process",
    "memory_of_others": "No such process|Operation not permitted",
    "abstract_socket": "Connection refused",
    "netlink": "No such device|not permitted",
    "arp_spoofing": "Operation not permitted",
    "address_spoofing": "Operation not permitted",
    "kernel_keys": "not permitted|not implemented",
    "userfaultfd": "not permitted|not implemented",
}
# What a container without isolation lets through, so that the attack itself is right. The others
# fail there, too: a runtime always changes the root, and always starts a session.
OPENED = [
    *("root_of_others disk_by_number memory_by_number device_of_the_image".split()),
    *(
        "core_pattern modprobe_path sysrq binfmt bpf kernel_log cgroup_of_others".split()
    ),
    *(
        "trace memory_of_others abstract_socket netlink uevent release_agent userfaultfd".split()
    ),
]
# Podman's, which this must repeat: a file in CONTAINERS_CONF replaces the distribution's.
CAPABILITIES = ", ".join(
    f'"{word}"'
    for word in """CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP
    SETUID SYS_CHROOT""".split()
)
SHARED = "--privileged --pid=host --network=host --ipc=host --uts=host --cgroupns=host"

pytestmark = pytest.mark.skipif(not shutil.which("podman"), reason="this needs podman")


class Podman:
    """podman with a storage of its own, and with a container.py as its runtime."""

    def __init__(self, folder: pathlib.Path, container: pathlib.Path = CONTAINER):
        self.folder, self.container = folder, container
        self.folder.mkdir(exist_ok=True)
        self.settings = folder / f"{container.parts[-3]}.conf"  # of steps, or a copy
        manager = "systemd" if os.path.isdir("/run/systemd/system") else "cgroupfs"
        self.settings.write_text(f"""
            [engine]
            cgroup_manager = "{manager}"
            events_logger = "file"
            runtime_supports_nocgroup = ["{container.name}"]
            runtime_supports_json = ["{container.name}"]
            [containers]
            default_capabilities = [{CAPABILITIES}]
            default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
            """)

    def argv(self, *words: Word, image: Word, flags: str = "") -> list[Word]:
        """Returns the command line that runs a command in a container."""
        own: list[Word] = ["/usr/bin/env", f"CONTAINERS_CONF={self.settings}", "podman"]
        own += ["--root", self.folder / "storage", "--runroot", self.folder / "run"]
        own += ["--storage-driver", "vfs"]
        own += ["--runtime", self.container]
        network = "" if "--network" in flags else "--network=none"
        cgroups = "" if LIMITS else "--cgroups=disabled"
        usual = ["run", "--rm", "-i", *shlex.split(f"{network} {cgroups} {flags}")]
        return [*own, *usual, "--rootfs", str(image), *words]

    def run(self, *words: Word, prefix: Any = (), **options: Any) -> str:
        """Runs a command in a container. Returns what it prints, stderr included."""
        popen = options.pop("popen", {})
        line = [*prefix, *map(str, self.argv(*words, **options))]
        streams = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
        done = subprocess.run(
            line, stdout=subprocess.PIPE, text=True, timeout=300, **streams, **popen
        )
        return done.stdout


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    folder = pathlib.Path("/var/tmp", unique("podman"))
    yield Podman(folder)
    shell(
        f"umount -l {folder}/storage/*; rm -rf --one-file-system {folder}", check=False
    )


@pytest.fixture(scope="module")
def attempt(image, podman):
    """A function that runs an attack in a container, and starts it when it is first needed.
    Returns what the attack printed."""
    with contextlib.ExitStack() as stack:
        boxes: dict[str, Running] = {}

        def attempt(attack: Attack, who: str, *arguments: str, flags: str = "") -> str:
            if flags not in boxes:
                options = {"image": image, "flags": flags}
                boxes[flags] = Running(podman, "", {}, options)  # type: ignore[arg-type]
                stack.callback(boxes[flags].close)
            line = shlex.join(command(attack, who, *arguments))
            # podman carries stdout and stderr apart, so one could overtake the other.
            return boxes[flags].ask(f"{line} 2>&1")

        yield attempt


def chosen(names: Any) -> list[Any]:
    """Returns attacks as parameters. One that begins outside aims at nothing here."""
    return facts([ATTACKS[n] for n in names])


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("attack", chosen(REFUSED), ids=name)
def test_attack_fails(attack, who, attempt, request):
    """capabilities(7), seccomp(2), namespaces(7): it is refused, and reaches no target."""
    if attack.targets == ["neighbour"]:
        card = request.getfixturevalue("ethernet")
        output = attempt(attack, who, "127.0.0.1", flags=f"--network=ns:{card}")
        assert re.search(f"refused: .*({REFUSED[attack.name]})", output), output
        return
    with aimed(attack) as (arguments, reached):
        output = attempt(attack, who, *arguments)
        assert re.search(f"refused: .*({REFUSED[attack.name]})", output), output
        assert not attack.targets or not reached(output), output


@pytest.mark.needs("cgroup2")  # without cgroups, podman refuses the host's processes
@pytest.mark.parametrize("attack", chosen(OPENED), ids=name)
def test_attack_works_without_isolation(attack, attempt):
    """The negative control: podman run --privileged, with the host's namespaces."""
    with aimed(attack) as (arguments, reached):
        output = attempt(attack, "root", *arguments, flags=SHARED)
        # This one need not go to another cgroup: it may write to the list of its own.
        own = attack.name == "cgroup_of_others"
        assert "worked: " in output and (reached(output) or own), output


@pytest.mark.needs("cgroup2")  # crun refuses a machine with both versions
@pytest.mark.parametrize("attack", chosen(OPEN), ids=name)
def test_open_attack_works_with_crun_as_well(attack, attempt, image, podman):
    """What podman's defaults leave open, its own runtime leaves open, too."""
    crun = Podman(podman.folder, pathlib.Path(shutil.which("crun") or "crun"))
    with aimed(attack) as (arguments, reached):
        for output in (
            attempt(attack, "root", *arguments),
            crun.run(*command(attack, "root", *arguments), image=image),
        ):
            assert "worked: " in output and reached(output), output


@pytest.fixture(scope="module")
def ethernet() -> Iterator[str]:
    """The path of a network namespace with a network card, which leads nowhere."""
    name = unique("net")
    shell(f"ip netns add {name} && ip -n {name} link add eth0 type bridge")
    yield f"/run/netns/{name}"
    shell(f"ip netns delete {name}")


def test_every_attack_is_tried_or_has_a_reason():
    """Every attack is here, or there is a reason why not."""
    here = {n.removeprefix("test_") for n in globals() if n.startswith("test_")}
    tried = {*REFUSED, *OPEN} | (here & set(ATTACKS))
    assert tried | set(NOT_HERE) == set(ATTACKS)
    assert not tried & set(NOT_HERE)


# ---- attacks that begin outside


@contextlib.contextmanager
def changed(podman: Podman, file: str, old: str, new: str) -> Iterator[Podman]:
    """Yields podman with a copy of the runtime in which these lines are changed."""
    copy = podman.folder / "changed"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(PROJECT / "steps", copy)
    source = (copy / file).read_text()
    assert source.count(old) == 1, f"{file} has {source.count(old)} times {old!r}"
    (copy / file).write_text(source.replace(old, new))
    try:
        yield Podman(podman.folder, copy / "11_oci/container.py")
    finally:
        shutil.rmtree(copy)


@pytest.mark.parametrize("who", WHO)
def test_leaked_descriptor(who, image, podman):
    """close_range(2): the caller has left the host's root directory open."""
    attack, root = ATTACKS["leaked_descriptor"], os.open("/", os.O_RDONLY)
    try:
        with secret() as (path, reached):
            options = {"image": image, "popen": {"pass_fds": [root]}}
            output = podman.run(*command(attack, who, path), **options)
            assert "Bad file descriptor" in output and not reached(output), output
    finally:
        os.close(root)


@pytest.mark.parametrize("who", WHO)
def test_session_keys(who, image, podman):
    """session-keyring(7): the runtime leaves its caller's session keyring."""
    attack, key, text = ATTACKS["session_keys"], unique("key"), unique("text")
    words, prefix = command(attack, who, key), session_with(key, text)
    output = podman.run(*words, image=image, prefix=prefix)
    assert "key not available" in output and text not in output, output
    kept = "isolation.py", "        linux.join_session_keyring()\n", "        pass\n"
    with changed(podman, *kept) as careless:
        assert text in careless.run(*words, image=image, prefix=prefix)


PROGRAM = "    hide_program()  # before the other imports, which take 20 ms\n"


@pytest.mark.parametrize("who", WHO)
def test_runtime_program(who, image, podman, tmp_path):
    """execve(2): the command /proc/self/exe is the runtime's own Python, here a copy of it."""
    python = tmp_path / "python3"
    tmp_path.chmod(0o755)
    shutil.copy(os.path.realpath("/usr/bin/python3"), python)
    words = command(ATTACKS["runtime_program"], who, program="/proc/self/exe")
    first = "11_oci/container.py", "#!/usr/bin/python3 -SE\n", f"#!{python} -SE\n"
    with changed(podman, *first) as careful:
        output = careful.run(*words, image=image)
        assert re.search(
            "refused: (Text file busy|Operation not permitted|Permission denied)",
            output,
        ), output
        assert stat.S_IMODE(python.stat().st_mode) == 0o755
        path = careful.container
        assert path.read_text().count(PROGRAM) == 1
        path.write_text(path.read_text().replace(PROGRAM, "    pass\n"))
        output = careful.run(*words, image=image)
        assert ("worked" in output) == (who == "root"), output
        assert (stat.S_IMODE(python.stat().st_mode) == 0o4755) == (who == "root")


def test_type_into_terminal(image, podman):
    """ioctl_tty(2): the terminal of the caller is not the container's, with -t or without."""
    for who in WHO:
        for flags in "", "--tty":
            text = unique("typed")
            attack = command(ATTACKS["type_into_terminal"], who, text)
            words = podman.argv(*attack, image=image, flags=flags)
            script = '"$@"; echo over; read -r line; echo "host reads <$line>"'
            line = ["/bin/sh", "-c", script, "sh", *map(str, words)]
            with contextlib.closing(Terminal(line)) as terminal:
                output = terminal.wait_for(r"(?s)(.*)over\r?\n", 120)[1]
                terminal.type("\n")
                assert terminal.wait_for("host reads <(.*)>")[1] == "", output
                assert "worked" in output or "refused" in output, output


DETACHED = '    linux.umount(".", linux.MNT_DETACH)\n'


@pytest.mark.parametrize("link", LINKS)
def test_image_of_links(link, busybox_image, podman):
    """pivot_root(2): a link of the image leads to a place in the image, because the host is gone
    when the runtime looks at it. Until then the host is at /.., as it stays if nobody removes
    it."""
    made = pathlib.Path("/var/tmp/fs")
    where, target = link.split()
    root = busybox_image
    shell(f"cd {root}; mkdir -p proc/self/cwd proc/self/var/tmp; rm -rf {where}")
    shell(f"ln -s {target} {root}/{where}")
    with secret() as (path, reached):
        output = podman.run("cat", f"/..{path}", image=root)
        assert "No such file" in output or "Error" in output, output
        assert not reached(output) and not made.exists(), output
        if link == LINKS[-1]:
            with changed(podman, "11_oci/inside.py", DETACHED, "") as careless:
                output = careless.run("/bin/busybox", "cat", f"/..{path}", image=root)
                assert reached(output), output


@pytest.fixture
def busybox_image() -> Iterator[pathlib.Path]:
    """A small image for this test alone."""
    path = pathlib.Path("/var/tmp", unique("image"))
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {path}")
    yield path
    shell(f"rm -rf --one-file-system {path}")


@pytest.mark.needs("cgroup2")
@pytest.mark.parametrize("who", WHO)
def test_processes(who, image, podman):
    """cgroups(7), pids.max: fork(2) fails, and the host keeps working."""
    attack = ATTACKS["processes"]
    words = command(attack, who)
    output = podman.run(*words, image=image, flags="--pids-limit 32")
    assert attack.says in output, output
    assert "worked" in podman.run(*words, image=image, flags="--pids-limit 500")
