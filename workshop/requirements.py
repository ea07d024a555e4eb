"""What each step needs from the kernel and the machine.

Most answers come from trying it out, in new namespaces and in a process that ends with them, or
in a directory or a cgroup that is removed afterwards. So nothing on the machine changes,
except that the first container with limits makes the cgroup workshop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import linux

from workshop import bounded, cgroups, images, procfs
from workshop.project import STATE, STEPS, Step
from workshop.staging import SCRATCH

ROOT = STATE / "rootfs/busybox"
TIMEOUT = 20  # seconds that each attempt may take
# On these, overlayfs can write, and owners can be mapped. Their names are those of stat(1).
GOOD_FILESYSTEMS = {"ext2/ext3", "xfs", "btrfs", "tmpfs"}
# The kernel's own mount points in /proc and /sys are empty, so a mount there hides nothing.
HIDE_NOTHING = """
    autofs binfmt_misc bpf cgroup cgroup2 configfs debugfs efivarfs fusectl nfsd pstore
    securityfs selinuxfs tracefs
""".split()

MOUNTS = """
mount -t proc proc /mnt
mount -t sysfs -o ro sysfs /mnt
mount -t devpts -o ptmxmode=666 devpts /mnt
mount -t mqueue mqueue /mnt
"""
NETWORK = """
ip link add workshop8 type bridge
ip link add workshop9 type veth peer name workshop7
nft add table ip t
nft 'add chain ip t c { type nat hook postrouting priority srcnat; }'
nft add rule ip t c masquerade
"""
# In the directory $1.
OVERLAY = """
mkdir "$1/doctor.$$"
cd "$1/doctor.$$"
trap 'cd /; rm -rf "$1/doctor.$$"' EXIT
mkdir lower upper work all
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work,userxattr none all
touch all/file
umount all
"""


@dataclasses.dataclass(frozen=True)
class Requirement:
    """Something that a step, and all steps after it, need."""

    step: str  # its name, or "all"
    name: str
    problem: Callable[[], str | None]  # returns None if the machine has it, or why not
    whole: bool = False  # it needs all requirements before it


def requirements() -> list[Requirement]:
    """Returns everything that is checked, in the order of the steps. The last requirement of
    each step is one of its containers."""
    mount, user = "mount -t tmpfs none /mnt", "--user --map-root-user"
    new = "--mount --pid --fork --net --ipc"
    found = [
        ("all", "x86_64 or aarch64", machine),
        ("all", "Linux 5.9 (clone3, close_range)", at_least(5, 9)),
        ("01_uts", "UTS and IPC namespaces", tries("--uts --ipc", "true")),
        ("02_pid", "PID namespaces", tries("--pid --fork", "true")),
        ("03_mnt", "mount namespaces", tries("--mount", mount)),
        ("03_mnt", "proc, sysfs, devpts and mqueue", tries(new, MOUNTS)),
        ("03_mnt", "a root filesystem", root_filesystem),
        ("04_net", "ip and nft", lambda: missing("ip", "nft")),
        ("04_net", "network namespaces, veth, bridge, NAT", tries("--net", NETWORK)),
        ("05_user", "user namespaces", tries(user, "true")),
        ("05_user", "proc in a user namespace", shows("proc", "/proc")),
        ("05_user", "sysfs in a user namespace", shows("sysfs", "/sys")),
        ("05_user", "Linux 5.12 (idmapped mounts)", at_least(5, 12)),
        ("05_user", f"idmapped mounts in {STATE}", idmapped),
        ("06_cgroup", "limits: cgroup v2 with cpu, memory, pids", controllers),
        ("06_cgroup", "limits for a new cgroup", limits),
        ("07_overlay", "Linux 5.19 (idmapped layers)", at_least(5, 19)),
        ("07_overlay", "an image", image),
        ("07_overlay", f"overlayfs in {STATE}", overlay),
        *overlay_of_user(),
    ]
    rows = [Requirement(*row) for row in found]
    for step in STEPS:
        name = f"a container of step {int(step.number)}"
        rows.append(Requirement(step.name, name, starts(step), whole=True))
    return sorted(rows, key=lambda row: (row.step != "all", row.step, row.whole))


def machine() -> str | None:
    name = platform.machine()
    return None if name in ("x86_64", "aarch64") else f"this is {name}"


def at_least(major: int, minor: int) -> Callable[[], str | None]:
    """Returns a check of the kernel's version."""

    def problem() -> str | None:
        version = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
        return None if version >= (major, minor) else f"this is {platform.release()}"

    return problem


def missing(*tools: str) -> str | None:
    absent = [tool for tool in tools if not shutil.which(tool)]
    return f"not installed: {', '.join(absent)}" if absent else None


def tries(namespaces: str, script: str, *words: str) -> Callable[[], str | None]:
    """Returns a check that runs a shell script in new namespaces, which are options of
    unshare(1). The first line of an error is the problem. The words are $1, $2…"""

    def problem() -> str | None:
        command = ["unshare", *namespaces.split(), "sh", "-ec", script, "sh", *words]
        return bounded.run(command, TIMEOUT).problem()

    return problem


