"""The subcommands about images: `workshop image`, `commit` and `clean`. Their output is
compared with what containers of the last step see."""

import contextlib
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from runtime import (
    LAST,
    LIMIT,
    PROJECT,
    Result,
    Runtime,
    children,
    commands_with,
    eventually,
    nothing_left_behind,
    processes_with,
    shell,
)

STATE = pathlib.Path("/var/lib/workshop")
LAYERS, IMAGES, CONTAINERS = STATE / "layers", STATE / "images", STATE / "containers"
NETWORK = PROJECT / "steps" / "network.sh"


def unique(word):
    return f"{word}-{random.randint(10**6, 10**7)}"


def argv(*words):
    return [sys.executable, "-P", "-m", "workshop", *map(str, words)]


ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{PROJECT}:{PROJECT / 'steps'}",
    "COLUMNS": "200",
}


def workshop(*words):
    """Runs `workshop` with these words. Returns its Result."""
    done = subprocess.run(
        argv(*words), capture_output=True, text=True, timeout=LIMIT, env=ENVIRONMENT
    )
    return Result(argv(*words), done.returncode, done.stdout, done.stderr)


def row(result, word):
    """Returns the cells of a table's line that has this word in its first cell."""
    for line in result.lines:
        cells = [cell.strip() for cell in re.split("[│┃]", line)[1:-1]]
        if cells and cells[0] == word:
            return cells
    raise AssertionError(f"no row {word} in {result}")


def refused(result, status=1):
    """Returns whether a command printed one line about an error, and nothing else."""
    return (
        result.status == status
        and result.out == ""
        and len(result.err.splitlines()) == 1
        and result.err.startswith("workshop")
    )


def stored():
    """Returns the names of all layers and images, finished or not."""
    return sorted(os.listdir(LAYERS)), sorted(os.listdir(IMAGES))


@pytest.fixture
def container():
    """The last step's Runtime. After the test the host, the layers and the images are as
    before."""
    for path in (LAYERS, IMAGES, CONTAINERS):
        path.mkdir(parents=True, exist_ok=True)
    with nothing_left_behind():
        before = stored()
        yield Runtime(LAST)
        assert stored() == before


@pytest.fixture
def image(container):
    """An image of one layer, given by its path: a copy of busybox's with files to change."""
    path = pathlib.Path("/var/tmp", unique("image"))
    shell(f"cp -a {(IMAGES / 'busybox').read_text().split()[-1]} {path}")
    shell(f"cd {path}; mkdir d; echo old >d/one; echo old >d/two; echo old >file")
    yield path
    shell(f"rm -rf {path}")


@pytest.fixture
def name(container):
    """A name for an image. The image and its layers are removed after the test."""
    name = unique("image")
    yield name
    shell(f"rm -rf {IMAGES}/{name}* {LAYERS}/{name}@*")


@pytest.fixture
def stack(container):
    """The name of an image with everything that a layer can do to the layers below it."""
    name = unique("stack")
    top, middle, bottom = (LAYERS / f"{name}-{n}" for n in ("top", "middle", "bottom"))
    script = f"""
    set -e; mkdir {top} {middle} {bottom}
    cd {bottom}; mkdir -p opaque/deep merged replaced away; ln -s merged link
    touch opaque/deep/1 opaque/2 merged/3 merged/4 replaced/5 away/6 gone file twice
    mkdir over xattr trusted; touch over/7 xattr/12 xattr/13 trusted/14
    cd {middle}; mkdir opaque merged; touch opaque/8 merged/4 merged/9 replaced twice over
    mknod away c 0 0
    cd {top}; mknod gone c 0 0; mkdir merged file over; touch file/10 twice over/11
    mknod merged/3 c 0 0; mkdir xattr trusted; touch xattr/12
    """
    shell(script)
    os.setxattr(middle / "opaque", "user.overlay.opaque", b"y")
    os.setxattr(top / "trusted", "trusted.overlay.opaque", b"y")
    # Since Linux 6.7, an empty file can be a whiteout, in a directory that says so.
    os.setxattr(top / "xattr", "user.overlay.opaque", b"x")
    os.setxattr(top / "xattr/12", "user.overlay.whiteout", b"y")
    busybox = (IMAGES / "busybox").read_text()
    (IMAGES / name).write_text(f"{top}\n{middle}\n{bottom}\n{busybox}")
    yield name
    shell(f"rm -rf {IMAGES / name} {top} {middle} {bottom}")


