"""Step 06: the container gets its share of the machine, and no more. cgroups(7), the
kernel's admin-guide/cgroup-v2.

Each test of a limit shows what happens when a container reaches it."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest
from runtime import (
    Runtime,
    assert_one_line_error,
    children,
    commands_with,
    eventually,
    namespace,
    processes_with,
    shell,
)

CGROUPS = pathlib.Path("/sys/fs/cgroup/workshop")

# Allocates memory a megabyte at a time, and prints how much it has.
HOG = (
    '$| = 1; my @all; for my $n (1..400) { push @all, "x" x (1 << 20); print "$n\\n"; }'
)
BOMB = "bomb() { bomb | bomb & }; bomb; sleep 5"


def group_of(box):
    """Returns the cgroup of a running container."""
    return CGROUPS / str(box.process.pid)


def number(path):
    return int(path.read_text())


def counts(path):
    """Returns the numbers in a file such as memory.events, which has a name and a
    number on each line: {name: number}."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return {name: int(value) for name, value in lines}


def cpu_seconds(group):
    return counts(group / "cpu.stat")["usage_usec"] / 1e6


@pytest.fixture
def stress(tmp_path):
    """An image with stress-ng, a program that is not ours, and the libraries that it
    needs."""
    image = tmp_path / "stress"
    shell(
        f"cp -a /var/lib/workshop/rootfs/busybox {image}; cp /usr/bin/stress-ng {image}/bin;"
        f"ldd /usr/bin/stress-ng | grep -o '/[^ ]*' | xargs -I@ cp --parents @ {image}"
    )
    return image


@pytest.mark.told("spec", "spec-end")
@pytest.mark.needs("cgroup2")
def test_memory_hog_is_killed_at_its_limit(runtime):
    """cgroups(7): at memory.max the kernel kills a process of the cgroup, and counts it
    as oom_kill in memory.events."""
    result = runtime.run("perl", "-e", HOG, image="debian", memory="64M")
    assert result.status == 137, result
    # The interpreter itself takes a few of the 64 megabytes.
    assert 0.9 * 64 - 4 <= int(result.lines[-1]) <= 64, result.lines[-1]
    result.out = ""  # checked above
    assert_one_line_error(result, "out of memory", "64M", status=137)


@pytest.mark.told("spec", "spec-cgroup", given=["alive"])
@pytest.mark.needs("cgroup2")
def test_memory_hog_does_not_affect_another_container(runtime):
    """cgroups(7): a limit applies to one cgroup, and so do its consequences."""
    with runtime.running(memory="32M") as neighbour:
        result = runtime.run("perl", "-e", HOG, image="debian", memory="64M")
        assert result.status == 137, result
        assert neighbour.ask("echo alive") == "alive\n"
        events = counts(group_of(neighbour) / "memory.events")
        assert events["oom_kill"] == 0, events


@pytest.mark.told("spec", "spec-end")
@pytest.mark.needs("cgroup2")
def test_allocation_below_the_limit_succeeds(runtime):
    """cgroups(7): below memory.max nothing is killed, and nothing is reported."""
    script = HOG.replace("400", "40")
    result = runtime.run("perl", "-e", script, image="debian", memory="64M")
    assert result.out.split()[-1:] == ["40"], result
    assert (result.status, result.err) == (0, ""), result


@pytest.mark.told("spec", "spec-cgroup", given=["status 137"])
@pytest.mark.needs("cgroup2")
def test_memory_limit_includes_files_in_a_tmpfs(runtime):
    """tmpfs(5): files in memory count for the cgroup of the process that writes them,
    cgroups(7). At memory.max the kernel kills the writer: proc_pid_oom_score_adj(5)."""
    write = "echo 1000 >/proc/self/oom_score_adj; exec head -c 200m /dev/zero >/tmp/big"
    with runtime.running(memory="64M") as box:
        output = box.ask(f"({write})")
        assert output.endswith("status 137\n"), output
        group, written = group_of(box), f"/proc/{box.pid}/root/tmp/big"
        # The file has as much of the 200 MB as fits, and the shell is still alive.
        assert 32 << 20 <= os.stat(written).st_size <= 64 << 20
        assert counts(group / "memory.events")["oom_kill"] == 1
        assert number(group / "memory.peak") <= 64 << 20


