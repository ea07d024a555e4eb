"""`workshop inspect` shows what lsns(8), findmnt(8), ps(1) and ip(8) say."""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest
from runtime import PROJECT, STEPS, Runtime, Terminal, children, eventually, shell

from workshop import containers, inspection, procfs
from workshop.errors import Failure
from workshop.views import notebook

INSPECT = [sys.executable, "-P", "-m", "workshop", "inspect"]
AT_XTERM = ["/usr/bin/env", "TERM=xterm"]
KINDS = ["uts", "ipc", "pid", "mnt", "net", "user", "cgroup", "time"]
SHARED = "shared with the host"
PATH = f"{PROJECT}:{PROJECT / 'steps'}"


@pytest.fixture(autouse=True, scope="module")
def project_is_found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATH)
        yield


def runtime(step):
    return Runtime(STEPS[step])


@pytest.fixture(
    params=[0, 1, 3, 4, 6, 7], ids=lambda number: f"step{number}", scope="module"
)
def seen(request):
    """A running container of a step. box.shown is what `workshop inspect` shows of it."""
    with runtime(request.param).running() as box:
        box.ask("sleep 1000 & until grep -q sleep /proc/$!/comm; do :; done")
        box.step = request.param
        box.shown = rows(box.process.pid)  # the runtime's pid means the same container
        yield box
        box.ask("kill $!")  # without a pid namespace, nothing else ends it