@contextlib.contextmanager
def small_disk(place, options):
    """Another filesystem, with these limits, at place during the block."""
    shell(f"mount -t tmpfs -o {options} small {place}")
    try:
        yield
    finally:
        shell(f"umount {place}")


# ---- image


@pytest.mark.quick
def test_list_has_every_image_and_what_it_shares(container):
    result = workshop("image", "ls")
    assert result.status == 0, result
    for image in sorted(os.listdir(IMAGES)):
        assert row(result, image)
    assert row(result, "app")[1] == "app python debian"
    assert row(result, "app")[3] == row(result, "debian")[2] == row(result, "debian")[3]
    assert row(result, "busybox")[3] == "-"
    assert "each layer is stored once" in result.out


def test_files_are_those_that_a_container_sees(container, stack):
    lines = workshop("image", "layers", stack, "--files").lines
    shown = {
        line.split("  ")[0]
        for line in lines
        if "hidden by" not in line and "whiteout" not in line
    }
    inside = container.ok("find / -xdev ! -type d", image=stack).split()
    made = r"/(sys|proc|dev)(/|$)"
    assert shown == {path for path in inside if not re.match(made, path)}


@pytest.mark.parametrize("which", ["the same", "inside", "above"])
def test_stack_that_the_guide_calls_broken_does_not_start(
    container, image, name, which
):
    other = {"the same": image, "inside": image / "d", "above": image.parent}[which]
    (IMAGES / name).write_text(f"{image}\n{other}\n")
    assert refused(workshop("image", "layers", name))
    result = container.run("true", image=name)
    assert result.status == 125, result


def test_app_has_three_layers(container):
    assert workshop("image", "layers", "app", "/usr/local/bin/run.sh").out == (
        "/usr/local/bin/run.sh  app\n"
    )
    assert workshop("image", "layers", "app", "/usr/bin/python3").out == (
        "/usr/bin/python3  python\n"
    )
    assert workshop("image", "layers", "app", "/etc/debian_version").out == (
        "/etc/debian_version  debian\n"
    )


# ---- commit


@pytest.mark.quick
@pytest.mark.parametrize("given", ["runtime", "container", "host name"])
def test_commit_saves_what_the_container_wrote(container, image, name, given):
    with container.running(image=image, hostname=name) as box:
        box.ask(
            "echo new >/file; rm /d/one; rm -r /home; mkdir /home; chown 5:6 /d/two"
        )
        box.ask("ln /file /link; touch /home/mine")
        words = {"runtime": box.process.pid, "container": box.pid, "host name": name}
        result = workshop("commit", words[given], name)
        assert result.status == 0, result
        box.ask("echo later >/file")
    layers = (IMAGES / name).read_text().split()
    assert len(layers) == 2 and layers[1] == str(image)
    out = container.ok("cat /file; ls /d /home; stat -c %u:%g /d/two", image=name)
    assert out.split() == ["new", "/d:", "two", "/home:", "mine", "5:6"], out
    assert container.ok("stat -c %h /link", image=name) == "2\n"
    assert (image / "file").read_text() == "old\n"


