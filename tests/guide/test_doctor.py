"""`workshop doctor` says which steps a kernel can run, and what the others lack."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from runtime import PROJECT, STEPS, eventually

# What doctor finds in a new mount namespace, whatever this machine has.
NO_CGROUP2 = "mount -t tmpfs none /sys/fs/cgroup"
CGROUP2 = NO_CGROUP2 + "; echo {} >/sys/fs/cgroup/cgroup.controllers"
PATH = f"{PROJECT}:{PROJECT / 'steps'}"
NO_PIDS = CGROUP2.format("cpu memory")
# As in a container of Docker, which hides other files.
MASKED_PROC = "mount --bind /dev/null /proc/version"
MASKED_SYS = "mount -t tmpfs -o ro none /sys/module"
# As in a container whose files are on overlayfs.
ON_OVERLAY = """
place=/var/lib/workshop; new=$(mktemp -d /tmp/doctor.XXXXXX)
mount -t tmpfs none $new; mkdir $new/upper $new/work
mount -t overlay -o lowerdir=$place,upperdir=$new/upper,workdir=$new/work none $place
umount --lazy $new; rmdir $new
"""
NO_STATE = "mount -t tmpfs none /var/lib/workshop"
NAMES = [step.parent.name for step in STEPS]


def doctor(first=":", **environment):
    """Runs it after a shell command that changes what it finds. Returns its exit status and
    output."""
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f'{first}\nexec "$@"', "sh"]
        + [sys.executable, "-m", "workshop", "doctor"],
        env=os.environ | {"PYTHONPATH": PATH, "COLUMNS": "200"} | environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert not run.stderr
    return run.returncode, run.stdout


def rows(output, need):
    """Returns the lines of the table about something that is needed, a pattern."""
    return [line for line in output.splitlines() if re.search(f"│ {need}", line)]


def row(output, need):
    [line] = rows(output, need)
    return line


@pytest.mark.quick
@pytest.mark.needs("cgroup2")
def test_all_steps_can_run_here():
    status, output = doctor()
    assert status == 0, output
    assert "All steps can run here." in output


@pytest.mark.parametrize(
    ("machine", "step", "need", "why"),
    [
        (NO_CGROUP2, "06_cgroup", "limits:", "is not cgroup v2"),
        (NO_PIDS, "06_cgroup", "limits:", "lacks a controller: pids"),
        (NO_STATE, "03_mnt", "root filesystem", "./lab up creates it"),
        (MASKED_PROC, "05_user", "proc in a user", "a mount hides /proc/version"),
        (MASKED_SYS, "05_user", "sysfs in a user", "a mount hides /sys/module"),
        (
            ON_OVERLAY,
            "05_user",
            "(idmapped mounts|overlayfs) in",
            "is on overlayfs: it",
        ),
    ],
)
def test_step_that_cannot_run_is_named_with_the_reason(machine, step, need, why):
    status, output = doctor(machine)
    assert status == 1, output
    assert all(why in line for line in rows(output, need)), output
    good, bad = NAMES[: NAMES.index(step)], NAMES[NAMES.index(step) :]
    assert f"cannot run here, or only in part: {', '.join(bad)}.\n" in output
    # The others were tried, and work.
    for number in range(len(NAMES)):
        started = "│ ok " in "".join(rows(output, f"a container of step {number}"))
        assert started == (number < len(good)), output


def test_step_that_does_not_start_for_an_unknown_reason_is_named():
    """As under a security module that nobody has thought of."""
    step = STEPS[2]
    status, output = doctor(f"mount --bind /bin/false {step}")
    assert status == 1 and "exit status 1" in row(output, "a container of step 2")
    assert f"in part: {', '.join(NAMES[2:])}." in output


# ---- limits, as in a systemd-run scope and in other containers


@pytest.mark.needs("cgroup2")
def test_processes_in_the_root_of_the_cgroups_are_the_reason():
    """As after `unshare -mC` in a scope with Delegate=yes: cgroups(7), no internal
    processes."""
    own = pathlib.Path(f"/sys/fs/cgroup/doctor-{os.getpid()}")
    control = pathlib.Path("/sys/fs/cgroup/cgroup.subtree_control")
    control.write_text("+cpu +memory +pids")
    own.mkdir()
    try:
        enter = f"echo $$ >{own}/cgroup.procs; exec unshare --mount --cgroup sh -ec "
        fresh = "umount -l /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup"
        words = [sys.executable, "-m", "workshop", "doctor"]
        inner = f"{fresh}; exec {shlex.join(words)}"
        done = subprocess.run(
            ["sh", "-ec", enter + shlex.quote(inner)],
            env=os.environ | {"PYTHONPATH": PATH, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 1, done
        assert "no internal processes" in row(done.stdout, "limits for a new cgroup")
        assert f"in part: {', '.join(NAMES[6:])}." in done.stdout
    finally:
        assert eventually(lambda: not (own / "cgroup.procs").read_text())
        for path in [*filter(pathlib.Path.is_dir, own.iterdir()), own]:
            path.rmdir()


@pytest.mark.needs("cgroup2")
def test_read_only_cgroups_are_the_reason():
    status, output = doctor("mount -o remount,bind,ro /sys/fs/cgroup")
    assert status == 1 and "is read-only here" in row(output, "limits for a new")


# ---- the user who has typed sudo


@pytest.fixture
def home():
    """The home directory of the user nobody, on this machine's disk."""
    path = pathlib.Path("/var/tmp", f"home-{os.getpid()}")
    path.mkdir()
    shutil.chown(path, "nobody", "nogroup")
    yield path
    shutil.rmtree(path)


def as_nobody(home, first=":"):
    """Runs doctor after sudo by nobody, whose home directory is this one."""
    passwd = (
        f"sed 's#^nobody:.*#nobody:x:65534:65534:nobody:{home}:/bin/sh#' /etc/passwd"
    )
    hide = f"{passwd} >/tmp/passwd.$$; mount --bind /tmp/passwd.$$ /etc/passwd"
    return doctor(f"{hide}; rm -f /tmp/passwd.$$\n{first}", SUDO_UID="65534")


def test_place_of_a_users_images_is_tried(home):
    _, output = as_nobody(home)
    assert "│ ok " in row(output, f"overlayfs in {home}, for nobody"), output
    assert not list(home.iterdir())


def test_home_on_overlayfs_is_the_reason(home):
    (home / ".workshop").mkdir()
    shutil.chown(home / ".workshop", "nobody", "nogroup")
    status, output = as_nobody(home, ON_OVERLAY.replace("/var/lib/workshop", str(home)))
    assert status == 1
    line = row(output, f"overlayfs in {home}/.workshop, for nobody")
    assert "is on overlayfs: it must be on" in line
    assert "07_overlay" in output.splitlines()[-2]


def test_missing_tool_is_named(tmp_path):
    for tool in ["unshare", "sh", "ip"]:
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    status, output = doctor(f"PATH={tmp_path}")
    assert status == 1
    assert "not installed: nft" in row(output, "ip and nft")


def test_doctor_leaves_nothing_behind():
    def links():
        return subprocess.run(
            ["ip", "-o", "link"], capture_output=True, check=True
        ).stdout

    def state():
        find = ["find", "/var/lib/workshop", "-mindepth", "2", "-maxdepth", "2"]
        files = subprocess.run(find, capture_output=True, check=True).stdout
        mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        return links(), mounts, sorted(files.splitlines())

    before = state()
    doctor()
    assert state() == before
