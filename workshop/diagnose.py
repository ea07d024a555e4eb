"""What is the matter with a half-done runtime: starts it with a command that sleeps, behind a
fence, and compares what the kernel says of that command with what a step should have made of it.
"""

import collections
import os
import re
import stat
import subprocess
import time
from pathlib import Path

from workshop import procfs, sandbox
from workshop.sandbox import PROJECT, RUNTIME

# (the step that adds it, its name in /proc/PID/ns, the flag).
NAMESPACES = [
    ("01", "uts", "CLONE_NEWUTS"),
    ("01", "ipc", "CLONE_NEWIPC"),
    ("02", "pid", "CLONE_NEWPID"),
    ("03", "mnt", "CLONE_NEWNS"),
    ("04", "net", "CLONE_NEWNET"),
    ("05", "user", "CLONE_NEWUSER"),
    ("06", "cgroup", "CLONE_NEWCGROUP"),
]
WORDS = [  # (the step, a word that its USAGE needs)
    ("01", "--hostname NAME"),
    ("03", "IMAGE"),
    ("04", "--net bridge|none"),
    ("06", "--memory SIZE"),
    ("06", "--pids COUNT"),
    ("06", "--cpus CPUS"),
]
MOUNTS = {"/proc": "proc", "/sys": "sysfs", "/dev": "tmpfs", "/dev/pts": "devpts"}
MOUNTS |= {"/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/tmp": "tmpfs"}
DEVICES = "full null random tty urandom zero".split()
LINKS = "fd stdin stdout stderr ptmx".split()
GIVEN = {"memory": "64M", "pids": "32", "cpus": "0.5", "hostname": "looked-at"}
LIMITS = {"memory.max": str(64 << 20), "memory.swap.max": "0", "pids.max": "32"}
LIMITS |= {"cpu.max": "50000 100000"}


# With a mount table apart: it may ruin its own, but not that of who looks. And with a group
# that is to be dropped.
APART = ["setpriv", "--groups=6", "unshare", "--mount"]
APART += ["sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"]


ENDS = "your runtime ends before the command runs"


class Seen:
    """A container that sleeps: the runtime's pid, its own, its mounts."""

    def __init__(self, runtime, pid):
        self.runtime, self.pid = runtime, pid
        self.proc = Path(f"/proc/{pid}")
        self.mounts = procfs.mounts(pid)

    def mounted(self, target):
        """The topmost mount on target, or None."""
        return next((m for m in reversed(self.mounts) if m.target == target), None)


def findings(number, bench, seconds):
    """What step number is not like in the runtime on a bench: sentences, what comes first is
    most to the point. seconds: how long it may take to start."""
    told, late = sandbox.run(lambda: look(number, seconds), bench, seconds + 20)
    if told is None:
        why = "took too long" if late else "ended all that was around it"
        return [f"your runtime was started with `sleep` for its command, and {why}."]
    return told


def look(number, seconds):
    """Behind the fence: the sentences."""
    usage, name = sandbox.watched([str(RUNTIME), "--help"], seconds)["out"], os.uname()[1]
    missing = [w for step, w in WORDS if step <= number and w.split()[0] not in usage]
    if missing:
        return [f"{missing[0]} is not in USAGE, from which the command line is read."]
    seen, why_not = start(usage, seconds)
    if seen is None:
        return [why_not]
    told = list(host(seen, name))
    rules = [namespaces, host_name, mount_table, network, users, cgroup, layers]
    for step, rule in zip(
        ["00", "01", "03", "04", "05", "06", "07"], rules, strict=True
    ):
        if step <= number:
            told += rule(seen, number)
    return told


def isolation(bench, seconds):
    """The namespaces that a container of the runtime on a bench does not share with the host:
    {name: [the number of the host's, of the container's]}."""

    def compare():
        usage = sandbox.watched([str(RUNTIME), "--help"], seconds)["out"]
        seen, _ = start(usage, seconds)
        kinds = [
            kind for _, kind, _ in NAMESPACES if seen and not is_shared(seen, kind)
        ]
        return {
            kind: [procfs.namespace(kind), procfs.namespace(kind, seen.pid)]
            for kind in kinds
        }

    return sandbox.run(compare, bench, seconds + 20)[0] or {}