def test_commit_shows_the_size_of_the_delta_and_of_the_whole_image(
    container, image, name
):
    shell(f"fallocate -l 30M {image}/large")
    with container.running(image=image) as box:
        box.ask("head -c 3000000 /dev/zero >/zeros")
        result = workshop("commit", box.process.pid, name)
    delta = row(result, "the new layer, the delta")[2]
    whole = row(result, "the whole image")[2]
    assert re.fullmatch(r"3\.0 MB", delta) and re.fullmatch(r"3\d\.\d MB", whole), (
        result
    )
    disk = shell(f"du -sk --apparent-size {(IMAGES / name).read_text().split()[0]}").out
    assert 2900 < int(disk.split()[0]) < 3100


def test_commit_of_a_commit_is_one_more_layer(container, image, name):
    with container.running(image=image, hostname="x") as box:
        box.ask("echo first >/first; rm /file")
        assert workshop("commit", box.process.pid, name).status == 0
    with container.running(image=name) as box:
        box.ask("echo second >/second; echo again >/file")
        assert workshop("commit", box.pid, f"{name}.2").status == 0
    try:
        layers = (IMAGES / f"{name}.2").read_text().split()
        assert layers[1:] == (IMAGES / name).read_text().split() and len(layers) == 3
        out = container.ok("cat /first /second /file", image=f"{name}.2")
        assert out.split() == ["first", "second", "again"]
    finally:
        shell(f"rm -rf {IMAGES}/{name}.2 {LAYERS}/{name}.2@*")


def test_commit_leaves_out_what_the_runtime_made_to_mount_on(
    container, image, name, network
):
    """The image has no /proc, /sys, /dev, /tmp and /etc/resolv.conf, so the runtime makes
    them, but the container did not write them."""
    victim = pathlib.Path("/var/tmp", unique("victim"))
    victim.mkdir()
    shell(f"{NETWORK} on")
    shell(f"cd {image}; rm -rf proc sys dev tmp etc/resolv.conf")
    try:
        options = {"net": "bridge", "cap_add": "SYS_ADMIN"}
        with container.running(image=image, **options) as box:
            box.ask(f"echo x >/mine; mkdir /empty; ln -s {victim} /link")
            box.ask("mkdir -p /over/there; mount -t tmpfs x /over/there; echo >/over/x")
            done = workshop("commit", box.process.pid, name)
            assert done.status == 0, done
            layer = pathlib.Path((IMAGES / name).read_text().splitlines()[0])
            found = shell(f"cd {layer}; find . -mindepth 1 | sort").out.split()
            assert found == [
                "./empty",
                "./etc",
                "./link",
                "./mine",
                "./over",
                "./over/x",
            ]
        assert container.ok("cat /mine; ls -d /proc/1", image=name) == "x\n/proc/1\n"
        assert victim.is_dir()
    finally:
        victim.rmdir()


def test_commit_finds_an_image_given_by_a_relative_path(container, image, name):
    options = {"image": f"./{image.name}", "popen": {"cwd": image.parent}}
    with container.running(**options) as box:
        result = workshop("commit", box.pid, name)
        assert result.status == 0, result
    assert (IMAGES / name).read_text().split()[1] == str(image)


def test_one_of_several_commits_at_once_gets_the_name(container, image, name):
    with (
        container.running(image=image) as one,
        container.running(image=image) as two,
    ):
        for text, box in ("one", one), ("two", two):
            box.ask(f"echo {text} >/file; head -c 5000000 /dev/zero >/zeros")
        before = stored()
        words = [argv("commit", box.process.pid, name) for box in (one, two) * 2]
        options = {"stdout": -1, "stderr": -1, "text": True, "env": ENVIRONMENT}
        running = [subprocess.Popen(word, **options) for word in words]
        results = [
            Result(word, process.wait(LIMIT), *process.communicate())
            for word, process in zip(words, running, strict=True)
        ]
        assert sorted(r.status for r in results) == [0, 1, 1, 1], results
        assert sum(refused(r) and name in r.err for r in results) == 3, results
        winner = ["one\n", "two\n"] * 2
        expected = next(
            text for text, r in zip(winner, results, strict=True) if r.status == 0
        )
        assert container.ok("cat /file", image=name) == expected
        after = stored()
        assert [len(after[n]) - len(before[n]) for n in (0, 1)] == [1, 1], after
        # A later commit does not get the name either.
        assert refused(workshop("commit", one.pid, name))


