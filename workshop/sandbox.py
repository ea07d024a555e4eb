"""A fence around a half-done runtime: whatever it mounts, renames, starts or leaves behind,
the host is as before.

It is made of what the steps are about. What runs behind it has namespaces of its own for
mounts, processes, network, host name, queues and cgroups, and limits. When its first process
ends, or is ended because it takes too long, the kernel takes away all the rest. What is on
disk is read-only, but for what the runtime has to change, and that is removed.
"""

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from workshop.errors import Failure

PROJECT = Path(__file__).resolve().parent.parent
sys.path.append(str(PROJECT / "steps"))
import linux

STATE = Path("/var/lib/workshop")
SCRATCH = STATE / "fence"  # what is behind the fences, on disk: removed with each
CGROUP = Path("/sys/fs/cgroup")
# Where the runtime under check lies, behind the fence: with a floor up from there as it is
# used to, and open to the ordinary users that some facts are about.
RUNTIME = Path("/tmp/learner/my/container.py")
USAGE = "usage"  # in a bench: what the runtime's --help has printed

NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWNET
NAMESPACES |= linux.CLONE_NEWUTS | linux.CLONE_NEWIPC
MS_REMOUNT, MS_SHARED = 0x20, 0x100000  # of mount(2), which no step needs
# Bytes: half of the machine's, and in no case more than a suite needs.
MEMORY = min(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, 2 << 30)
PROCESSES = 600
# Of each process, also where there is no cgroup v2: bytes of memory, of a file.
LIMITS = {resource.RLIMIT_DATA: MEMORY, resource.RLIMIT_FSIZE: 256 << 20}

_made = 0  # how many fences this process has made: for their names