@pytest.mark.told("spec", "spec-cgroup", given=["usable"])
@pytest.mark.alone
@pytest.mark.needs("cgroup2")
def test_fork_bomb_stays_at_the_pids_limit(runtime):
    """cgroups(7): at pids.max, fork(2) fails with EAGAIN."""
    argv = runtime.argv("bash", "-c", BOMB, image="debian", pids=32)
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as bomb:
        group = CGROUPS / str(bomb.pid)
        assert eventually(
            lambda: (group / "pids.peak").exists() and number(group / "pids.peak") >= 32
        )
        start = time.monotonic()
        assert shell("echo usable").out == "usable\n"  # the host still responds
        assert time.monotonic() - start < 5
        assert number(group / "pids.current") <= 32
        assert number(group / "pids.peak") == 32
        assert counts(group / "pids.events")["max"] > 0
        bomb.kill()
    assert eventually(lambda: not (group / "cgroup.procs").read_text())
    runtime.sweep()


@pytest.mark.told("spec", "spec-cgroup", given=["Resource temporarily unavailable"])
@pytest.mark.needs("cgroup2")
def test_process_beyond_the_pids_limit_is_refused(runtime):
    """fork(2): EAGAIN, "Resource temporarily unavailable", at pids.max: cgroups(7)."""
    with contextlib.suppress(OSError):  # another container may run in it
        CGROUPS.rmdir()  # otherwise an earlier run may have switched on the controllers
    script = "for i in $(seq 40); do sleep 2 & done"
    result = runtime.run("bash", "-c", script, image="debian", pids=16)
    assert "Resource temporarily unavailable" in result.err, result


@pytest.mark.told("spec", "spec-cgroup")
@pytest.mark.alone
@pytest.mark.needs("cgroup2")
def test_half_a_cpu_gives_half_a_second_per_second(runtime):
    """cgroups(7): cpu.max has a quota and a period, in microseconds. Processes that
    have used up the quota wait."""
    spin = "while :; do :; done"
    with runtime.running(f"({spin}) & ({spin}) &", cpus="0.5") as box:
        group = group_of(box)
        time.sleep(0.5)
        seconds, start = cpu_seconds(group), time.monotonic()
        time.sleep(6)
        used = cpu_seconds(group) - seconds
        share = used / (time.monotonic() - start)
        assert 0.45 <= share <= 0.55, share
        assert counts(group / "cpu.stat")["nr_throttled"] > 0
        box.kill()
    assert eventually(lambda: not (group / "cgroup.procs").read_text())
    runtime.sweep()


@pytest.mark.told("spec", "spec-cgroup")
@pytest.mark.alone
@pytest.mark.needs("cgroup2")
def test_stress_ng_stays_within_the_limits(runtime, stress):
    """cgroups(7): the limits apply to all processes of the cgroup together."""
    words = "--vm 1 --vm-bytes 200M --vm-keep --cpu 2 --timeout 6 --oomable"
    argv = runtime.argv(
        "stress-ng", *words.split(), image=stress, memory="64M", cpus="0.5"
    )
    start = time.monotonic()
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        group, seen = CGROUPS / str(process.pid), []

        def look():
            # It may not exist yet, or no longer: the runtime removes it at the end.
            with contextlib.suppress(OSError):
                peak = number(group / "memory.peak")
                seen.append((peak, cpu_seconds(group), time.monotonic()))
            return process.poll() is not None

        assert eventually(look, 50)
    peak, seconds, end = seen[-1]
    assert 0.5 * (64 << 20) <= peak <= 64 << 20, peak
    assert 0.3 <= seconds / (end - start) <= 0.55, (seconds, end - start)


@pytest.mark.told("spec", "spec-cgroup", given=["Resource temporarily unavailable"])
@pytest.mark.needs("cgroup2")
def test_container_is_born_in_its_cgroup(runtime):
    """clone(2): with CLONE_INTO_CGROUP there is no moment without limits. At pids.max the
    kernel refuses to start a process in the cgroup, but not to move one there:
    admin-guide/cgroup-v2, "PID"."""
    with runtime.running(pids=50) as box:
        line = pathlib.Path(f"/proc/{box.pid}/cgroup").read_text()
        assert line == f"0::/workshop/{box.process.pid}\n"
        assert str(box.pid) in (group_of(box) / "cgroup.procs").read_text().split()
        # systemd-cgls agrees.
        tree = shell("systemd-cgls --no-pager /workshop").out
        assert re.search(rf"\b{box.pid} sh$", tree, re.MULTILINE), tree
        # The runtime is not in the cgroup.
        outside = pathlib.Path(f"/proc/{box.process.pid}/cgroup").read_text()
        assert "/workshop/" not in outside
    # The limit of the cgroup above applies to a birth below it.
    limit = CGROUPS / "pids.max"
    limit.write_text("0")
    try:
        result = runtime.run("true", "argument", pids=50)
    finally:
        limit.write_text("max")
    assert_one_line_error(result, "Resource temporarily unavailable")