@pytest.mark.parametrize(
    "word",
    ["../evil", "/tmp/evil", "a/b", ".hidden", "..", "", "-x", "a b", "x\n", "ä"],
)
def test_bad_name_is_an_error_of_one_line_and_makes_nothing(container, image, word):
    before = stored()
    with container.running(image=image) as box:
        result = workshop("commit", box.process.pid, "--", word)
        assert refused(result) and "name" in result.err, result
        assert stored() == before


def test_commit_to_a_full_disk_is_an_error_of_one_line_and_makes_nothing(
    container, image, name
):
    with container.running(image=image) as box:
        box.ask("head -c 5000000 /dev/zero >/zeros; touch /last")
        for place, options in (LAYERS, "size=1m"), (IMAGES, "nr_inodes=1"):
            before = stored()
            with small_disk(place, options):
                result = workshop("commit", box.process.pid, name)
                assert refused(result) and "No space left" in result.err, result
                assert os.listdir(place) == []
            assert stored() == before


def commit_begun(box, name):
    """Starts a commit with a lot to copy. Returns the process once it is copying."""
    box.ask("for n in 1 2 3; do head -c 100000000 /dev/zero >/zeros$n; done")
    process = subprocess.Popen(
        argv("commit", box.process.pid, name),
        stdout=-1,
        stderr=-1,
        text=True,
        env=ENVIRONMENT,
    )
    assert eventually(lambda: list(LAYERS.glob(f".{name}.*/*")), 30), process.poll()
    return process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_commit_makes_no_image(container, image, name, number):
    before = stored()
    with container.running(image=image) as box:
        process = commit_begun(box, name)
        process.send_signal(number)
        process.communicate(timeout=LIMIT)
        assert process.returncode != 0
        assert not (IMAGES / name).exists()
        if number == signal.SIGKILL:
            assert not [n for n in stored()[0] if n.startswith(name)]
            # No process continues to copy, and the next commit removes what was copied.
            assert workshop("commit", box.process.pid, f"{name}.2").status == 0
            shell(f"rm -rf {IMAGES}/{name}.2 {LAYERS}/{name}.2@*")
        assert stored() == before


def test_container_that_ends_during_a_commit_makes_no_image(container, image, name):
    before = stored()
    with container.running(image=image) as box:
        process = commit_begun(box, name)
        box.kill()
        out, err = process.communicate(timeout=LIMIT)
        result = Result(process.args, process.returncode, out, err)
        assert refused(result) and "ended" in err, result
        assert stored() == before
    container.sweep()


# ---- clean


@pytest.fixture
def network():
    """The network on the host: after the test it is on or off as before."""
    was_on = shell(f"{NETWORK} status", check=False).status == 0
    yield
    shell(f"{NETWORK} {'on' if was_on else 'off'}")


@pytest.mark.quick
@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({}, id="without limits"),
        pytest.param(
            {"memory": "64M"}, id="limits", marks=pytest.mark.needs("cgroup2")
        ),
    ],
)
def test_clean_removes_what_killed_runtimes_left(container, image, network, limits):
    with container.running(image=image, **limits) as box, container.running() as alive:
        box.ask("mkdir -m 0 /x; echo x >/x/y; rm /file")
        pid, inside = box.process.pid, box.pid
        box.kill()
        box.process.wait(10)
        assert eventually(lambda: not os.path.exists(f"/proc/{inside}"))
        assert (CONTAINERS / str(pid)).exists()
        result = workshop("clean")
        assert result.status == 0, result
        assert f"removed {CONTAINERS}/{pid}\n" in result.out, result
        assert not (CONTAINERS / str(pid)).exists()
        if limits:
            assert f"removed /sys/fs/cgroup/workshop/{pid}\n" in result.out, result
            assert not os.path.exists(f"/sys/fs/cgroup/workshop/{pid}")
        # The running container is not touched.
        assert (CONTAINERS / str(alive.process.pid)).exists()
        assert alive.ask("touch /x && echo here") == "here\n"
        assert workshop("clean").out == "nothing to clean\n"


