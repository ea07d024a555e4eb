"""Runs `./lab` as a user does, for all tests here. Needs only the standard library."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

PROJECT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab").absolute()
# The files that a fresh checkout does not have.
NOT_IN_A_CHECKOUT = [".git", ".lab", ".vagrant", "my", "__pycache__"]
Word = str | os.PathLike[str]
Done = subprocess.CompletedProcess[str]


def run(
    *command: Word,
    ok: Sequence[int] | None = (0,),
    timeout: float = 120,
    env: Mapping[str, Word] | None = None,
    cwd: Word | None = None,
    stderr: int = subprocess.STDOUT,
) -> Done:
    """Runs a command. Returns it with its output. AssertionError unless its status is in ok."""
    process = subprocess.Popen(
        command,
        env=os.environ | dict(env or {}),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        # A shell handles a signal when its current command has ended: signal both.
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except BaseException:
        end(process)
        raise
    done = subprocess.CompletedProcess(
        command, process.returncode, output.replace("\r", ""), errors
    )
    words = " ".join(map(str, command))
    assert ok is None or done.returncode in ok, (
        f"{words}: status {done.returncode}\n{done.stdout}{done.stderr or ''}"
    )
    return done


def end(process: subprocess.Popen[str]) -> None:
    """Stops a command and its children, which get a minute to clean up."""
    for number in signal.SIGTERM, signal.SIGKILL:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=60)
            return


def wait_until(
    holds: Callable[[], object], seconds: float, what: str, pause: float = 0.2
) -> None:
    """Waits until holds() is true. AssertionError if that takes too many seconds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}, after {seconds:.0f} s"
        time.sleep(pause)


def install(*packages: str) -> None:
    """Installs the Debian packages that are missing, without starting their services."""
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}"]
    done = {name: run(*query, name, ok=None).stdout for name in packages}
    missing = [name for name, status in done.items() if status != "installed"]
    if not missing:
        return
    policy = pathlib.Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
        run(*apt, "update", env=quiet)
        run(
            *apt,
            "install",
            "-y",
            "--no-install-recommends",
            *missing,
            env=quiet,
            timeout=400,
        )
    finally:
        if ours:
            policy.unlink()


def copy_project(folder: pathlib.Path) -> pathlib.Path:
    """Returns a copy of the project like a fresh checkout, so no personal files change."""
    ignored = shutil.ignore_patterns(*NOT_IN_A_CHECKOUT)
    shutil.copytree(PROJECT, folder, ignore=ignored, symlinks=True)
    return folder


def processes_with(text: Word) -> dict[int, str]:
    """Returns {PID: command line} of the processes with a text in their command line."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(text) in words:
                found[int(path.parent.name)] = words
    return found


class Lab:
    """`./lab` of a project, with its state in a directory."""

    def __init__(
        self,
        state: pathlib.Path = STATE,
        project: pathlib.Path = PROJECT,
        **environment: str,
    ):
        self.state, self.project, self.vm = state, project, state / "vm"
        self.environment = {"LAB": "qemu", "LAB_DIR": str(state)} | environment

    @classmethod
    def spare(
        cls, state: pathlib.Path, project: pathlib.Path = PROJECT, **environment: str
    ) -> "Lab":
        """Returns a second lab, which need not wait for that of this project. It reads
        the same image, if there is one."""
        lab = cls(state, project, **environment)
        lab.state.mkdir(mode=0o700, exist_ok=True)
        lab.borrow("image", "accel")
        return lab

    def borrow(self, *names: str) -> None:
        """Links to files of this project's lab that take long to make and do not
        change."""
        for name in names:
            if (STATE / name).exists():
                (self.state / name).symlink_to(STATE / name)

    def run(
        self, *words: Word, ok: Sequence[int] | None = (0,), timeout: float = 400
    ) -> str:
        """Returns what `./lab WORD…` prints."""
        command = [self.project / "lab", *words]
        return run(*command, ok=ok, timeout=timeout, env=self.environment).stdout

    def running(self) -> bool:
        command = [self.project / "lab", "status"]
        return run(*command, ok=(0, 3), env=self.environment).returncode == 0

    def in_vm(self, command: str, timeout: float = 400) -> str:
        return self.run("ssh", "--", command, timeout=timeout)

    def token(self) -> str:
        return (self.vm / "guest/token").read_text()

    def ports(self) -> list[str]:
        """Returns this VM's ports: the one for ssh, then the one for JupyterLab."""
        return (self.vm / "ports").read_text().split()


class Namespaces:
    """New namespaces to run commands in. Everything in them ends with this process."""

    def __init__(self, *kinds: str):
        """Makes them. Kinds: mount, net, pid, ipc, uts. With pid they have their own /proc."""
        kill = ["setpriv", "--pdeathsig", "KILL"]
        unshare = [
            "unshare",
            *(f"--{kind}" for kind in kinds),
            "--fork",
            "--kill-child",
        ]
        if "pid" in kinds:
            unshare.append("--mount-proc")
        # The line says that everything is ready. Then the first process reaps orphans
        # until its input ends.
        script = "echo ready; exec 3<&0; cat <&3 & wait"
        holder = [*kill, *unshare, *kill, "sh", "-c", script]
        self.holder = subprocess.Popen(
            holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout and self.holder.stdout.readline() == "ready\n"
        children = pathlib.Path(
            f"/proc/{self.holder.pid}/task/{self.holder.pid}/children"
        )
        pid = children.read_text().split()[0]
        self.enter = ["nsenter", "--target", pid, *(f"--{kind}" for kind in kinds)]
        if "net" in kinds:
            self.run("ip", "link", "set", "lo", "up")
        if "net" in kinds and "mount" in kinds:
            self.run("mount", "-t", "sysfs", "sysfs", "/sys")  # shows this network

    def command(
        self, *words: Word, env: Mapping[str, Word] | None = None, cwd: Word = "/"
    ) -> list[Word]:
        """Returns the command that runs another one in the namespaces."""
        variables = [f"{name}={value}" for name, value in (env or {}).items()]
        return [*self.enter, "env", "-C", cwd, *variables, *words]

    def run(
        self,
        *words: Word,
        env: Mapping[str, Word] | None = None,
        cwd: Word = "/",
        ok: Sequence[int] | None = (0,),
        timeout: float = 120,
    ) -> Done:
        return run(*self.command(*words, env=env, cwd=cwd), ok=ok, timeout=timeout)

    def status(self, url: str, *options: Word) -> int:
        """Returns the HTTP status that curl gets in the namespaces, or 0 for no
        answer."""
        curl = [
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--max-time",
            "30",
        ]
        return int(self.run(*curl, *options, url, ok=None).stdout)

    def close(self) -> None:
        self.holder.kill()
        self.holder.communicate()


@contextlib.contextmanager
def namespaces(*kinds: str) -> Iterator[Namespaces]:
    inside = Namespaces(*kinds)
    try:
        yield inside
    finally:
        inside.close()
