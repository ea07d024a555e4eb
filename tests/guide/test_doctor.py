"""`workshop doctor` says which steps a kernel can run, and what the others lack."""

import os
import pathlib
import subprocess
import sys

import pytest
from runtime import PROJECT

# What doctor finds in a new mount namespace, whatever this machine has.
NO_CGROUP2 = "mount -t tmpfs none /sys/fs/cgroup"
CGROUP2 = NO_CGROUP2 + "; echo {} >/sys/fs/cgroup/cgroup.controllers"
PATH = f"{PROJECT}:{PROJECT / 'steps'}"
WHOLE, NO_PIDS = CGROUP2.format("cpu memory pids"), CGROUP2.format("cpu memory")
NO_ROOTFS = WHOLE + "; mount -t tmpfs none /var/lib/workshop"


def doctor(first=":", **environment):
    """Runs it after a shell command that changes what it finds. Returns its exit status and
    output."""
    run = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f'{first}; exec "$@"', "sh"]
        + [sys.executable, "-m", "workshop", "doctor"],
        env=os.environ | {"PYTHONPATH": PATH, "COLUMNS": "200"} | environment,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert not run.stderr
    return run.returncode, run.stdout


def row(output, need):
    return next(line for line in output.splitlines() if need in line)


@pytest.mark.quick
@pytest.mark.needs("cgroup2")
def test_all_steps_can_run_here():
    status, output = doctor()
    assert status == 0, output
    assert "All steps can run here." in output


@pytest.mark.parametrize(
    ("machine", "step", "need", "why"),
    [
        (NO_CGROUP2, "06_cgroup", "limits", "is not cgroup v2"),
        (NO_PIDS, "06_cgroup", "limits", "lacks a controller: pids"),
        (NO_ROOTFS, "03_mnt", "root filesystem", "./lab up creates it"),
    ],
)
def test_step_that_cannot_run_is_named_with_the_reason(machine, step, need, why):
    status, output = doctor(machine)
    assert status == 1, output
    assert why in row(output, need)
    assert f"These steps cannot run here, or only in part: {step}.\n" in output


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

    before = links(), pathlib.Path("/proc/self/mountinfo").read_text()
    doctor()
    assert (links(), pathlib.Path("/proc/self/mountinfo").read_text()) == before