@contextlib.contextmanager
def started(*command, **options):
    """A process that runs a command during the block."""
    with subprocess.Popen(command, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def run(*words, **options):
    return subprocess.run(
        [*INSPECT, *map(str, words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        **options,
    )


def rows(*words):
    """Returns what it shows: {name of a row: ([the host's lines], [the container's])}."""
    done = run(*words)
    assert done.returncode == 0 and not done.stderr, done
    assert max(map(len, done.stdout.splitlines())) <= 100
    title, _, head, _, *lines = done.stdout.rstrip().splitlines()
    middle = head.index("container")
    found, name = {}, None
    for line in lines:
        name = line[:9].strip() or name
        found.setdefault(name, ([], []))
        for side, text in zip(
            found[name], (line[9:middle], line[middle:]), strict=True
        ):
            side += [text.strip()] if text.strip() else []
    return found | {"title": title}


def lsns(kind, pid):
    """Returns the number of a process's namespace. (lsns gives up if another process that it
    reads ends in the meantime.)"""
    command = f"lsns --noheadings --type {kind} --task {pid} --output NS"
    return eventually(lambda: shell(command, check=False).out.strip())


@pytest.mark.quick
def test_namespaces_are_those_of_lsns_and_shared_ones_are_marked(seen):
    for kind in KINDS:
        outside, inside = (lines[0] for lines in seen.shown[kind])
        ours, theirs = lsns(kind, os.getpid()), lsns(kind, seen.pid)
        assert (outside.split()[0], inside.split()[0]) == (ours, theirs)
        assert (SHARED in inside) == (ours == theirs)
    assert SHARED not in seen.shown["uts"][1][0] or seen.step == 0


def test_step_01_shares_the_network_and_has_a_host_name():
    with runtime(1).running(hostname="db") as box:
        shown = rows(box.pid)
        assert shown["title"].startswith(
            f"db · pid {box.pid}, child of {box.process.pid} · "
        )
    assert shown["uts"][1][0].endswith("db")
    assert shown["net"][1][0].endswith(SHARED)
    assert "lo 127.0.0.1/8" in shown["net"][0][0]


def test_each_process_has_both_its_pids_and_uids(seen):
    members = [seen.pid, *children(seen.pid)]
    outside, inside = (side[1:] for side in seen.shown["pid"])
    for pid, ours, theirs in zip(members, outside, inside, strict=True):
        status = open(f"/proc/{pid}/status").read()
        ids = re.search(r"^NSpid:\t(.*)$", status, re.M)[1].split()
        uid = shell(f"ps -o uid= -p {pid}").out.strip()
        assert ours.split() == [ids[0], "uid", uid]
        assert theirs.split()[:3] == [ids[-1], "uid", "0"]
    assert "sleep 1000" in inside[1]


def test_process_that_was_sent_into_the_container_is_shown():
    with runtime(2).running() as box:
        guest = subprocess.Popen(["nsenter", f"-t{box.pid}", "-p", "sleep", "1001"])
        try:
            assert eventually(lambda: "sleep 1001" in str(rows(box.pid)["pid"][1]))
        finally:
            guest.kill()
            guest.wait()


def test_mounts_are_those_of_findmnt(seen):
    lines = seen.shown["mnt"][1][1:]
    names = " ".join(line.partition(" ")[2] for line in lines)
    found = shell(f"findmnt --task {seen.pid} --list --noheadings --output TARGET")
    if seen.step < 3:
        assert names == ""  # shared
    else:
        assert "/sys:ro" in names
        shown = shell(
            f"echo {names.replace(':ro', '')}"
        ).out.split()  # /dev/{null,zero}
        assert sorted(shown) == sorted(found.lines)


def test_mounts_in_a_copied_table_are_shown_only_if_the_host_lacks_them():
    script = "mount -t tmpfs none /mnt; echo ready; exec sleep 1000"
    command = ["unshare", "--mount", "sh", "-c", script]
    with started(*command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        first, *rest = rows(process.pid)["mnt"][1]
    assert re.search(r"(\d+) mounts, (\d+) the same as on the host", first)
    assert [line.split() for line in rest] == [["tmpfs", "/mnt"]]


def test_addresses_and_routes_are_those_of_ip_and_the_veth_leads_to_the_bridge():
    was_on = os.path.exists("/sys/class/net/workshop0")
    shell(f"{PROJECT}/steps/network.sh on")
    try:
        with runtime(4).running(net="bridge") as box:
            shown = rows(box.pid)["net"][1]
            enter = f"nsenter -t {box.pid} -n"
            links = json.loads(shell(f"{enter} ip -json -4 address").out)
            routes = shell(f"{enter} ip route").lines
            cable = f" to veth{box.pid} in workshop0"
    finally:
        if not was_on:
            shell(f"{PROJECT}/steps/network.sh off")
    shown[0] = shown[0].split(maxsplit=1)[1]  # after the namespace's number
    for link, line in zip(links, shown, strict=False):
        address = link["addr_info"][0]
        name = f"{link['ifname']} {address['local']}/{address['prefixlen']}"
        assert line == name + (cable if link["ifname"] == "eth0" else "")
    assert shown[len(links) :] == [
        route.partition(" proto")[0].strip() for route in routes
    ]


def test_ids_are_those_of_the_uid_map(seen):
    outside, inside = (lines[0] for lines in seen.shown["user"])
    _, first, count = map(int, open(f"/proc/{seen.pid}/uid_map").read().split())
    assert outside.endswith("root is root")
    if seen.step < 5:
        assert inside.endswith(SHARED)
    else:
        assert f"0–{count - 1} are {first}–{first + count - 1} outside" in inside


@pytest.mark.needs("cgroup2")
def test_limits_and_use_are_those_of_the_cgroup():
    options = {"memory": "64M", "pids": "7", "cpus": "0.5"}
    hog = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done"
    with runtime(6).running(**options) as box:
        box.ask(f"{hog}; (sleep 1002 & sleep 1002 & sleep 1002 &) 2>&1")
        path = open(f"/proc/{box.pid}/cgroup").read().strip().partition("::")[2]
        where, memory, processes, cpu = rows(box.pid)["limits"][1]
        counted = open(f"/sys/fs/cgroup{path}/pids.current").read().strip()
    assert where == path
    assert re.fullmatch(r"[█░]{10} [\d.]+[KM] of 64M memory", memory)
    assert processes.endswith(f"{counted} of 7 processes") and int(counted) >= 4
    assert processes.startswith("██████░░░░"[: round(10 * int(counted) / 7)])
    assert re.match(r"0\.5 CPUs, \d+\.\d s used", cpu)


@pytest.mark.needs("cgroup2")
def test_limit_of_a_cgroup_above_counts_if_it_is_tighter():
    with runtime(6).running(memory="64M") as box:
        inner = f"/sys/fs/cgroup/workshop/{box.process.pid}/inner"
        os.mkdir(inner)
        try:
            shell(f"echo {box.pid} >{inner}/cgroup.procs")
            limits = str(rows(box.pid)["limits"][1])
            assert "/inner" in limits and "of 64M memory" in limits
        finally:
            shell(f"echo {box.pid} >{inner}/../cgroup.procs")
            os.rmdir(inner)


def test_container_without_limits_shares_its_runtimes_cgroup(seen):
    assert seen.shown["limits"][1] == [SHARED]


def test_layers_are_those_of_the_image_with_its_own_on_top():
    with runtime(7).running(image="app") as box:
        box.ask("echo 12345 >/etc/mine; echo 1 >/root/yours")
        first, *below = rows(box.pid)["layers"][1]
    assert first.startswith("2 files (8K) of its own")
    assert below == ["app", "python", "debian"]


def test_files_are_shared_or_in_a_directory_or_in_layers(seen):
    lines = seen.shown["layers"][1]
    if seen.step < 3:
        assert lines == [SHARED]
    elif seen.step < 7:
        assert lines[1] == "/var/lib/workshop/rootfs/busybox"
    else:
        assert lines == ["0 files (0K) of its own, on top of", "busybox"]


def test_chroot_is_shown():
    root = "/var/lib/workshop/rootfs/busybox"
    with started("chroot", root, "sleep", "1003") as process:
        assert eventually(lambda: os.readlink(f"/proc/{process.pid}/root") == root)
        assert rows(process.pid)["layers"][1] == [f"chroot to {root}"]


def test_clock_that_differs_from_the_hosts_is_shown():
    command = ["unshare", "--time", "--boottime", "86400", "sleep", "1004"]
    with started(*command) as process:
        assert eventually(lambda: "+86400 s" in rows(process.pid)["time"][1][0])


# ---- which container


def test_learners_runtime_is_found_even_while_it_prepares(tmp_path):
    """The runtime is a copy that waits in child(), before it executes the command."""
    (tmp_path / "my").mkdir()
    (tmp_path / "steps").symlink_to(PROJECT / "steps")
    mine = tmp_path / "my/container.py"
    finished, begin = STEPS[2].read_text(), "    process.execute("
    mine.write_text(finished.replace(begin, f"    os.read(0, 1)\n{begin}"))
    with subprocess.Popen(
        [sys.executable, mine, "run", "true"], stdin=subprocess.PIPE
    ) as process:
        assert eventually(lambda: children(process.pid))
        shown = rows(process.pid)
        process.stdin.close()
    assert shown["title"].startswith("container · pid ")
    assert f", child of {process.pid} · /" in shown["title"]
    assert len(shown["pid"][1]) == 2


@pytest.mark.parametrize(
    "prefix",
    [
        ["timeout", "60"],
        ["setsid", "--wait"],
        ["nohup"],
        ["env", "A=b", "nice"],
        ["strace", "--follow-forks", "--output=/dev/null"],
        ["unshare", "--fork"],
        # Like sudo, which waits for its command and has all of its words.
        ["bash", "-c", """exec -a sudo sh -c '"$@"; exit' sudo "$@" """, "bash"],
    ],
    ids=lambda prefix: "sudo" if prefix[0] == "bash" else prefix[0],
)
@pytest.mark.parametrize("step", [3, 7])
def test_command_in_front_of_a_runtime_is_not_a_second_container(prefix, step):
    with Runtime(STEPS[step], prefix).running(hostname="only") as box:
        family = children_below(box.process.pid)
        [found] = [c for c in containers.running() if {c.runtime, c.pid} & set(family)]
        first, parent = found.pid, found.runtime
        title = rows("only")["title"]  # which says so if there are several
        assert title.startswith(f"only · pid {first}, child of {parent} · "), title
        assert "container.py run" in title
        assert pathlib.Path(f"/proc/{parent}/comm").read_text() == "container.py\n"
        assert shell(f"nsenter -t {first} -u hostname").out == "only\n"
        if step == 7:
            assert found.upper() is not None


def children_below(pid):
    """Returns a process and all its descendants."""
    return [pid, *(below for child in children(pid) for below in children_below(child))]


@pytest.mark.parametrize(
    "line",
    [
        "sudo python3 -S my/container.py run true",
        "timeout 5 my/container.py run true",
        "strace -f my/container.py run true",
        "podman run debian true",
        "python3 manage.py test run",
        "python3 -m pytest run",
        "run",
        "",
    ],
)
def test_other_command_with_the_word_run_is_not_a_runtime(line, monkeypatch):
    monkeypatch.setattr(procfs, "words", lambda _: line.split())
    assert not containers.is_runtime(1)
    for runtime in "/usr/bin/python3 -S my/container.py", "python3.13 x/07.py":
        words = f"{runtime} run --net none busybox true".split()
        monkeypatch.setattr(procfs, "words", lambda _, words=words: words)
        assert containers.is_runtime(1)


@pytest.mark.parametrize("place", ["", "sub/"])
def test_other_python_program_with_the_word_run_is_not_a_container(tmp_path, place):
    """As of a web application that starts workers."""
    (tmp_path / "sub").mkdir()
    script = "import subprocess, time\nsubprocess.run(['sleep', '1005'])\n"
    (tmp_path / place / "app.py").write_text(script)
    command = [sys.executable, f"{place}app.py", "run", "true"]
    with started(*command, cwd=tmp_path) as process:
        assert eventually(lambda: children(process.pid))
        found = [container.runtime for container in containers.running()]
        os.kill(children(process.pid)[0], signal.SIGKILL)
    assert process.pid not in found


def test_two_containers_are_listed_and_each_has_its_host_name():
    with (
        runtime(1).running(hostname="one") as one,
        runtime(3).running(hostname="two") as two,
    ):
        done = run()
        assert done.returncode == 0
        for box, name in (one, "one"), (two, "two"):
            assert re.search(
                rf"^ *{box.pid} +{name} +\S*container\.py", done.stdout, re.M
            )
        assert rows("two")["title"].startswith(f"two · pid {two.pid}, ")
        two.ask("hostname one")
        done = run("one")
        assert done.returncode == 1
        assert f"{one.pid}, {two.pid}" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["nowhere"], 1, "no running container has the host name nowhere"),
        (["4194305"], 1, "no process has the pid 4194305"),
        (["a\x1b[31m"], 1, r"host name a\x1b[31m"),
        (["1", "2"], 2, "unrecognized arguments: 2"),
    ],
)
def test_mistake_is_reported_in_one_line(words, status, complaint):
    done = run(*words)
    assert done.returncode == status and not done.stdout
    assert complaint in done.stderr and done.stderr.count("\n") == 1


def test_ordinary_user_reads_that_it_needs_root():
    # The process becomes an ordinary user only here: LAB=local's Python belongs to root.
    script = "import os, sys; from workshop import __main__, command_line;"
    script += "from workshop.commands import inspect; os.setgroups([]);"
    script += "os.setgid(65534); os.setuid(65534); sys.exit(__main__.main(['inspect']))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": PATH},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "needs root" in done.stderr and done.stderr.count("\n") == 1


