#!/usr/bin/env python3
"""Runs the test suite on this machine's own kernel, without a VM: about 15 times faster than
in an emulated one.

    sudo tests/native.py [--seconds N] [PYTEST ARGUMENT...]
    sudo tests/native.py --unit [PYTEST ARGUMENT...]

It runs the facts that any Linux kernel can show: --where native. The others would fail, or do
harm, for example a fork bomb that nothing stops here; only `--where vm` runs them.
With --unit it runs tests/unit, as an unprivileged user, in a namespace without a
network. It calls `LAB=local ./lab test` in new namespaces for mounts, processes,
network, IPC and host name. There the project is read-only, as in the VM, and the suite
has its own copies of /var/lib/workshop, /tmp, /var/tmp, /run and the home directory.
However this script ends, everything that it started ends too, so several can run side
by side with different files.

It leaves behind Debian packages, the files of LAB=local in LAB_DIR/native (LAB_DIR:
.lab), and an empty /var/lib/workshop. The exit status is pytest's, or 1 if the time was
up.
"""

import argparse
import contextlib
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
from host.local_root import installed
from host.packages import INSTALL, UPDATE

LAB_DIR = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab").absolute()
STATE = pathlib.Path("/var/lib/workshop")  # where the steps look for root filesystems
# A lab of its own, so that it need not wait for another ./lab, which can hold the lock
# for minutes.
OWN = LAB_DIR / "native"
ROOTS = OWN / "state"  # what is copied to STATE
NAMESPACES = ["--mount", "--pid", "--net", "--ipc", "--uts"]
REGISTRY = ["docker-registry", "podman", "skopeo"]  # what the facts about images need
SERVICE = "/etc/systemd/system/docker-registry.service"
# Where the user nobody can reach the file that LAB_COMMANDS names.
UNIT_COMMANDS = pathlib.Path("/tmp/commands")
# The kernel kills the command that follows when the process that started it dies.
DIES_WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def main() -> int:
    """Prepares the environment and runs the suite. Returns the exit status."""
    parser = argparse.ArgumentParser(
        usage="tests/native.py [--seconds N] [PYTEST ARGUMENT...]", allow_abbrev=False
    )
    text = "stop the suite after this many seconds (1200)"
    parser.add_argument("--seconds", type=int, default=1200, metavar="N", help=text)
    text = "run tests/unit instead, without root"
    parser.add_argument("--unit", action="store_true", help=text)
    options, words = parser.parse_known_args()
    if os.geteuid() != 0:
        parser.error("the suite starts containers, so it needs root: try sudo")
    for number in signal.SIGTERM, signal.SIGHUP:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    begin = time.monotonic()
    prepare()
    with folder() as run:
        copy = ["cp", "-a", "--reflink=auto", str(ROOTS), str(run / "state")]
        subprocess.run(copy, check=True)
        print(f"native: ready after {time.monotonic() - begin:.0f} s", flush=True)
        if options.unit:
            words = ["--unit", *words]
        elif not any(word.startswith("--where") for word in words):
            words = [*words, "--where", "native"]
        inside = [sys.executable, "-B", __file__, "--inside", str(run)]
        command = [*DIES_WITH_US, "unshare", *NAMESPACES, "--fork", "--kill-child"]
        command += ["--mount-proc", *inside, *words]
        with subprocess.Popen(command) as process:
            try:
                return process.wait(options.seconds)
            except subprocess.TimeoutExpired:
                print(f"native: ended after {options.seconds} s", file=sys.stderr)
                return 1
            finally:
                process.kill()


def prepare() -> None:
    """Installs what LAB=local needs, with root filesystems in ROOTS. This needs the network
    unless everything is there."""
    for path in STATE, ROOTS, OWN / "log":
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = OWN / "log/native.log"
    script = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
    words = [ROOTS, STATE, sys.executable, PROJECT / "host", "local-root", "prepare"]
    words += [OWN / "local"]
    command = [*DIES_WITH_US, "unshare", "--mount", "sh", "-ec", script, "sh"]
    command += map(str, words)
    with open(OWN / "prepare.lock", "w") as lock, open(log, "w+") as output:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
        if done.returncode:
            output.seek(0)
            last = "".join(output.readlines()[-12:])
            sys.exit(f"{last}native: preparing LAB=local failed; its log is {log}")
        if not installed(REGISTRY):
            # Its service would listen on every address. The facts start their own.
            with contextlib.suppress(FileExistsError):
                os.symlink("/dev/null", SERVICE)
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
            for command in UPDATE, [*INSTALL, *REGISTRY]:
                subprocess.run(
                    command, check=True, stdout=output, stderr=output, env=quiet
                )


@contextlib.contextmanager
def folder() -> Iterator[pathlib.Path]:
    """Makes a directory for this run, and removes it afterwards. First removes those of
    runs that were killed."""
    for old in OWN.glob("run.*"):
        if not os.path.exists(f"/proc/{old.suffix[1:]}"):
            remove(old)
    run = OWN / f"run.{os.getpid()}"
    run.mkdir(mode=0o755)
    try:
        yield run
    finally:
        remove(run)