def start(usage, seconds):
    """Behind the fence, start a container that sleeps. Returns (it as a Seen, None), or (None,
    a sentence that says why there is none)."""
    if "--net" in usage:
        subprocess.run([PROJECT / "steps/network.sh", "on"], capture_output=True)
    words = ["run"]
    for option, value in GIVEN.items():
        limit = option in ("memory", "pids", "cpus")
        if f"--{option}" in usage and not (limit and not limits_can_be_set()):
            words += [f"--{option}", value]
    words += ["--net", "bridge"] if "--net" in usage else []
    words += ["busybox"] if "IMAGE" in usage else []
    errors = os.memfd_create("errors")
    process = subprocess.Popen(
        [*APART, RUNTIME, *words, "sleep", "1000"],
        stdin=subprocess.DEVNULL,
        stdout=errors,
        stderr=errors,
    )
    end, pid, child = time.monotonic() + seconds, None, None
    while pid is None and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
        for child in procfs.children(process.pid):
            if procfs.words(child)[:1] == ["sleep"]:
                pid = child
    if process.poll() is not None:
        os.lseek(errors, 0, os.SEEK_SET)
        said = os.read(errors, 60000).decode(errors="replace").strip()
        return None, why_it_ended(process.returncode, said)
    if pid is None:
        return None, why_it_waits(child)
    time.sleep(0.1)
    return Seen(process.pid, pid), None


NO_ROOT = (
    "the kernel refuses what child does, since it is not root of its map: os.setgid(0) and "
    "os.setuid(0) come right after process.await_parent(), before anything that needs root."
)
REFUSED = {  # what the kernel refuses on the way, as a pattern: what is most often behind it
    "pivot_root: ": (
        "the kernel refuses pivot_root: the new root has to be a mount point, and neither it "
        "nor / may be shared any more. Is / made private first, with MS_REC as well, and the "
        "image mounted on /mnt?"
    ),
    "mount_setattr: Invalid argument": (
        "the kernel refuses mount_setattr: are the user namespace's uid_map and gid_map written "
        "before linux.idmapped asks for them?"
    ),
    "not permitted: '/proc/.*/gid_map': '0 [1-9]": (
        "an ordinary user may write a gid_map only after deny in /proc/PID/setgroups."
    ),
    "not permitted: '/proc/.*/[ug]id_map'": (
        "the kernel refuses the map: is CLONE_NEWUSER among the flags? And is it parent who "
        "writes it, once? The child has no say over the host's ids."
    ),
    "(mount|open_tree): Permission denied: '/var/lib/workshop": (
        "the child is user 100000 by now, who may not enter /var/lib/workshop: parent opens the "
        "image, with linux.idmapped, and hands it over, with process.wait(container, trees). "
        "process.await_parent() returns it."
    ),
    r"line \d+: (Operation not permitted|Invalid argument)": (
        "until its map is written, child is nobody and can become nobody else: os.setgid(0) and "
        "os.setuid(0) come after process.await_parent(), and os.setgroups([]) before these, but "
        "only if BY_ROOT. The numbers are those inside."
    ),
    "RTNETLINK answers: Operation not permitted": NO_ROOT,
    "Value too large for defined data type": NO_ROOT,
}


def why_it_ended(status, said):
    if "Traceback" in said:
        return f"your runtime raises{where_raised(said)}: {said.splitlines()[-1]}"
    if why := why_refused(said):
        return why
    last = said.splitlines()[-1].removeprefix("container.py: ") if said else ""
    told = f"it says: {last}" if last else "it says nothing"
    return f"{ENDS} (status {status}); {told}"


def why_refused(said):
    """What is most often behind a refusal of the kernel's that a runtime has told of; or None."""
    return next((why for what, why in REFUSED.items() if re.search(what, said)), None)


def where_raised(said):
    """Of a traceback: the last line of the learner's that is in it, as ", line 12"."""
    lines = re.findall(r'container\.py", line (\d+)', said)
    return f", line {lines[-1]}" if lines else ""


