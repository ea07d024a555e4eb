"""A pytest run inside a test: what the facts say about another container.py."""

import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

from runtime import PROJECT

# In a mount and IPC namespace of its own, since a runtime that does not isolate would
# change the machine's; with / shared, as systemd has it.
FENCE = """
mount --make-rshared /
for place in /tmp /dev/shm; do mount -t tmpfs fence $place; done
[ ! -e /dev/mqueue ] || mount -t mqueue fence /dev/mqueue
exec "$@"
"""
# The same for several runs side by side, which must not see each other's host name, network
# or processes.
APART = ["--uts", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
OWN_NETWORK = """
mount -t tmpfs own /mnt && mkdir /mnt/cgroup && mount --rbind /sys/fs/cgroup /mnt/cgroup
mount -t sysfs sysfs /sys && mount --rbind /mnt/cgroup /sys/fs/cgroup && umount -l /mnt
ip link set lo up
ip link add outer0 type bridge  # a machine has more devices than the loopback's
"""


def run_suite(
    runtime: pathlib.Path,
    *arguments: str,
    report: pathlib.Path | None = None,
    apart: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Runs pytest in a process of its own; with `apart`, other such runs may go on at the same
    time. Returns its CompletedProcess."""
    words = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--tb=line",
    ]
    words += ["--runtime", str(runtime), *arguments]
    words += [f"--junitxml={report}"] if report else []
    more, script = (APART, OWN_NETWORK + FENCE) if apart else ([], FENCE)
    fence = ["unshare", "--mount", "--ipc", *more, "sh", "-c", script, "sh"]
    # A place that the fence leaves alone; and no plugins, which cost more than a fact.
    environment = os.environ | {"TMPDIR": "/var/tmp"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        [*fence, *words],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def outcomes(report: pathlib.Path) -> dict[str | None, bool]:
    """Returns {name of a fact: whether it passed} from a JUnit report."""
    cases = ElementTree.parse(report).iter("testcase")
    return {
        case.get("name"): case.find("failure") is None and case.find("error") is None
        for case in cases
    }
