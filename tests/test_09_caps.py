"""Step 09: root inside has less than all of root's power, and sees less of the machine.
capabilities(7), prctl(2), podman-run(1)"""

import json
import pathlib
import random
import re

import linux
import pytest
from archives import digest
from runtime import (
    MASKED,
    READ_ONLY,
    Runtime,
    assert_one_line_error,
    namespace,
    shell,
)

STATE = pathlib.Path("/var/lib/workshop")
SETS = {"CapEff": "effective", "CapPrm": "permitted", "CapBnd": "bounding"}
SETS |= {"CapInh": "inheritable", "CapAmb": "ambient"}
DEFAULT = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"}
DEFAULT |= {"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
ALL = set(linux.CAP)
SHOW = "grep -e ^Cap -e ^NoNewPrivs -e ^Uid /proc/self/status"


def run(runtime, options, *command, image="busybox"):
    """Runs a container with these options, which can be given several times."""
    words = ["run", "--net", "none", *options, image, *command]
    return runtime.run(*words, raw=True)


def sets(status):
    """Returns {name of a set: names of its capabilities, sorted} of a process's status."""
    found = {}
    for line, name in SETS.items():
        mask = int(re.search(rf"^{line}:\s*(\w+)$", status, re.MULTILINE)[1], 16)
        known = (word for word, number in linux.CAP.items() if mask >> number & 1)
        assert mask >> len(linux.CAP) == 0, "the kernel has more of them than linux.CAP"
        found[name] = sorted(known)
    return found


def expected(usable, bounding, handed_on=()):
    """Returns what sets() should return. `usable`: what is permitted and effective.
    `handed_on`: what is inheritable and ambient."""
    found = dict.fromkeys(["effective", "permitted"], sorted(usable))
    found["bounding"] = sorted(bounding)
    return found | dict.fromkeys(["inheritable", "ambient"], sorted(handed_on))


@pytest.fixture
def app(container_py):
    """The name of an image whose config asks for the user 1000."""
    name = f"caps-{random.randint(10**6, 10**7)}"
    made = [STATE / "images" / name, STATE / "origins" / name]

    def blob(document):
        data = json.dumps({"comment": name, **document}).encode()
        made.append(STATE / "blobs" / digest(data).replace(":", "/"))
        return data, {"digest": digest(data), "size": len(data)}

    config, descriptor = blob({"config": {"User": "1000"}})
    manifest, root = blob({"config": descriptor})
    origin = json.dumps({"manifest": root}).encode()
    layers = (STATE / "images/busybox").read_bytes()
    for path, data in zip(made, (layers, origin, config, manifest), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    yield name
    for path in made:
        path.unlink()


# ---- what root inside may do


@pytest.mark.told("spec", "spec-default")
def test_root_has_eleven_capabilities_and_can_get_no_others(runtime):
    """capabilities(7): the bounding set is what an execve(2) can bring back."""
    found = sets(runtime.ok(SHOW))
    kept = {name: found[name] for name in ("effective", "permitted", "bounding")}
    assert kept == dict.fromkeys(kept, sorted(DEFAULT))


@pytest.mark.also_before  # a new user namespace begins with these two empty
@pytest.mark.told("spec-child")
def test_root_hands_down_no_capability_to_programs_of_other_users(runtime):
    """capabilities(7), CVE-2022-24769: the inheritable and the ambient set are empty."""
    found = sets(runtime.ok(SHOW))
    handed_on = {name: found[name] for name in ("inheritable", "ambient")}
    assert handed_on == {"inheritable": [], "ambient": []}


@pytest.mark.told("spec", "spec-default", given=["denied", "permitted"])
@pytest.mark.parametrize(
    "script",
    [
        "mount -t tmpfs none /tmp",
        "umount /tmp",
        "hostname other",
        "ip link add x type bridge",
        "ip link set lo down",
        "ping -c 1 127.0.0.1",
    ],
)
def test_root_is_refused_what_the_default_list_lacks(runtime, script):
    """capabilities(7): CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_NET_RAW."""
    result = runtime.run(script)
    assert result.status != 0, result
    assert re.search("denied|not permitted", result.err), result


@pytest.mark.also_before
@pytest.mark.told("spec-default", given=["1000"])
@pytest.mark.parametrize(
    ("script", "out"),
    [
        ("touch /x; chown 1000:5 /x; stat -c %u:%g /x", "1000:5"),
        ("touch /x; chown 1000 /x; chmod 0 /x; echo hello >>/x; cat /x", "hello"),
        ("touch /x; chown 1000 /x; chmod 640 /x; stat -c %a /x", "640"),
        ("su -s /bin/sh nobody -c 'id -u'", "65534"),
        ("chroot / echo hello", "hello"),
        ("su -s /bin/sh nobody -c 'exec sleep 9' & sleep 1; kill $!; echo $?", "0"),
        ("timeout 1 nc -l -p 80; echo $?", "143"),
    ],
    ids=["chown", "write", "chmod", "setuid", "chroot", "kill", "port 80"],
)
def test_root_may_do_what_programs_in_images_need(runtime, script, out):
    """capabilities(7): CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_SETUID, CAP_SETGID,
    CAP_SYS_CHROOT, CAP_KILL, CAP_NET_BIND_SERVICE."""
    assert runtime.ok(script) == f"{out}\n"


@pytest.mark.told("spec", "spec-options")
@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--cap-add", "NET_RAW"], DEFAULT | {"NET_RAW"}),
        (["--cap-add", "cap_net_raw"], DEFAULT | {"NET_RAW"}),
        (["--cap-add=Net_Raw,CAP_SYS_ADMIN"], DEFAULT | {"NET_RAW", "SYS_ADMIN"}),
        (["--cap-add", "NET_RAW", "--cap-add", "BPF"], DEFAULT | {"NET_RAW", "BPF"}),
        (["--cap-add", "CHOWN"], DEFAULT),
        (["--cap-add", "all"], ALL),
        (["--cap-drop", "KILL"], DEFAULT - {"KILL"}),
        (["--cap-drop", "kill,MKNOD"], DEFAULT - {"KILL"}),
        (["--cap-drop", "ALL"], set()),
        (["--cap-drop", "ALL", "--cap-add", "KILL,MKNOD"], {"KILL", "MKNOD"}),
        (["--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"], ALL - {"SYS_ADMIN"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_capabilities_can_be_added_and_dropped(runtime, options, kept):
    """podman-run(1): --cap-add, --cap-drop"""
    result = run(runtime, options, *SHOW.split())
    assert result.status == 0, result
    assert sets(result.out) == expected(kept, kept)


@pytest.mark.told("spec-options", "spec-errors")
@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--cap-add", "NET_RAWS"], "no capability 'NET_RAWS'"),
        (["--cap-add", "CHOWN,"], "no capability ''"),
        (["--cap-drop", "13"], "no capability '13'"),
        (["--cap-add", "KILL,BPF", "--cap-drop", "cap_bpf"], "both name BPF"),
        (["--cap-add", "ALL", "--cap-drop", "ALL"], "both name ALL"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_capabilities_are_an_error_of_one_line(runtime, options, word):
    """podman-run(1)"""
    assert_one_line_error(run(runtime, options, "true"), word)


@pytest.mark.told("spec-options", given=["status 0"])
def test_what_is_added_can_be_used(runtime):
    """capabilities(7): CAP_SYS_ADMIN, CAP_NET_RAW"""
    script = "mount -t tmpfs none /tmp && umount /tmp && ping -c 1 127.0.0.1"
    result = run(
        runtime,
        ["--cap-add", "SYS_ADMIN,NET_RAW"],
        "sh",
        "-c",
        f"{script}; echo status $?",
    )
    assert result.out.endswith("status 0\n"), result


@pytest.mark.told("spec-default")
def test_ordinary_user_of_the_host_gives_root_inside_the_same_list(runtime, tmp_path):
    """user_namespaces(7): also for them, root in a new namespace begins with all."""
    home = tmp_path / "home"
    home.mkdir()
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {home}/root")
    shell(f"chown -R nobody:nogroup {home}")
    shell(f"chmod 755 {tmp_path} {tmp_path.parent} {tmp_path.parent.parent}")
    words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    user = Runtime(runtime.path, [*words, "env", f"HOME={home}"])
    status = user.ok(SHOW, image=home / "root")
    assert sets(status) == expected(DEFAULT, DEFAULT)
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE)


# ---- the other users inside


@pytest.mark.told("spec-child")
def test_user_of_the_image_has_no_capability_by_default(runtime, app):
    """capabilities(7), effect of user ID changes"""
    result = run(runtime, [], *SHOW.split(), image=app)
    assert result.status == 0, result
    assert sets(result.out) == expected([], DEFAULT)


@pytest.mark.told("spec-child", "spec-options")
@pytest.mark.parametrize(
    ("options", "own", "bounding"),
    [
        (["--cap-add", "CHOWN"], {"CHOWN"}, DEFAULT),
        (
            ["--cap-add", "NET_RAW,CHOWN"],
            {"NET_RAW", "CHOWN"},
            DEFAULT | {"NET_RAW"},
        ),
        (["--cap-drop", "ALL", "--cap-add", "KILL"], {"KILL"}, {"KILL"}),
        (["--cap-add", "ALL", "--cap-drop", "BPF"], ALL - {"BPF"}, ALL - {"BPF"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_user_of_the_image_has_exactly_what_was_added(
    runtime, app, options, own, bounding
):
    """capabilities(7): without the ambient set an execve(2) would clear the others."""
    result = run(runtime, options, *SHOW.split(), image=app)
    assert result.status == 0, result
    assert sets(result.out) == expected(own, bounding, own)
    assert re.search(r"^Uid:\s*1000\s", result.out, re.MULTILINE)


@pytest.mark.told("spec-child")
def test_program_with_a_set_user_id_bit_gives_nothing(runtime):
    """prctl(2), PR_SET_NO_NEW_PRIVS"""
    script = "cp /usr/bin/id /; chmod 4755 /id; su -s /bin/sh nobody -c '/id -u'"
    assert runtime.ok("sh", "-c", script, image="debian") == "65534\n"
    assert re.search(r"^NoNewPrivs:\s*1$", runtime.ok(SHOW), re.MULTILINE)


# ---- what is covered


@pytest.mark.told("spec-masked")
def test_places_about_the_machine_are_empty(runtime):
    """proc(5), sysfs(5), mount_namespaces(7). Which of them exist depends on the kernel."""
    places = [place for place in MASKED if pathlib.Path(place).exists()]
    assert "/proc/cmdline" in places and "/proc/interrupts" in places
    lines = runtime.ok("cat /proc/self/mountinfo").splitlines()
    mounted = {line.split()[4] for line in lines}
    assert set(places) <= mounted
    for place in places:
        show = "cat" if pathlib.Path(place).is_file() else "ls -A"
        assert runtime.ok(f"{show} {place}") == "", place


@pytest.mark.told("spec-masked", given=["Read-only file system"])
def test_settings_of_the_kernel_are_read_only(runtime):
    """proc_sys(5): root inside owns its network namespace, and so the settings of that."""
    places = [place for place in READ_ONLY if pathlib.Path(place).exists()]
    lines = runtime.ok("cat /proc/self/mountinfo").splitlines()
    options = {line.split()[4]: line.split()[5].split(",") for line in lines}
    assert {place for place in places if "ro" in options.get(place, [])} == {*places}
    result = runtime.run("echo 1 >/proc/sys/net/ipv4/ip_forward")
    assert result.status == 1 and "Read-only file system" in result.err, result


@pytest.mark.also_before
@pytest.mark.told("spec-masked", given=["MemTotal", "container", "new"])
def test_rest_of_proc_and_sys_is_there(runtime):
    """proc(5): what programs read, and each process's own directory."""
    script = "cat /proc/meminfo /proc/sys/kernel/hostname; ls /sys/class/net; echo $$"
    lines = runtime.ok(script).splitlines()
    assert lines[0].startswith("MemTotal") and lines[-3:] == ["container", "lo", "1"]
    assert runtime.ok("echo -n new >/proc/$$/comm; cat /proc/$$/comm; true") == "new\n"


@pytest.mark.told("spec-masked")
@pytest.mark.parametrize(
    "script",
    [
        "umount /proc/cmdline; cat /proc/cmdline",
        "mount -o remount,rw /proc/sys; echo 1 >/proc/sys/net/ipv4/ip_forward && echo done",
        "unshare -Urm sh -c 'umount /proc/cmdline; cat /proc/cmdline'",
        "unshare -Urmpf sh -c 'mount -t proc proc /mnt; cat /mnt/cmdline'",
    ],
)
def test_root_cannot_take_the_covers_away(runtime, script):
    """mount_namespaces(7): in a user namespace inside, mounts from outside stay together."""
    result = runtime.run("bash", "-c", script, image="debian")
    assert result.out == "" and result.err != "", result


@pytest.mark.told("spec-masked")
def test_host_keeps_its_own_proc(runtime):
    """mount_namespaces(7)"""
    before = pathlib.Path("/proc/cmdline").read_text()
    with runtime.running() as box:
        assert namespace("mnt", box.pid) != namespace("mnt")
        assert box.ask("cat /proc/cmdline") == ""
        assert pathlib.Path("/proc/cmdline").read_text() == before != ""