def why_it_waits(child):
    if child is None:
        return "your runtime starts no child: process.start does, called by parent."
    return (
        "your child never becomes the command. Does it wait in process.await_parent(), while "
        "the parent does not call process.wait()? Does it end in process.execute()?"
    )


def host(seen, name):
    """What it has done to the host, which was called name."""
    if os.uname().nodename != name and not is_shared(seen, "uts"):
        yield (
            "it has renamed the host: linux.sethostname changes the namespace of who calls it. "
            "That has to be child, not parent."
        )
    before, now = (
        collections.Counter(mount.target for mount in procfs.mounts(pid))
        for pid in ("self", seen.runtime)
    )
    if before != now and not is_shared(seen, "mnt"):
        place, what = (
            next(iter(now - before), None),
            "shows as well what child mounts on",
        )
        if place is None:
            place, what = next(iter(before - now)), "has lost what was mounted on"
        yield (
            f"the host {what} {place}: before it changes any mount, child has to make / "
            "private, with MS_REC and MS_PRIVATE."
        )


def namespaces(seen, number):
    for step, kind, flag in NAMESPACES:
        if step <= number and is_shared(seen, kind):
            told = (
                f"your container's {kind} namespace is the host's: is {flag} among the "
            )
            told += "flags that process.start gets?"
            yield told + (
                " A `=` in place of `|=` loses others." if number > "01" else ""
            )


def is_shared(seen, kind):
    """Whether a container has its runtime's namespace."""
    return procfs.namespace(kind, seen.pid) == procfs.namespace(kind, seen.runtime)


def host_name(seen, number):
    name = nsenter(seen.pid, "--uts", "hostname").strip()
    if name == GIVEN["hostname"]:
        return
    if name == os.uname().nodename:
        yield (
            "its host name is the host's: a new namespace starts as a copy. Does child call "
            "linux.sethostname, before process.execute?"
        )
    else:
        yield f"asked for --hostname {GIVEN['hostname']}, your container is called {name}."


def mount_table(seen, number):
    if is_shared(seen, "mnt"):
        return  # which has been told, and explains all the rest
    root, host = os.stat(seen.proc / "root"), os.stat("/")
    if (root.st_dev, root.st_ino) == (host.st_dev, host.st_ino):
        yield "its root is the host's /: has linux.pivot_root changed it?"
        return
    if any(tag.startswith("shared:") for m in seen.mounts for tag in m.tags):
        yield (
            "its mounts are still shared with the host's. The first thing that child does is "
            "to make / private, with MS_REC and MS_PRIVATE."
        )
    if sum(m.target == "/" for m in seen.mounts) > 1:
        yield (
            'the old root is still mounted at /: linux.umount("/", linux.MNT_DETACH) '
            "takes it away."
        )
    for target, kind in MOUNTS.items():
        mount = seen.mounted(target)
        if mount is None or mount.kind != kind:
            yield f"nothing of type {kind} is mounted on {target} inside."
        elif target != "/sys" and "nosuid" not in mount.options.split(","):
            yield f"{target} is mounted without linux.MS_NOSUID."
        elif target == "/sys" and "ro" not in mount.options.split(","):
            yield "/sys can be written to: it is to be mounted with linux.MS_RDONLY."
    for option, target in ("mode=755", "/dev"), ("ptmxmode=666", "/dev/pts"):
        mount = seen.mounted(target)
        if mount and option not in mount.data.split(","):
            yield f"{target} is mounted without the option {option}."
    for name in DEVICES:
        path = seen.proc / "root/dev" / name
        if not path.exists() or not stat.S_ISCHR(path.stat().st_mode):
            yield f"/dev/{name} inside is no device: the host's is to be mounted on it."
            break
    for name in LINKS:
        if not os.path.islink(seen.proc / "root/dev" / name):
            yield f"the link /dev/{name} is missing inside."
    cwd = os.stat(seen.proc / "cwd")
    if (cwd.st_dev, cwd.st_ino) != (root.st_dev, root.st_ino):
        yield 'its working directory is not the new root: os.chdir("/") at the end.'