def remove(path: pathlib.Path) -> None:
    """Removes a directory of a run, whose last processes may be about to end."""
    for _ in range(20):
        words = ["rm", "-rf", "--one-file-system", str(path)]
        if subprocess.run(words, stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.2)
    print(f"native: {path} cannot be removed", file=sys.stderr)


# ---- in the namespaces


def inside(run: pathlib.Path, words: list[str]) -> int:
    """Sets up the namespaces, then runs the suite. This is process 1 there. Returns
    pytest's exit status."""
    build(run)
    # If a shell started us with &, we ignore these signals, but facts send them.
    for number in signal.SIGINT, signal.SIGQUIT:
        signal.signal(number, signal.default_int_handler)
    environment = {"LAB": "local", "LAB_DIR": str(OWN), "HOME": str(run / "home")}
    environment |= {"LANG": "C.UTF-8", "TERM": "xterm"}
    environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    # These files must be in LAB_DIR: everything else is read-only here, or temporary.
    for name in "WORKSHOP_FULL", "WORKSHOP_ALPINE", "LAB_COMMANDS":
        if name in os.environ:
            environment[name] = os.environ[name]
    command, place = [str(PROJECT / "lab"), "test", *words], str(PROJECT)
    if words[0] == "--unit":
        command, place = unit(words[1:])
        environment["HOME"] = "/tmp"
        if "LAB_COMMANDS" in environment:
            environment["LAB_COMMANDS"] = str(UNIT_COMMANDS)
    suite = subprocess.Popen(command, env=environment, cwd=place)
    pid = None
    while pid != suite.pid:  # process 1 also waits for every orphan
        pid, status = os.wait()
    status = os.waitstatus_to_exitcode(status)
    return 128 - status if status < 0 else status


def unit(words: list[str]) -> tuple[list[str], str]:
    """Returns the command that runs tests/unit as the user nobody, and the directory to
    run it in. That user can reach what is in /tmp, no matter where the project, the virtual
    environment and the list of commands are."""
    places = {make("/tmp/project"): PROJECT, make("/tmp/venv"): OWN / "local/venv"}
    if log := os.environ.get("LAB_COMMANDS"):
        UNIT_COMMANDS.touch()
        places[UNIT_COMMANDS] = pathlib.Path(log)
    for target, source in places.items():
        subprocess.run(["mount", "--bind", source, target], check=True)
    command = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    command += ["/tmp/venv/bin/python", "-B", "-m", "pytest", "-p", "no:cacheprovider"]
    return [*command, "tests/unit", *words], "/tmp/project"


def build(run: pathlib.Path) -> None:
    """Mounts the suite's own directories, in this mount namespace only."""
    kept = [os.open(path, os.O_PATH) for path in (PROJECT, LAB_DIR, "/sys/fs/cgroup")]
    project, lab_dir, cgroups = [f"/proc/self/fd/{number}" for number in kept]

    def mount(*words: object) -> None:
        # -c, because the directory of a descriptor may have no path here any more.
        command = ["mount", "-c", *map(str, words)]
        subprocess.run(command, check=True, pass_fds=kept)

    mount("-t", "sysfs", "sysfs", "/sys")  # of this network namespace
    if os.path.exists(f"{cgroups}/cgroup.controllers"):
        mount("--bind", cgroups, "/sys/fs/cgroup")
    else:  # the hierarchies of version 1, in a tmpfs that a mistaken runtime can litter
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/sys/fs/cgroup")
        for name in os.listdir(cgroups):
            if os.path.isdir(f"{cgroups}/{name}"):
                place = make(f"/sys/fs/cgroup/{name}")
                mount("--bind", f"{cgroups}/{name}", place)
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm")
    if os.path.isdir("/dev/mqueue"):
        mount("-t", "mqueue", "mqueue", "/dev/mqueue")  # of this IPC namespace
    (run / "run").mkdir()
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", run / "run")
    for name in "upper", "work":
        (run / "run" / name).mkdir()
    layers = f"lowerdir=/run,upperdir={run}/run/upper,workdir={run}/run/work"
    mount("-t", "overlay", "-o", layers, "overlay", "/run")
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", make("/run/netns"))
    mount("--bind", run / "state", STATE)
    (run / "home").mkdir(mode=0o700)
    for number, path in enumerate(["/tmp", "/var/tmp"]):
        own = run / f"tmp{number}"
        own.mkdir()
        own.chmod(0o1777)
        mount("--bind", own, path)
    # One of the new mounts may now hide the project.
    mount("--bind", project, make(PROJECT))
    mount("-o", "remount,bind,ro", PROJECT)
    mount("--rbind", lab_dir, make(LAB_DIR))
    for number in kept:
        os.close(number)
    # A real machine has more network devices than the loopback.
    links = b"link set lo up\nlink add native0 type bridge\n"
    subprocess.run(["ip", "-batch", "-"], input=links, check=True)


def make(path: str | os.PathLike[str]) -> pathlib.Path:
    """Makes a directory for a mount, unless it is there."""
    path = pathlib.Path(path)
    if not path.is_dir():
        path.mkdir(parents=True)
    return path


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.exit(inside(pathlib.Path(sys.argv[2]), sys.argv[3:]))
    sys.exit(main())