@pytest.mark.needs("cgroup2")
def test_clean_ends_a_command_that_has_outlived_its_runtime(container, image, network):
    """As after `systemctl kill -s KILL` of a unit: the runtime and its guard are killed, and
    the kernel does not kill a command that has changed its user id: prctl(2)."""
    seconds = f"1000.{random.randint(10**6, 10**7)}"
    # Process 1 changes its user id, so that nothing in the container ends it.
    command = f"setpriv --reuid 65534 --clear-groups sleep {seconds}"
    argv = container.argv(*command.split(), image="debian", memory="64M")
    with subprocess.Popen(argv) as runtime:
        try:
            # The container, and after a moment the guard, a copy of the runtime.
            assert eventually(lambda: len(children(runtime.pid)) == 2)
            # Until setpriv has become sleep, the command would die with its runtime.
            assert eventually(lambda: "sleep" in commands_with(seconds).values())
            guard = children(runtime.pid)[1]
            os.kill(runtime.pid, signal.SIGSTOP)  # it must not see its guard end
            os.kill(guard, signal.SIGKILL)
            runtime.kill()
            runtime.wait()
            assert eventually(lambda: len(processes_with(seconds)) == 1)
            time.sleep(0.2)
            assert len(processes_with(seconds)) == 1  # it has outlived its runtime
            folder = CONTAINERS / str(runtime.pid)
            result = workshop("clean")
            assert result.status == 0 and processes_with(seconds) == [], result
            cgroup = f"/sys/fs/cgroup/workshop/{runtime.pid}"
            assert result.lines[:2] == [f"removed {cgroup}", f"removed {folder}"]
            assert not folder.exists() and not os.path.exists(cgroup)
        finally:
            for pid in processes_with(seconds):
                os.kill(pid, signal.SIGKILL)


def test_clean_removes_unfinished_layers_and_layers_of_no_image(
    container, image, name, network
):
    with container.running(image=image) as box:
        process = commit_begun(box, name)
        process.kill()
        process.communicate()
        [half] = LAYERS.glob(f".{name}.*")
        assert workshop("commit", box.process.pid, f"{name}.2").status == 0
        assert not half.exists()
        [whole] = LAYERS.glob(f"{name}.2@*")
        assert workshop("clean").out == "nothing to clean\n"
        (IMAGES / f"{name}.2").unlink()
        (LAYERS / f".{name}.{process.pid}").mkdir()
        result = workshop("clean")
        assert result.out.splitlines() == [
            f"removed {half}, an unfinished commit, pull or removal",
            f"removed {whole}, which no image uses",
        ], result
        assert not whole.exists() and not half.exists()


def test_clean_removes_the_network_unless_it_is_in_use(container, network):
    forwarding = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
    shell(f"{NETWORK} off")
    before = forwarding.read_text()
    shell(f"{NETWORK} on")
    with container.running(net="bridge"):
        result = workshop("clean")
        assert "kept the network: 1 container is connected to it" in result.out, result
        assert shell(f"{NETWORK} status", check=False).status == 0
    gone = pathlib.Path("/sys/class/net/workshop0/brif")
    assert eventually(lambda: not list(gone.iterdir()))
    result = workshop("clean")
    assert "removed the bridge workshop0" in result.out, result
    assert shell(f"{NETWORK} status", check=False).status != 0
    assert not gone.exists() and forwarding.read_text() == before
    time.sleep(0.1)
    assert workshop("clean").out == "nothing to clean\n"