def test_container_that_has_ended_is_reported_in_one_line():
    with runtime(2).running() as box:
        container = containers.find(str(box.pid))
    with pytest.raises(Failure, match=f"with the pid {container.pid} has ended"):
        inspection.look(container)


def test_container_that_ends_while_it_is_read_is_reported_the_same_way(monkeypatch):
    with runtime(2).running() as box:
        container = containers.find(str(box.pid))

        def end_first(pid):
            os.kill(container.pid, signal.SIGKILL)
            assert eventually(lambda: not os.path.exists(f"/proc/{container.pid}"))
            return users(pid)

        users = inspection.users
        monkeypatch.setattr(inspection, "users", end_first)
        with pytest.raises(Failure, match=f"with the pid {container.pid} has ended"):
            inspection.look(container)


# ---- at a terminal, in a notebook


def test_live_picture_follows_the_container_to_its_end():
    with runtime(2).running() as box:
        terminal = Terminal([*AT_XTERM, *INSPECT, str(box.pid)])
        try:
            terminal.wait_for("q quits")
            terminal.wait_for("1 process")
            box.ask("sleep 1005 &")
            terminal.wait_for("2 processes")
            box.close()
            terminal.wait_for("has ended. This was the last picture")
            assert terminal.status() == 0
        finally:
            terminal.close()