class Fenced:
    """A function that runs behind a fence of its own.

    function: what it returns, fit for JSON, is what result() returns. bench: a directory that
    workbench() has made. seconds: after that it is ended.
    """

    def __init__(self, function, bench, seconds):
        global _made
        _made += 1
        self.name = f"{os.getpid()}-{_made}"
        self.scratch = SCRATCH / self.name
        self.cgroup = _make_cgroup(self.name)
        self.seconds, self.deadline = seconds, time.monotonic() + seconds
        self.late = False  # whether it was ended for taking too long
        self.status = None  # its exit status, 128 + N: it was killed by signal N
        self._said, self._said_all = b"", False
        self._pipe, end = os.pipe()
        flags, born_in = NAMESPACES, None
        try:
            for name in "tmp/learner", "var", "containers", "layers", "images":
                (self.scratch / name).mkdir(parents=True)
            for name in "tmp", "var":
                (self.scratch / name).chmod(0o1777)
            if self.cgroup:
                flags |= linux.CLONE_NEWCGROUP
                born_in = os.open(self.cgroup, os.O_RDONLY | os.O_DIRECTORY)
            sys.stdout.flush()
            sys.stderr.flush()
            self.pid = linux.clone(flags, born_in)
        except BaseException:
            os.close(self._pipe)
            os.close(end)
            self._remove()
            raise
        finally:
            if born_in is not None:
                os.close(born_in)
        if self.pid == 0:
            os.close(self._pipe)
            _live(function, end, self.scratch, bench, self.cgroup is not None)
        os.close(end)

    def fileno(self):
        """For select: there is something for more() to read."""
        return self._pipe

    def more(self):
        """Read what there is to read. Returns whether all has been said."""
        data = os.read(self._pipe, 65536)
        self._said += data
        self._said_all = not data
        return self._said_all

    def end(self):
        """End all that is behind the fence, and the fence. Idempotent."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            self.pid = None
            os.close(self._pipe)
            self._remove()

    def result(self, late=False):
        """Wait for the function's end, or its deadline, and end it. Returns what it has
        returned; None: it was late, or it was killed from behind the fence."""
        self.late = late
        try:
            while not (self.late or self._said_all):
                left = max(self.deadline - time.monotonic(), 0)
                if select.select([self], [], [], left)[0]:
                    self.more()
                else:
                    self.late = True
            if not self.late:
                self._wait()
        finally:
            self.end()
        try:
            return None if self.late else json.loads(self._said)
        except ValueError:
            return None

    def _wait(self):
        """Give the first process the time to see what the second has ended with."""
        pidfd = os.pidfd_open(self.pid)
        select.select([pidfd], [], [], 5)
        os.close(pidfd)

    def _remove(self):
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.cgroup:
            _remove_cgroup(self.cgroup)


def run(function, bench, seconds):
    """function() behind a fence: see Fenced. Returns (what it returned or None, whether it was
    late)."""
    fenced = Fenced(function, bench, seconds)
    result = fenced.result()
    return result, fenced.late


@contextlib.contextmanager
def workbench(source):
    """A directory for fences, in the block: what lies around RUNTIME, which has these bytes."""
    clean()
    bench = SCRATCH / f"{os.getpid()}-bench"
    for name in "my", "pycache":
        (bench / name).mkdir(parents=True)
    (bench / "steps").symlink_to(PROJECT / "steps")
    (bench / "my/container.py").write_bytes(source)
    (bench / "my/container.py").chmod(0o755)
    # busybox is a copy; debian's is too large for that, and only a mount point here.
    for root in STATE.glob("rootfs/*"):
        (bench / "rootfs" / root.name).mkdir(parents=True)
    if (STATE / "rootfs/busybox").is_dir():
        busybox = STATE / "rootfs/busybox"
        subprocess.run(["cp", "-a", busybox, bench / "rootfs"], check=True)
    try:
        yield bench
    finally:
        shutil.rmtree(bench, ignore_errors=True)


def watched(command, seconds, limit=1 << 20):
    """Run a command, to be called behind a fence: bounded in time (seconds) and in what it may
    print (bytes). Returns {"status", "out", "err"}; status None: it was ended."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        return {"status": 126, "out": "", "err": f"{error.strerror}\n"}
    assert process.stdout and process.stderr  # as asked for
    said = {process.stdout: b"", process.stderr: b""}
    open_ends, end = set(said), time.monotonic() + seconds
    while open_ends and sum(map(len, said.values())) < limit:
        ready = select.select(open_ends, [], [], max(end - time.monotonic(), 0))[0]
        if not ready:
            break
        for stream in ready:
            data = os.read(stream.fileno(), 65536)
            said[stream] += data
            if not data:
                open_ends.discard(stream)
    try:
        status = process.wait(0 if open_ends else max(end - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        status = None
    out, err = (text.decode(errors="replace") for text in said.values())
    return {"status": status, "out": out, "err": err}


def clean():
    """Remove what fences have left whose process was killed. Returns the paths."""
    removed = []
    for path in [*SCRATCH.glob("*-*"), *CGROUP.glob("workshop-fence-*")]:
        pid = path.name.removeprefix("workshop-fence-").partition("-")[0]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            if path.is_relative_to(CGROUP):
                _remove_cgroup(path)
            else:
                shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _make_cgroup(name):
    """Make a cgroup with limits, for all that is behind a fence. Returns its path; None where
    there is no cgroup v2 with these controllers."""
    try:
        have = (CGROUP / "cgroup.controllers").read_text().split()
    except OSError:
        return None
    if not {"cpu", "memory", "pids"} <= set(have):
        return None
    (CGROUP / "cgroup.subtree_control").write_text("+cpu +memory +pids")
    path = CGROUP / f"workshop-fence-{name}"
    path.mkdir()
    (path / "memory.max").write_text(str(MEMORY))
    (path / "memory.swap.max").write_text("0")
    (path / "pids.max").write_text(str(PROCESSES))
    return path


def _remove_cgroup(path):
    """Remove a cgroup and all below it, with what may run there."""
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")
    for _ in range(100):
        for place, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(place)
        if not path.exists():
            return
        time.sleep(0.02)  # the last of them is not quite dead
    raise Failure(f"{path} has processes that do not end")


# ---- behind the fence


def _live(function, end, scratch, bench, limited):
    """The life of the first process behind the fence. Never returns."""
    status = 1
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        _build(scratch, bench, limited)
        worker = os.fork()
        if worker == 0:
            for limit, value in LIMITS.items():
                resource.setrlimit(limit, (value, value))
            answer = json.dumps(function()).encode()
            while answer:
                answer = answer[os.write(end, answer) :]
            os._exit(0)
        os.close(end)
        pid = None
        while pid != worker:  # everybody's orphans are this process's
            pid, status = os.wait()
        status = os.waitstatus_to_exitcode(status)
        status = 128 - status if status < 0 else status
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _build(scratch, bench, limited):
    """Make the place behind the fence: what a runtime may change is a copy, the rest is the
    host's, read-only."""
    project = os.open(PROJECT, os.O_RDONLY | os.O_DIRECTORY)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("sysfs", "/sys", "sysfs")  # of this network namespace
    if limited:
        linux.mount("cgroup2", CGROUP, "cgroup2")
        # A cgroup that hands controllers down has no processes of its own: cgroups(7). The
        # name is systemd's for where process 1 is, and its tools know it.
        (CGROUP / "init.scope").mkdir()
        (CGROUP / "init.scope/cgroup.procs").write_text("0")
    linux.mount("proc", "/proc", "proc")  # of this pid namespace
    with contextlib.suppress(OSError):
        # As on a machine that has run for a while: small pids are a container's.
        Path("/proc/sys/kernel/ns_last_pid").write_text("1000")
    linux.mount("fence", "/dev/shm", "tmpfs", 0, "mode=1777")
    if os.path.isdir("/dev/mqueue"):
        linux.mount("mqueue", "/dev/mqueue", "mqueue")
    for place in "/run/workshop", "/run/netns":
        os.makedirs(place, exist_ok=True)
        linux.mount("fence", place, "tmpfs", 0, "mode=755")
    linux.mount(STATE, STATE, None, linux.MS_BIND)
    _show_read_only(bench, scratch / "tmp/learner")
    # Python keeps here what it has compiled: once for all fences, not at every start.
    _show(bench / "pycache", scratch / "tmp/learner/pycache")
    os.environ["PYTHONPYCACHEPREFIX"] = "/tmp/learner/pycache"
    # Images and layers that facts make are theirs; those that were there before, a runtime
    # has no reason to write to, unlike the root filesystems of steps 03 to 06.
    for layer in STATE.glob("layers/*"):
        (scratch / "layers" / layer.name).mkdir()
        _show_read_only(layer, scratch / "layers" / layer.name)
    for image in STATE.glob("images/*"):
        shutil.copy(image, scratch / "images")
    for source in "containers", "layers", "images":
        os.makedirs(STATE / source, 0o755, exist_ok=True)
        _show(scratch / source, STATE / source)
    # debian becomes a mount point here. busybox stays a plain directory, as both are without
    # a fence: pivot_root(2) refuses one that was not mounted first.
    for root in STATE.glob("rootfs/*"):
        if root.name != "busybox":
            _show(root, bench / "rootfs" / root.name)
    if (bench / "rootfs").is_dir():
        _show(bench / "rootfs", STATE / "rootfs")
    _show(scratch / "tmp", "/tmp")
    _show(scratch / "var", "/var/tmp")
    linux.mount("fence", SCRATCH, "tmpfs")  # nobody sees the others
    # The project may lie where now something else is.
    PROJECT.mkdir(parents=True, exist_ok=True)
    _show_read_only(f"/proc/self/fd/{project}", PROJECT)
    os.close(project)
    os.chdir(PROJECT)
    flags = MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY
    linux.mount(None, "/", None, flags)
    # As systemd has it, and as a runtime has to cope with it.
    linux.mount(None, "/", None, linux.MS_REC | MS_SHARED)
    links = "link set lo up\nlink add fence0 type bridge\n"
    subprocess.run(["ip", "-batch", "-"], input=links.encode(), check=True)


def _show(source, target):
    """Show a directory, with what is mounted below it, at a second place."""
    linux.mount(source, target, None, linux.MS_BIND | linux.MS_REC)


def _show_read_only(source, target):
    linux.mount(source, target, None, linux.MS_BIND)
    flags = MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY
    linux.mount(None, target, None, flags)
