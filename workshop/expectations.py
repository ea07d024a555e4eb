"""What a container should have after each step. Every rule looks at a container whose command
is sleep, and yields a Finding for each thing that the container lacks."""

from __future__ import annotations

import collections
import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from workshop import cgroups, procfs
from workshop.namespaces import NAMESPACES
from workshop.procfs import Mount
from workshop.project import STATE
from workshop.topics import Finding

# The options that the container is started with, unless its runtime does not have them yet.
GIVEN = {"memory": "64M", "pids": "32", "cpus": "0.5", "hostname": "looked-at"}
LIMITS = {"memory.max": str(64 << 20), "memory.swap.max": "0", "pids.max": "32"}
LIMITS |= {"cpu.max": "50000 100000"}
MOUNTS = {"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs", "/dev/pts": "devpts"}
MOUNTS |= {"/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/tmp": "tmpfs"}
MOUNT_OPTIONS = {"/dev": "mode=755", "/dev/pts": "ptmxmode=666"}
DEVICES = "full null random tty urandom zero".split()
LINKS = "fd stdin stdout stderr ptmx".split()
USER = 100000  # root of the container, as the host counts


class Seen:
    """A container that sleeps: the pids of its runtime and of its first process, as the host
    counts, and its mounts. `plain`: it was started without a network and limits."""

    def __init__(self, runtime: int, pid: int, plain: bool = False):
        self.runtime, self.pid, self.plain = runtime, pid, plain
        self.proc = Path(f"/proc/{pid}")
        self.mounts: list[Mount] = procfs.mounts(pid)

    def mounted(self, target: str) -> Mount | None:
        """Returns the topmost mount on a directory, if there is one."""
        return next((m for m in reversed(self.mounts) if m.target == target), None)

    def shares(self, kind: str) -> bool:
        """Returns whether the container is in the same namespace as its runtime."""
        inside, outside = (procfs.namespace(kind, p) for p in (self.pid, self.runtime))
        return inside == outside

    def ask(self, namespace: str, *command: str) -> str:
        """Returns what a command of the host's prints in the container's --uts or --net
        namespace. nsenter(1)"""
        words = ["nsenter", f"--target={self.pid}", namespace, *command]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def limits_can_be_set() -> bool:
    """Returns whether there is a cgroup v2."""
    return cgroups.available() is not None


def host(seen: Seen, name: str) -> Iterator[Finding]:
    """Looks at the host, which was called `name` before."""
    if os.uname().nodename != name and not seen.shares("uts"):
        yield Finding(
            "host name",
            "your runtime has renamed the host: linux.sethostname changes the namespace of the process "
            "that calls it, so child must call it, not parent.",
        )
    before, now = (
        collections.Counter(mount.target for mount in procfs.mounts(pid))
        for pid in ("self", seen.runtime)
    )
    if before == now or seen.shares("mnt"):
        return
    added, lost = next(iter(now - before), None), next(iter(before - now), None)
    change = f"the host also has the mount on {added}, which child has made"
    if added is None:
        change = f"the host has lost the mount on {lost}"
    yield Finding(
        "propagation",
        f"{change}: before child changes any mount, it must make / private, with MS_REC and "
        "MS_PRIVATE.",
    )


def namespaces(seen: Seen, number: str) -> Iterator[Finding]:
    """Looks at the namespaces of all steps so far."""
    for namespace in NAMESPACES:
        if namespace.step <= number and seen.shares(namespace.kind):
            # Of an earlier step: it was there before.
            lost = " A `=` in place of `|=` drops the others."
            lost = lost if namespace.step < number else ""
            yield Finding(
                namespace.flag_name,
                f"your container's {namespace.kind} namespace is the host's: is "
                f"{namespace.flag_name} among the flags of process.start?{lost}",
            )


def host_name(seen: Seen, number: str) -> Iterator[Finding]:
    """Looks at what step 01 sets."""
    name = seen.ask("--uts", "hostname").strip()
    if name == os.uname().nodename:
        yield Finding(
            "host name",
            "the container's host name is the host's, because a new namespace starts as a copy. Does child "
            "call linux.sethostname, before process.execute?",
        )
    elif name != GIVEN["hostname"]:
        yield Finding(
            "host name",
            f"started with --hostname {GIVEN['hostname']}, your container is called {name}.",
        )