def shows(kind: str, target: str) -> Callable[[], str | None]:
    """Returns a check that mounts a filesystem of this kind in a new user namespace. The
    kernel refuses that if a mount hides a part of the one at the target, which the new one
    would reveal: mount_too_revealing() in fs/namespace.c"""
    options = "-o ro" if kind == "sysfs" else ""
    namespaces = "--user --map-root-user --mount --pid --fork --net"
    mounts = tries(namespaces, f"mount -t {kind} {options} {kind} /mnt")

    def problem() -> str | None:
        found = mounts()
        hiding = [
            mount.target
            for mount in procfs.mounts("self")
            if mount.target.startswith(f"{target}/")
            and mount.kind not in HIDE_NOTHING
            and not mount.target.startswith(str(cgroups.ROOT))
        ]
        if not found or not hiding or "permission denied" not in found:
            return found
        return (
            f"a mount hides {hiding[0]}, as in many containers, so the kernel lets no user "
            f"namespace mount {kind}"
        )

    return problem


def root_filesystem() -> str | None:
    return None if ROOT.is_dir() else f"{ROOT} is missing: ./lab up creates it"


def image() -> str | None:
    path = images.IMAGES / "busybox"
    return None if path.is_file() else f"{path} is missing: ./lab up creates it"


def idmapped() -> str | None:
    """Tries what step 05 does with its root filesystem."""
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", "echo; read line"]
    place = ROOT if ROOT.is_dir() else STATE
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdin and process.stdout  # because of PIPE
            process.stdout.readline()  # now it has a map
            os.close(linux.idmapped(place, process.pid))
            process.stdin.close()
    except OSError as error:
        return on_filesystem(error.strerror, place)
    return None


def on_filesystem(problem: str | None, place: Path) -> str | None:
    """Returns a problem with files in a directory, and whether another filesystem is what
    helps."""
    kind = bounded.run(["stat", "-f", "-c", "%T", str(place)], TIMEOUT).out.strip()
    if not problem or kind in GOOD_FILESYSTEMS:
        return problem
    return f"{place} is on {kind}: it must be on ext4, xfs or btrfs"


def controllers() -> str | None:
    available = cgroups.available()
    if available is None:
        return (
            "/sys/fs/cgroup is not cgroup v2: --memory, --pids and --cpus do not work"
        )
    absent = sorted(cgroups.CONTROLLERS - available)
    return f"cgroup v2 lacks a controller: {', '.join(absent)}" if absent else None


def limits() -> str | None:
    """Tries what step 06 does: limits for a cgroup below one of its own."""
    if controllers():
        return "not tried"
    before = cgroups.handed_on(cgroups.ROOT)
    outer = cgroups.ROOT / f"workshop-doctor-{os.getpid()}"
    try:
        cgroups.make(outer / "container")
        (outer / "container/memory.max").write_text("64M")
    except OSError as error:
        return cgroups.why_not_handed_on(error)
    finally:
        if outer.exists():
            cgroups.remove(outer)
        with contextlib.suppress(OSError):
            cgroups.keep_back(cgroups.ROOT, cgroups.handed_on(cgroups.ROOT) - before)
    return None


def overlay() -> str | None:
    """Tries what step 07 does with its layers, in a place of this process."""
    place = SCRATCH / f"{os.getpid()}-doctor"
    try:
        place.mkdir(parents=True)
        return on_filesystem(tries("--mount", OVERLAY, str(place))(), STATE)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    finally:
        shutil.rmtree(place, ignore_errors=True)


def overlay_of_user() -> list[tuple[str, str, Callable[[], str | None]]]:
    """Returns the check for the user who has called sudo, whose images are in ~/.workshop,
    or nothing if that user is root."""
    try:
        user = pwd.getpwuid(int(os.environ["SUDO_UID"]))
    except (KeyError, ValueError):
        return []
    if user.pw_uid == 0:
        return []
    own = Path(user.pw_dir, ".workshop")
    place = own if own.is_dir() else own.parent

    def problem() -> str | None:
        command = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
        command += ["--init-groups", "unshare", "--user", "--map-root-user", "--mount"]
        command += ["sh", "-ec", OVERLAY, "sh", str(place)]
        return on_filesystem(bounded.run(command, TIMEOUT).problem(), place)

    return [("07_overlay", f"overlayfs in {place}, for {user.pw_name}", problem)]


def starts(step: Step) -> Callable[[], str | None]:
    """Returns a check that runs a container of a step, with everything that the machine must
    have for it. The last line of an error is the problem."""
    words = ["--net", "none"] if step.number >= "04" else []
    if step.number >= "06":
        words += ["--memory", "64M", "--pids", "32", "--cpus", "0.5"]
    words += ["busybox"] if step.number >= "03" else []

    def problem() -> str | None:
        command = [str(step.container), "run", *words, "true"]
        output = bounded.run(command, TIMEOUT)
        last = output.err.strip().splitlines()[-1:]
        return last[0] if output.status and last else output.problem()

    return problem