@pytest.mark.told("spec", "spec-inside")
@pytest.mark.needs("cgroup2")
def test_container_sees_its_cgroup_as_the_root(runtime):
    """cgroup_namespaces(7): CLONE_NEWCGROUP makes the child's cgroup look like the root
    cgroup."""
    with runtime.running(memory="64M", pids=50) as box:
        assert box.ask("cat /proc/self/cgroup") == "0::/\n"
        assert box.ask("cat /sys/fs/cgroup/memory.max") == f"{64 << 20}\n"
        assert box.ask("cat /sys/fs/cgroup/memory.swap.max") == "0\n"
        # Only its own processes: those from outside would be shown as 0.
        inside = [int(n) for n in box.ask("cat /sys/fs/cgroup/cgroup.procs").split()]
        assert 1 in inside and 0 not in inside and len(inside) == 2, inside
        gone = "ls: /sys/fs/cgroup/workshop: No such file or directory\nstatus 1\n"
        assert box.ask("ls /sys/fs/cgroup/workshop") == gone
        inside = namespace("cgroup", box.pid)
        assert inside != namespace("cgroup")
        assert shell(f"lsns -n -t cgroup -o NS -p {box.pid}").out.split() == [inside]


@pytest.mark.told("spec", "spec-inside", given=["Permission denied"])
@pytest.mark.needs("cgroup2")
def test_limit_cannot_be_raised_from_inside(runtime):
    """cgroups(7): the files belong to root on the host, and root inside is user 100000:
    user_namespaces(7)."""
    with runtime.running(memory="64M", pids=50) as box:
        out = box.ask("echo max >/sys/fs/cgroup/memory.max")
        assert "Permission denied" in out, out
        assert number(group_of(box) / "memory.max") == 64 << 20


@pytest.mark.told("spec")
@pytest.mark.also_before
def test_container_without_limits_gets_no_cgroup(runtime):
    """cgroups(7): a child that gets no cgroup of its own is in its parent's."""
    with runtime.running() as box:
        inside = pathlib.Path(f"/proc/{box.pid}/cgroup").read_text()
        assert inside == pathlib.Path("/proc/self/cgroup").read_text()
        assert not group_of(box).exists()


@pytest.mark.told("spec", "spec-cgroup")
@pytest.mark.needs("cgroup2")
def test_cgroup_is_removed_with_the_container(runtime):
    """cgroups(7): rmdir(2) removes a cgroup once it has no processes."""
    with runtime.running(memory="64M") as box:
        group = group_of(box)
        assert group.exists()
    assert not group.exists()


@pytest.mark.told("spec", "spec-cgroup")
@pytest.mark.needs("cgroup2")
def test_next_run_removes_the_cgroup_of_a_killed_runtime(runtime):
    """cgroups(7): a cgroup does not disappear with its processes, so the next run
    sweeps."""
    with runtime.running(memory="64M") as box:
        group = group_of(box)
        box.kill()
        box.process.wait(10)
        assert group.exists()
    assert eventually(lambda: not (group / "cgroup.procs").read_text())
    with runtime.running(memory="64M") as alive:
        runtime.sweep()
        assert not group.exists()
        assert group_of(alive).exists()


@pytest.mark.told("spec", "spec-cgroup")
@pytest.mark.needs("cgroup2")
@pytest.mark.parametrize("limits", [{"memory": "64M"}, {}], ids=["limits", "no limits"])
def test_next_run_ends_what_outlived_a_killed_runtime(runtime, seconds, limits):
    """cgroups(7), cgroup.kill: if systemd kills a unit, it kills the guard with the runtime.
    A command that has changed its user survives, in its own cgroup."""
    if not limits and "07" not in runtime.path.parent.name:
        limits = {"pids": 9}  # without limits, only step 07 has something to sweep
    command = ["setpriv", "--reuid", "65534", "--clear-groups", "sleep", seconds]
    argv = runtime.argv(*command, image="debian", memory="64M")

    def sleeps():  # and not only waits for its turn to become the command
        found = commands_with(seconds)
        return [pid for pid, name in found.items() if name == "sleep"]

    with subprocess.Popen(argv) as killed:
        try:
            assert eventually(sleeps), argv
            # The guard first, because it ends the container of a dead runtime.
            assert eventually(lambda: set(children(killed.pid)) - set(sleeps()))
            killed.send_signal(signal.SIGSTOP)  # it must not see its guard end
            for guard in set(children(killed.pid)) - set(sleeps()):
                os.kill(guard, signal.SIGKILL)
        finally:
            killed.kill()
    time.sleep(0.2)
    assert len(sleeps()) == 1, "it did not outlive it"
    result = runtime.run("true", "argument", **limits)
    assert (result.status, result.err) == (0, ""), result
    assert processes_with(seconds) == []
    runtime.sweep()
    assert list(CGROUPS.glob("[0-9]*")) == []