def files(seen: Seen, number: str) -> Iterator[Finding]:
    """Looks at what step 03 mounts and makes."""
    if seen.shares("mnt"):
        return  # another rule says so, and it explains everything here
    root, outside = os.stat(seen.proc / "root"), os.stat("/")
    if os.path.samestat(root, outside):
        yield Finding(
            "root",
            "the container's root is the host's /: does child call linux.pivot_root?",
        )
        return
    if any(tag.startswith("shared:") for m in seen.mounts for tag in m.tags):
        yield Finding(
            "propagation",
            "the container's mounts are still shared with the host's. The first thing that child must do "
            "is to make / private, with MS_REC and MS_PRIVATE.",
        )
    if sum(mount.target == "/" for mount in seen.mounts) > 1:
        yield Finding(
            "old root",
            'the old root is still mounted at /: linux.umount("/", linux.MNT_DETACH) '
            "removes it.",
        )
    yield from mounts(seen)
    yield from devices(seen)
    if not os.path.samestat(os.stat(seen.proc / "cwd"), root):
        yield Finding(
            "working directory",
            "the command's working directory is not the new root: after the umount, call "
            'os.chdir("/").',
        )


def mounts(seen: Seen) -> Iterator[Finding]:
    """Looks at the filesystems that programs expect, and at their options."""
    for target, kind in MOUNTS.items():
        mount = seen.mounted(target)
        if mount is None or mount.kind != kind:
            yield Finding(
                target, f"nothing of type {kind} is mounted on {target} inside."
            )
        elif is_hidden(seen, mount):
            yield Finding(
                target,
                f"{covers(seen, target)}: attach a directory before those in it.",
            )
        elif target != "/sys" and "nosuid" not in mount.options.split(","):
            yield Finding("nosuid", f"{target} is mounted without the option nosuid.")
        elif target == "/sys" and "ro" not in mount.options.split(","):
            text = "/sys can be written to: mount it with the option ro."
            yield Finding("read-only", text)
    for target, option in MOUNT_OPTIONS.items():
        mount = seen.mounted(target)
        if mount and option not in mount.data.split(","):
            yield Finding(option, f"{target} is mounted without the option {option}.")


def is_hidden(seen: Seen, mount: Mount) -> bool:
    """Returns whether a path inside leads to something else than the mount on it."""
    try:
        device = os.stat(f"{seen.proc}/root{mount.target}").st_dev
    except FileNotFoundError:
        return True
    return mount.device != f"{os.major(device)}:{os.minor(device)}"


def covers(seen: Seen, target: str) -> str:
    """Returns what hides a mount, and all others that the same directory hides."""
    above = str(Path(target).parent)
    if not seen.mounted(above) or above == "/":
        return f"{target} is mounted, but something that is mounted later hides it"
    hidden = [
        mount.target
        for mount in seen.mounts
        if mount.target.startswith(f"{above}/")
        and mount.target in MOUNTS
        and is_hidden(seen, mount)
    ]
    *others, last = hidden
    names = f"{', '.join(others)} and {last}" if others else last
    return (
        f"{above} was attached after {names}, and covers {'them' if others else 'it'}"
    )


def devices(seen: Seen) -> Iterator[Finding]:
    """Looks at /dev."""
    for name in DEVICES:
        path = seen.proc / "root/dev" / name
        if not path.exists() or not stat.S_ISCHR(path.stat().st_mode):
            yield Finding(
                "devices",
                f"/dev/{name} inside is not a device: attach a tree of the host's to it, from "
                "linux.open_tree.",
            )
            break
    for name in LINKS:
        if not os.path.islink(seen.proc / "root/dev" / name):
            yield Finding("links", f"the link /dev/{name} is missing inside.")
            break


def network(seen: Seen, number: str) -> Iterator[Finding]:
    """Looks at what step 04 connects."""
    links = seen.ask("--net", "ip", "-o", "link")
    if not re.search(r": lo: <[^>]*\bUP\b", links):
        yield Finding(
            "loopback",
            'the loopback device in the container is down: call linux.link_up("lo") in child.',
        )
    if seen.plain:
        return
    if " eth0@" not in links:
        yield Finding(
            "cable",
            "the container has no eth0, although it was started with --net bridge: does parent call "
            "connect, with the pid of the container?",
        )
        return
    address = f"100.{64 + (seen.pid >> 16)}.{seen.pid >> 8 & 255}.{seen.pid & 255}/10"
    found = re.findall(r" eth0 +inet (\S+)", seen.ask("--net", "ip", "-o", "address"))
    if address not in found:
        yield Finding(
            "address",
            f"in a container with the pid {seen.pid}, eth0 has {' and '.join(found) or 'no address'}, "
            f"but {address} is 100.64.0.0 plus the pid.",
        )
    if "default via 100.64.0.1" not in seen.ask("--net", "ip", "route"):
        yield Finding(
            "route",
            "the container has no default route: add one via 100.64.0.1, the bridge.",
        )
    if not seen.mounted("/etc/resolv.conf"):
        yield Finding(
            "name servers",
            "nothing is mounted on /etc/resolv.conf: /run/workshop/dns lists the name servers.",
        )