def network(seen, number):
    links = nsenter(seen.pid, "--net", "ip", "-o", "link")
    if not re.search(r": lo: <[^>]*\bUP\b", links):
        yield 'its loopback device is down: linux.link_up("lo") in child.'
    if " eth0@" not in links:
        yield (
            "with --net bridge it has no eth0: does parent call connect, with the pid of the "
            "container?"
        )
        return
    address = f"100.{64 + (seen.pid >> 16)}.{seen.pid >> 8 & 255}.{seen.pid & 255}/10"
    if f" {address} " not in nsenter(seen.pid, "--net", "ip", "-o", "address"):
        yield f"eth0 does not have the address {address}, 100.64.0.0 plus the pid."
    if "default via 100.64.0.1" not in nsenter(seen.pid, "--net", "ip", "route"):
        yield "it has no default route: via 100.64.0.1, the bridge."
    if not seen.mounted("/etc/resolv.conf"):
        yield "nothing is mounted on /etc/resolv.conf: /run/workshop/dns has the servers."


def users(seen, number):
    for name in "uid_map", "gid_map":
        found = (seen.proc / name).read_text().split()
        if found != ["0", "100000", "65536"]:
            what = f"says {' '.join(found)}" if found else "is empty"
            yield f"its {name} {what}; by root it is to be 0 100000 65536."
            return
    status = (seen.proc / "status").read_text()
    for line, call in ("Uid", "os.setuid(0)"), ("Gid", "os.setgid(0)"):
        found = re.findall(rf"^{line}:\s+(.*)$", status, re.MULTILINE)
        ids = set(" ".join(found).split())
        if ids != {"100000"}:
            yield f"it is not root of its map ({line} {' '.join(ids)}): {call} in child."
    if re.search(r"^Groups:[ \t]*\d", status, re.MULTILINE):
        yield (
            "it has kept the caller's groups: os.setgroups([]) in child, where os.getuid() is "
            "65534 for a while, whoever has started it."
        )
    owner = os.stat(seen.proc / "root/bin").st_uid
    if owner != 100000:
        yield (
            f"the image's files belong to {owner} of the host, who is nobody inside: "
            "linux.idmapped shows them with the map applied."
        )


def limits_can_be_set():
    return os.path.exists("/sys/fs/cgroup/cgroup.subtree_control")


def cgroup(seen, number):
    if not limits_can_be_set():
        if number == "06":
            yield "this machine has no cgroup v2: step 06 needs it. `workshop doctor` tells more."
        return
    place = procfs.cgroup(seen.pid)
    expected = f"/workshop/{seen.runtime}"
    if place != expected:
        yield (
            f"it is in the cgroup {place}, not in {expected}: does process.start get "
            "cgroup=, and does process.temporary_directory make it?"
        )
        return
    for name, value in LIMITS.items():
        path = Path(f"/sys/fs/cgroup{place}/{name}")
        found = (
            path.read_text().strip() if path.exists() else "nothing: it is not there"
        )
        if found != value:
            yield f"{name} of its cgroup says {found!r}; asked for was {value!r}."
            return
    if not seen.mounted("/sys/fs/cgroup"):
        yield "nothing of type cgroup2 is mounted on /sys/fs/cgroup inside."


def layers(seen, number):
    root = seen.mounted("/")
    if root.kind != "overlay":
        yield f"its root is of type {root.kind}, not overlay: is the stack mounted on /mnt?"
        return
    options = dict(word.partition("=")[::2] for word in root.data.split(","))
    if "upperdir" not in options:
        yield "its overlay has no upperdir, and cannot be written to."
    if "userxattr" not in options:
        yield "its overlay is mounted without userxattr: whiteouts of layers do not count."
    box = sandbox.STATE / "containers" / str(seen.runtime) / "upper"
    if not box.is_dir():
        yield f"its thin layer should be {box}, which is not there."


def nsenter(pid, *words):
    """What a command prints in a namespace of the container's."""
    command = ["nsenter", "--target", str(pid), *words]
    return subprocess.run(command, capture_output=True, text=True).stdout