@pytest.mark.told("spec", "spec-cgroup")
@pytest.mark.needs("cgroup2")
def test_error_in_a_cgroup_with_processes_is_true(runtime):
    """cgroups(7), no internal processes: EBUSY for a cgroup that has processes itself. This
    is where a login or a container is, and no question of root."""
    group = pathlib.Path(f"/sys/fs/cgroup/busy-{os.getpid()}")
    shell("echo +cpu +memory +pids >/sys/fs/cgroup/cgroup.subtree_control")
    group.mkdir()
    # The cgroup becomes the root of a new cgroup2 mount, with the runtime's shell in it.
    script = f"echo $$ >{group}/cgroup.procs; exec unshare --mount --cgroup sh -ec "
    script += "'mount -t cgroup2 none /sys/fs/cgroup; exec \"$@\"' sh "
    argv = runtime.argv("true", "argument", memory="64M")
    try:
        result = shell(script + " ".join(argv), check=False)
        line = assert_one_line_error(result, "busy", "no internal processes")
        assert "need root" not in line, line
    finally:
        assert eventually(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


BAD_LIMITS = [
    *(("memory", v) for v in ("0", "-1", "much", "1.5G", "M", "", "99999G")),
    *(("pids", v) for v in ("0", "-1", "many", "1.5", "99999999")),
    *(("cpus", v) for v in ("0", "-1", "all", "nan", "inf", "9999")),
]


@pytest.mark.told("spec")
@pytest.mark.parametrize(
    ("option", "value"), BAD_LIMITS, ids=["=".join(limit) for limit in BAD_LIMITS]
)
def test_bad_limit_is_refused_before_anything_is_created(runtime, option, value):
    """cgroups(7): the kernel would interpret some of these in another way. USAGE says
    which kind of number each option takes."""
    result = runtime.run("echo started", **{option: value})
    line = assert_one_line_error(result)
    assert line.startswith(f"--{option} "), (
        line
    )  # it does not say that the option is unknown
    assert list(CGROUPS.glob("[0-9]*")) == []


@pytest.mark.told("spec", "spec-cgroup")
def test_limits_without_cgroup_v2_give_a_one_line_error(runtime):
    """cgroups(7): version 1 has other files. A limit that cannot be set must not be
    ignored."""
    argv = runtime.argv("true", memory="64M")
    hide = 'mount -t tmpfs none /sys/fs/cgroup; exec "$@"'
    result = shell(f"unshare -m sh -c '{hide}' sh {' '.join(argv)}", check=False)
    assert_one_line_error(result, "cgroup v2")


@pytest.mark.told("spec", "spec-cgroup")
def test_limits_of_an_ordinary_user_give_a_one_line_error(runtime):
    """cgroups(7): the files of the root cgroup belong to root."""
    words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    words += ["env", "HOME=/mnt"]
    group = "mkdir /mnt/cgroup; echo >/mnt/cgroup/cgroup.subtree_control; "
    group += 'mount --bind /mnt/cgroup /sys/fs/cgroup; exec "$@"'
    prefix = [
        "unshare",
        "--mount",
        "sh",
        "-ec",
        f"mount -t tmpfs x /mnt; {group}",
        "sh",
    ]
    user = Runtime(runtime.path, [*prefix, *words])
    result = user.run("true", "argument", image="./x", memory="64M")
    assert_one_line_error(result, "subtree_control", "limits need root: try again")


@pytest.mark.told("spec", "spec-cgroup")
@pytest.mark.needs("cgroup2")
def test_stopped_processes_die_with_the_container(runtime, seconds):
    """pid_namespaces(7): SIGKILL ends even stopped processes, and rmdir(2) works only
    after that."""
    with runtime.running(f"sleep {seconds} &", pids=20) as box:
        group = group_of(box)
        [pid] = eventually(lambda: processes_with(seconds))
        os.kill(pid, signal.SIGSTOP)
        assert number(group / "pids.current") == 2
    assert not group.exists() and processes_with(seconds) == []