def users(seen: Seen, number: str) -> Iterator[Finding]:
    """Looks at what step 05 maps."""
    for name in "uid_map", "gid_map":
        found = procfs.read(seen.proc / name).split()
        if found != ["0", str(USER), "65536"]:
            problem = f"says {' '.join(found)}" if found else "is empty"
            yield Finding(
                "maps",
                f"the container's {name} {problem}; started by root, it must be 0 {USER} 65536.",
            )
            return
    status = procfs.status(seen.pid)
    for line, call in ("Uid", "os.setuid(0)"), ("Gid", "os.setgid(0)"):
        if {*status[line]} != {str(USER)}:
            ids = " ".join(dict.fromkeys(status[line]))
            yield Finding(
                "ids",
                f"the command is not root in its user namespace ({line} {ids}): call {call} in "
                "child.",
            )
    if status["Groups"]:
        yield Finding(
            "groups",
            "the command still has the caller's groups: call os.setgroups([]) in child. (Until the map "
            "is written, os.getuid() is 65534 there, no matter who started the container.)",
        )
    owner = os.stat(seen.proc / "root/bin").st_uid
    if owner != USER:
        yield Finding(
            "owners",
            f"the image's files belong to the host's user {owner}, who is the user nobody inside: "
            "linux.idmapped shows them with the map applied, in a tree that process.wait hands "
            "over: process.wait(container, trees).",
        )


def cgroup(seen: Seen, number: str) -> Iterator[Finding]:
    """Looks at the limits of step 06."""
    if not limits_can_be_set():
        if number == "06":
            text = "this machine has no cgroup v2, which step 06 needs: see `workshop doctor`."
            yield Finding("limits", text)
        return
    if seen.plain:
        return
    path, expected = procfs.cgroup(seen.pid), f"/workshop/{seen.runtime}"
    if path != expected:
        yield Finding(
            "limits",
            f"the container is in the cgroup {path}, not in {expected}: does process.temporary_directory "
            "make that one, and does process.start get it as cgroup=?",
        )
        return
    for name, value in LIMITS.items():
        file = Path(f"{cgroups.ROOT}{path}/{name}")
        if not file.exists():
            yield Finding("limits", f"the container's cgroup has no file {name}.")
            return
        found = file.read_text().strip()
        if found != value:
            yield Finding(
                name,
                f"{name} of the container's cgroup says {found!r}, but {value!r} was asked for.",
            )
    if not seen.mounted("/sys/fs/cgroup"):
        text = "nothing of type cgroup2 is mounted on /sys/fs/cgroup inside."
        yield Finding("/sys/fs/cgroup", text)


def layers(seen: Seen, number: str) -> Iterator[Finding]:
    """Looks at the overlay of step 07."""
    root = seen.mounted("/")
    kind = root.kind if root else "unknown"
    if root is None or kind != "overlay":
        text = f"the container's root is of type {kind}, not overlay: is the stack mounted on /mnt?"
        yield Finding("overlay", text)
        return
    options = dict(word.partition("=")[::2] for word in root.data.split(","))
    if "upperdir" not in options:
        text = (
            "the container's overlay has no upperdir, so nothing can be written to it."
        )
        yield Finding("overlay", text)
    if "userxattr" not in options:
        yield Finding(
            "whiteouts",
            "the container's overlay is mounted without userxattr, so the whiteouts of layers have no "
            "effect.",
        )
    if (owner := os.stat(seen.proc / "root").st_uid) != USER:
        yield Finding(
            "owners",
            f"the container's root directory belongs to the host's user {owner}, because its own directory, "
            "with upper and work, lacks the map: linux.idmapped for the container's own "
            "directory, too, and for every layer.",
        )
    upper = STATE / "containers" / str(seen.runtime) / "upper"
    if not upper.is_dir():
        text = f"the container's thin layer should be {upper}, which does not exist."
        yield Finding("thin layer", text)


# (the number of the step that they belong to, the rule)
RULES: list[tuple[str, Callable[[Seen, str], Iterator[Finding]]]] = [
    ("00", namespaces),
    ("01", host_name),
    ("03", files),
    ("04", network),
    ("05", users),
    ("06", cgroup),
    ("07", layers),
]