@pytest.mark.parametrize("key", ["q", "\x03"])
def test_key_quits_the_live_picture(key):
    with runtime(2).running() as box:
        terminal = Terminal([*AT_XTERM, *INSPECT, str(box.pid)])
        try:
            terminal.wait_for("q quits")
            terminal.type(key)
            assert terminal.status() == 0
            assert "Traceback" not in terminal.seen
        finally:
            terminal.close()
        assert box.ask("echo alive") == "alive\n"


@pytest.mark.quick
@pytest.mark.parametrize(
    "words", [["--once"], []], ids=["once", "in a notebook's cell"]
)
def test_only_one_picture_at_a_terminal(words):
    with runtime(2).running() as box:
        cell = [] if words else ["JPY_PARENT_PID=1"]
        terminal = Terminal([*AT_XTERM, *cell, *INSPECT, *words, str(box.pid)])
        try:
            terminal.wait_for("1 process")
            assert terminal.status() == 0
        finally:
            terminal.close()


def test_control_characters_in_a_containers_names_are_escaped():
    name = r"a\033[31mb\nc\033]0;d\a"
    with runtime(7).running() as box:
        box.ask(f"hostname \"$(printf '{name}')\"; mkdir \"$(printf '/tmp/{name}')\"")
        box.ask(f"mount -t tmpfs none \"$(printf '/tmp/{name}')\"")
        box.ask(f"sh -c 'sleep 1006; :' \"$(printf '<b>{name}')\" &")
        text = run(box.pid).stdout
        page = notebook.picture(box.pid)._repr_html_()
    assert r"a\x1b[31mb\nc" in text
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text + page)
    assert "<b>" not in page and "&lt;b&gt;" in page


def test_picture_in_a_notebook_says_the_same():
    with runtime(2).running() as box:
        page = notebook.picture(box.pid)
        for kind in KINDS:
            assert lsns(kind, box.pid) in page._repr_html_()
            assert lsns(kind, box.pid) in repr(page)
    assert page._repr_html_().count('class="shared"') == repr(page).count(SHARED)
