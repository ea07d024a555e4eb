"""Step 11 by its command line, as podman's conmon calls it: bundles, and what is inside and
outside. Needs no podman. What needs limits is in podman.sh."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from runtime import (
    PROJECT,
    eventually,
    namespace,
    nothing_left_behind,
    processes_with,
    shell,
)

CONTAINER = PROJECT / "steps" / "11_oci" / "container.py"
ROOTFS = "/var/lib/workshop/rootfs/busybox"
SOME = [
    "CAP_CHOWN",
    "CAP_KILL",
    "CAP_SETUID",
    "CAP_SETGID",
    "CAP_NET_RAW",
    "CAP_SYS_ADMIN",
]
FLAGS = ["nosuid", "nodev", "noexec"]


class Bundle:
    """A directory with a config.json, and the runtime's commands for it."""

    def __init__(self, path: pathlib.Path):
        self.path, self.name = path / "bundle", f"box-{os.urandom(4).hex()}"
        self.state = path / "state"
        shutil.copytree(ROOTFS, self.path / "rootfs", symlinks=True)
        sets = "bounding", "effective", "permitted"
        kinds = "pid", "network", "ipc", "uts", "mount"
        self.config: dict[str, Any] = {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {
                "cwd": "/",
                "env": ["PATH=/bin:/sbin"],
                "user": {"uid": 0, "gid": 0},
                "capabilities": dict.fromkeys(sets, SOME),
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "options": FLAGS},
                {"destination": "/dev", "type": "tmpfs", "options": ["mode=755"]},
                {
                    "destination": "/dev/pts",
                    "type": "devpts",
                    "options": ["newinstance", "ptmxmode=0666", "mode=620"],
                },
                {"destination": "/sys", "type": "sysfs", "options": [*FLAGS, "ro"]},
            ],
            "linux": {"namespaces": [{"type": kind} for kind in kinds]},
        }

    def __call__(self, *words: object, status: int | None = 0, **options: Any) -> str:
        """Runs a command of the runtime. Returns its output. status: None if any will do."""
        command = [str(CONTAINER), "--root", str(self.state), *map(str, words)]
        options = {"stdin": subprocess.DEVNULL} | options
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, **options
        )
        if status is not None:
            assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout if done.returncode == 0 or not done.stderr else done.stderr

    def write(self, *command: object) -> None:
        """Writes config.json, with this command."""
        if command:
            self.config["process"]["args"] = [str(word) for word in command]
        (self.path / "config.json").write_text(json.dumps(self.config))

    def run(self, *command: object, **options: Any) -> str:
        """Runs a command in a container of its own. Returns its output."""
        self.write(*command)
        return self("run", "--bundle", self.path, self.name, **options).strip()

    def sh(self, line: str, **options: Any) -> str:
        return self.run("sh", "-c", line, **options)

    def create(self, *command: object, **options: Any) -> str:
        """Creates a container. Its output goes nowhere, because it may outlive the test."""
        self.write(*command)
        command = [
            str(CONTAINER),
            "--root",
            self.state,
            "create",
            "--bundle",
            self.path,
        ]
        errors = self.path / "errors"
        with errors.open("w") as file:
            done = subprocess.run(
                [*map(str, command), self.name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=file,
                timeout=60,
            )
        assert done.returncode == options.get("status", 0), errors.read_text()
        return errors.read_text()

    def known(self) -> dict[str, Any]:
        """Returns what `state` prints."""
        known: dict[str, Any] = json.loads(self("state", self.name))
        return known

    def stopped(self) -> bool:
        return self.known()["status"] == "stopped"


@pytest.fixture
def box(tmp_path: pathlib.Path) -> Iterator[Bundle]:
    """A bundle. Afterwards its container is deleted, and the host must be as it was."""
    with nothing_left_behind():
        bundle = Bundle(tmp_path)
        yield bundle
        bundle("delete", "--force", bundle.name)
        assert os.listdir(bundle.state) == [] if bundle.state.exists() else True


# ---- the life of a container: runtime.md


def test_create_waits_start_runs_delete_removes(box):
    box.create("sh", "-c", "echo ran >/file; exec sleep 1000")
    known = box.known()
    assert known["status"] == "created" and known["id"] == box.name
    assert known["bundle"] == str(box.path) and known["ociVersion"]
    assert not (box.path / "rootfs/file").exists(), "the command ran before start"
    box("start", box.name)
    assert eventually(lambda: (box.path / "rootfs/file").exists())
    assert box.known()["status"] == "running"
    assert box.known()["pid"] == known["pid"]
    box("kill", box.name, "KILL")
    assert eventually(box.stopped)
    assert "pid" not in box.known()
    box("delete", box.name)
    assert "does not exist" in box("state", box.name, status=1)


def test_commands_refuse_a_container_in_the_wrong_state(box):
    assert "does not exist" in box("start", box.name, status=1)
    assert "does not exist" in box("kill", box.name, status=1)
    assert "does not exist" in box("delete", box.name, status=1)
    box.create("true")
    assert "unknown signal" in box("kill", box.name, "NONSENSE", status=1)
    box("kill", box.name, "0")
    assert "exists already" in box.create("true", status=1)
    assert "use --force" in box("delete", box.name, status=1)
    box("start", box.name)
    assert eventually(box.stopped)
    assert "stopped" in box("start", box.name, status=1)
    assert "not running" in box("kill", box.name, status=1)
    assert "stopped" in box("exec", box.name, "true", status=1)


def test_run_returns_output_and_status(box):
    assert box.run("echo", "hello") == "hello"
    box.sh("exit 7", status=7)
    box.sh("kill -9 $$", status=0)  # process 1 does not hear it
    assert box.sh("sh -c 'kill -9 $$'; exit $?", status=137) == "Killed"


def test_pid_file_has_the_pid(box, tmp_path):
    box.write("sleep", "1000")
    file = tmp_path / "pid"
    options = {"stdout": None, "stderr": None, "capture_output": False}
    command = [str(CONTAINER), "--root", box.state, "create", "--bundle", box.path]
    subprocess.run([*command, "--pid-file", file, box.name], check=True, timeout=60)
    assert int(file.read_text()) == box.known()["pid"], options


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["no-such"], "executable file not found in $PATH"),
        (["/no/such"], "no such file or directory"),
        (["/etc/passwd"], "permission denied"),
    ],
)
def test_a_command_that_cannot_run_fails_create(box, command, words):
    assert words in box.create(*command, status=1)
    assert not os.listdir(box.state), "a failed create has left something"


def test_errors_reach_the_log_that_podman_reads(box, tmp_path):
    box.write("no-such")
    log = tmp_path / "log"
    words = "--log", log, "--log-format", "json", "create", "--bundle", box.path
    box(*words, box.name, status=1)
    entry = json.loads(log.read_text())
    assert entry["level"] == "error" and "no-such" in entry["msg"]


def test_a_failed_create_leaves_no_process(box, seconds):
    box.config["mounts"].append({"destination": "/x", "type": "no-such-filesystem"})
    assert "no-such-filesystem" in box.create("sleep", seconds, status=1)
    assert not os.listdir(box.state)
    assert not processes_with(box.name)


def test_a_killed_create_leaves_no_process(box, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"cat {fifo}"]}
    box.config["hooks"] = {"prestart": [hook]}
    box.write("sleep", "1000")
    command = [str(CONTAINER), "--root", box.state, "create", "--bundle", box.path]
    create = subprocess.Popen([*map(str, command), box.name])
    with fifo.open("w"):  # now the hook reads
        assert box.known()["status"] == "creating"
        for words in ("start",), ("kill",), ("delete",), ("exec", box.name, "true"):
            box(*words, *([] if len(words) > 1 else [box.name]), status=1)
        create.kill()
        create.wait()
    assert eventually(lambda: not processes_with(box.name))
    box("delete", "--force", box.name)


# ---- what is inside: config.md, config-linux.md


def test_namespaces_are_new(box):
    box.create("sleep", "1000")
    pid = box.known()["pid"]
    for kind in "pid", "net", "ipc", "uts", "mnt":
        assert namespace(kind, pid) != namespace(kind)
    for kind in "user", "cgroup":
        assert namespace(kind, pid) == namespace(kind)


def test_a_namespace_with_a_path_is_entered(box):
    with subprocess.Popen(["unshare", "--net", "--uts", "sleep", "1000"]) as other:
        try:
            eventually(lambda: namespace("net", other.pid) != namespace("net"))
            spaces = [
                n for n in box.config["linux"]["namespaces"] if n["type"] != "network"
            ]
            spaces.append({"type": "network", "path": f"/proc/{other.pid}/ns/net"})
            box.config["linux"]["namespaces"] = spaces
            wanted = namespace("net", other.pid)
            assert box.run("readlink", "/proc/self/ns/net") == f"net:[{wanted}]"
        finally:
            other.kill()


def test_hostname_is_set_only_in_its_own_namespace(box):
    box.config |= {"hostname": "boxy", "domainname": "example"}
    assert box.sh("hostname; cat /proc/sys/kernel/domainname") == "boxy\nexample"
    before = socket.gethostname()
    box.config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}]
    assert "hostname is not allowed" in box.run("true", status=1)
    assert socket.gethostname() == before


@pytest.mark.parametrize(
    ("sysctl", "kind"),
    [("net.ipv4.ip_forward", "network"), ("kernel.shmmni", "ipc")],
)
def test_a_sysctl_is_set_only_in_its_own_namespace(box, sysctl, kind):
    path = pathlib.Path("/proc/sys") / sysctl.replace(".", "/")
    before = path.read_text()
    other = "1" if before.strip() != "1" else "0"
    box.config["linux"]["sysctl"] = {sysctl: other}
    assert box.run("cat", path) == other
    spaces = [n for n in box.config["linux"]["namespaces"] if n["type"] != kind]
    box.config["linux"]["namespaces"] = spaces
    assert "is not allowed" in box.run("true", status=1)
    # Nor is the host's namespace by its path.
    path_ = f"/proc/self/ns/{'net' if kind == 'network' else kind}"
    box.config["linux"]["namespaces"] = [*spaces, {"type": kind, "path": path_}]
    assert "is not allowed" in box.run("true", status=1)
    assert path.read_text() == before


def test_an_error_names_the_sysctl(box):
    box.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "yes"}
    assert "sys/net/ipv4/ip_forward: yes" in box.run("true", status=1)


def test_the_hosts_own_mount_namespace_is_refused(box):
    spaces = [n for n in box.config["linux"]["namespaces"] if n["type"] != "mount"]
    box.config["linux"]["namespaces"] = spaces
    assert "no mount namespace" in box.run("true", status=1)
    spaces.append({"type": "mount", "path": "/proc/self/ns/mnt"})
    assert "not allowed without a mount namespace" in box.run("true", status=1)


def test_the_image_is_the_root_and_the_host_is_gone(box):
    (box.path / "rootfs/own").write_text("image")
    assert box.run("cat", "/own") == "image"
    for line in box.run("cat", "/proc/self/mountinfo").splitlines():
        assert str(box.path) not in line.split()[4]


def test_a_link_in_the_image_leads_to_a_place_in_the_image(box, tmp_path):
    (tmp_path / "outside").mkdir()
    (box.path / "rootfs/place").symlink_to(tmp_path / "outside")
    mount = {"destination": "/place", "type": "tmpfs", "options": ["mode=711"]}
    box.config["mounts"].append(mount)
    box.sh("touch /place/file")
    assert os.listdir(tmp_path / "outside") == []


def test_mounts_have_their_options(box, tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/file").write_text("host")
    source = {"type": "bind", "source": str(tmp_path / "shared")}
    box.config["mounts"] += [
        source | {"destination": "/rw", "options": ["rbind", "rprivate", "noexec"]},
        source | {"destination": "/ro", "options": ["bind", "ro", "nosuid", "noatime"]},
        {"destination": "/t", "type": "tmpfs", "options": ["size=64k", "mode=1777"]},
    ]
    text = box.sh("cat /rw/file /proc/mounts; touch /rw/new; touch /ro/no", status=1)
    assert (tmp_path / "shared/new").exists() and "Read-only" in text
    text = box.sh("cat /proc/mounts; stat -c %a /t")
    options = {
        line.split()[1]: line.split()[3].split(",") for line in text.splitlines()[:-1]
    }
    assert "noexec" in options["/rw"] and "rw" in options["/rw"]
    assert {"ro", "nosuid", "noatime"} <= set(options["/ro"])
    assert "size=64k" in options["/t"] and text.endswith("1777")


def test_a_link_is_copied_if_the_mount_asks_for_it(box, tmp_path):
    """podman's --mount type=bind,no-dereference. The second time, it is there already."""
    (tmp_path / "link").symlink_to("no/where")
    mount = {"type": "bind", "source": str(tmp_path / "link"), "destination": "/a/link"}
    box.config["mounts"].append(mount | {"options": ["rbind", "copy-symlink"]})
    assert box.run("readlink", "/a/link") == "no/where"
    assert box.run("readlink", "/a/link") == "no/where"


@pytest.mark.parametrize(
    ("options", "outside"),
    [(["rbind"], False), (["rbind", "private"], False), (["rbind", "rshared"], True)],
)
def test_mounts_inside_reach_the_host_only_if_shared(box, tmp_path, options, outside):
    """Also what is mounted below the directory: mount_namespaces(7)."""
    place = tmp_path / "shared/below"
    place.mkdir(parents=True)
    shell(f"mount -t tmpfs t {place}; mount --make-shared {place}; mkdir {place}/x")
    try:
        mount = {
            "destination": "/s",
            "type": "bind",
            "source": str(tmp_path / "shared"),
        }
        box.config["mounts"].append(mount | {"options": options})
        box.create("sh", "-c", "mount -t tmpfs t /s/below/x && touch /done; sleep 1000")
        box("start", box.name)
        assert eventually((box.path / "rootfs/done").exists)
        assert os.path.ismount(place / "x") == outside
    finally:
        box("delete", "--force", box.name)
        shell(f"umount -R {place}")


def test_tmpcopyup_shows_what_the_image_has(box):
    directory = box.path / "rootfs/full"
    (directory / "sub").mkdir(parents=True)
    (directory / "sub/file").write_text("image")
    (directory / "link").symlink_to("sub/file")
    os.chown(directory / "sub/file", 7, 8)
    box.config["mounts"].append(
        {"destination": "/full", "type": "tmpfs", "options": ["tmpcopyup"]}
    )
    text = box.sh("cat /full/link; rm -r /full/sub; stat -c %u:%g /full/link")
    assert text.startswith("image") and (directory / "sub/file").exists()


def test_a_read_only_root_and_paths(box):
    box.config["linux"]["readonlyPaths"] = ["/proc/sys", "/etc", "/no/such"]
    box.config["linux"]["maskedPaths"] = ["/proc/cpuinfo", "/proc/fs", "/no/such"]
    inside = (
        "touch /etc/x || echo a; wc -c </proc/cpuinfo; ls /proc/fs | wc -l; touch /y"
    )
    assert box.sh(f"({inside}) 2>/dev/null").split() == ["a", "0", "0"]
    box.config["root"]["readonly"] = True
    assert box.sh("touch /z 2>/dev/null || echo b") == "b"
    assert not (box.path / "rootfs/z").exists()


def test_devices_are_the_containers_own(box):
    before = os.stat("/dev/null")
    own = {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640}
    box.config["linux"]["devices"] = [own | {"uid": 3, "gid": 4}]
    text = box.sh("chmod 600 /dev/null; stat -c '%a %u:%g %t,%T' /dev/null /dev/mine")
    assert text.split("\n") == ["600 0:0 1,3", "640 3:4 1,5"]
    assert os.stat("/dev/null").st_mode == before.st_mode
    box.config["linux"]["maskedPaths"] = ["/proc/keys"]
    box.sh("chmod 777 /proc/keys; true")
    assert os.stat("/dev/null").st_mode == before.st_mode
    names = set(box.run("ls", "/dev").split())
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "fd"} <= names


def test_users_are_mapped(box):
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    box.config["linux"] |= {"uidMappings": maps, "gidMappings": maps}
    box.config["linux"]["namespaces"].append({"type": "user"})
    for top, _, names in os.walk(box.path / "rootfs"):
        for name in [".", *names]:
            os.chown(f"{top}/{name}", 100000, 100000, follow_symlinks=False)
    text = box.sh(
        "cat /proc/self/uid_map; id -u; stat -c %u /dev/null; echo >/dev/null"
    )
    assert text.split() == ["0", "100000", "65536", "0", "0"]
    box.create("sleep", "1000")
    text = pathlib.Path(f"/proc/{box.known()['pid']}/status").read_text()
    assert "Uid:\t100000" in text


def test_an_idmapped_mount_shows_other_owners(box, tmp_path):
    (tmp_path / "shared").mkdir()
    os.chown(tmp_path / "shared", 1000, 1000)
    maps = [{"containerID": 1000, "hostID": 2000, "size": 1}]
    mount = {"destination": "/m", "type": "bind", "source": str(tmp_path / "shared")}
    mount |= {"options": ["bind", "idmap"], "uidMappings": maps, "gidMappings": maps}
    box.config["mounts"].append(mount)
    assert box.run("stat", "-c", "%u:%g", "/m") == "2000:2000"
    assert os.stat(tmp_path / "shared").st_uid == 1000


# ---- the process


def status(box: Bundle, **wanted: Any) -> dict[str, str]:
    """Returns /proc/self/status of a process that config.json describes like this."""
    box.config["process"] |= wanted
    lines = box.run("cat", "/proc/self/status").splitlines()
    return {line.split(":")[0]: line.split(":")[1].strip() for line in lines}


def bits(*names: str) -> str:
    numbers = {"CAP_CHOWN": 0, "CAP_KILL": 5, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}
    return f"{sum(1 << numbers[name] for name in names):016x}"


def test_capabilities_are_those_of_the_config(box):
    given = {
        "bounding": ["CAP_CHOWN", "CAP_KILL"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"],
    }
    given |= {"effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"]}
    found = status(box, capabilities=given)
    # execve(2) gives root what the bounding set allows, and that is effective.
    assert found["CapBnd"] == found["CapPrm"] == bits("CAP_CHOWN", "CAP_KILL")
    assert found["CapInh"] == bits("CAP_KILL")


def test_without_capabilities_in_the_config_there_are_none(box):
    del box.config["process"]["capabilities"]
    found = status(box)
    assert {found[name] for name in found if name.startswith("Cap")} == {bits()}


def test_an_ordinary_user_has_only_ambient_capabilities(box):
    user = {"uid": 1000, "gid": 2000, "additionalGids": [3000, 4000], "umask": 0o77}
    found = status(box, user=user)
    assert found["CapEff"] == found["CapPrm"] == bits() and found["Umask"] == "0077"
    assert found["Uid"].split() == ["1000"] * 4 and found["Gid"].split() == ["2000"] * 4
    assert found["Groups"].split() == ["3000", "4000"]
    kinds = "bounding", "effective", "permitted", "inheritable", "ambient"
    found = status(box, capabilities={kind: ["CAP_NET_RAW"] for kind in kinds})
    assert found["CapAmb"] == found["CapEff"] == bits("CAP_NET_RAW")


def test_the_callers_groups_stay_only_if_asked_for(box):
    """podman's --group-add keep-groups."""
    box.write("cat", "/proc/self/status")
    words = [CONTAINER, "--root", box.state, "run", "--bundle", box.path, box.name]
    command = ["setpriv", "--groups", "3000,4000", *words]
    for annotation, groups in ("0", []), ("1", ["3000", "4000"]):
        box.config["annotations"] = {"run.oci.keep_original_groups": annotation}
        box.write()
        text = subprocess.check_output(list(map(str, command)), text=True, timeout=60)
        [line] = [line for line in text.splitlines() if line.startswith("Groups:")]
        assert line.split()[1:] == groups


def test_no_new_privileges_limits_and_oom_score(box):
    wanted = {"noNewPrivileges": True, "oomScoreAdj": 500}
    limit = {"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}
    assert status(box, **wanted, rlimits=[limit])["NoNewPrivs"] == "1"
    text = box.sh("ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj")
    assert text.split() == ["50", "60", "500"]


@pytest.mark.parametrize("privileges", [True, False])
def test_seccomp_refuses_what_the_filter_names(box, privileges):
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
    box.config["linux"]["seccomp"] = profile
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    found = status(box, noNewPrivileges=privileges)
    assert found["Seccomp"] == "2" and found["NoNewPrivs"] == str(int(privileges))
    assert "No space left" in box.run("mkdir", "/tmp/new", status=1)


def test_nothing_of_the_callers_is_inherited(box):
    os.environ["SECRET"] = "word"
    with open("/etc/hostname") as file:
        os.set_inheritable(file.fileno(), True)
        text = box.sh("env; ls -l /proc/self/fd", close_fds=False)
    del os.environ["SECRET"]
    assert "SECRET" not in text and "hostname" not in text
    assert "HOME=/root" in text


def test_a_terminal_goes_out_by_the_console_socket(box, tmp_path):
    box.config["process"]["terminal"] = True
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "console"))
    listener.listen()
    box.write("sh", "-c", "tty; stty size; exec sleep 1000")
    box.config["process"]["consoleSize"] = {"height": 10, "width": 33}
    box.write()
    box(
        "create",
        "--bundle",
        box.path,
        "--console-socket",
        tmp_path / "console",
        box.name,
    )
    name, [terminal], _, _ = socket.recv_fds(listener.accept()[0], 100, 1)
    box("start", box.name)
    text = ""
    while "33" not in text:
        text += os.read(terminal, 1000).decode()
    assert text.split() == ["/dev/pts/0", "10", "33"] and name == b"/dev/pts/0"
    os.close(terminal)


# ---- exec


def test_exec_joins_the_container(box):
    box.config["hostname"] = "boxy"
    box.create("sleep", "1000")
    box("start", box.name)
    assert box("exec", box.name, "hostname").strip() == "boxy"
    assert box(
        "exec", "-e", "A=b", "--cwd", "/etc", box.name, "sh", "-c", "echo $A $PWD"
    ) == ("b /etc\n")
    assert box("exec", "-u", "7:8", box.name, "sh", "-c", "id -u; id -g") == "7\n8\n"
    box("exec", box.name, "sh", "-c", "exit 7", status=7)
    assert "not found" in box("exec", box.name, "no-such", status=1)
    one, other = (
        box("exec", box.name, "grep", "Cap", f"/proc/{pid}/status")
        for pid in ("1", "self")
    )
    assert one == other


def test_exec_runs_a_process_of_a_file(box, tmp_path):
    box.create("sleep", "1000")
    box("start", box.name)
    process = {
        "args": ["sh", "-c", "id -u; pwd; cat"],
        "cwd": "/tmp",
        "env": ["PATH=/bin"],
    }
    file = tmp_path / "process.json"
    file.write_text(json.dumps(process | {"user": {"uid": 5, "gid": 5}}))
    words = "exec", "--process", file, box.name
    assert box(*words, stdin=None, input="typed") == "5\n/tmp\ntyped"


# ---- hooks


def test_hooks_are_called_in_order_with_the_state(box, tmp_path):
    log = tmp_path / "log"
    hooks = {}
    for kind in "prestart", "createRuntime", "createContainer", "poststart", "poststop":
        words = ["sh", "-c", f"echo {kind} $(cat) >>{log}"]
        hooks[kind] = [
            {"path": "/bin/sh", "args": words, "env": ["PATH=/bin:/usr/bin"]}
        ]
    words = ["sh", "-c", "cat >/started"]
    hooks["startContainer"] = [{"path": "/bin/sh", "args": words}]
    box.config |= {"hooks": hooks, "annotations": {"a": "b"}}
    box.run("sleep", "0.1")
    lines = [line.partition(" ") for line in log.read_text().splitlines()]
    assert [line[0] for line in lines] == [
        *("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    ]
    states = [json.loads(line[2]) for line in lines]
    assert [state["status"] for state in states] == [
        *["creating"] * 3,
        "running",
        "stopped",
    ]
    assert all(s["id"] == box.name and s["annotations"] == {"a": "b"} for s in states)
    started = json.loads((box.path / "rootfs/started").read_text())
    assert started["status"] == "created"


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_hook_that_fails_fails_create(box, kind):
    box.config["hooks"] = {kind: [{"path": "/bin/false"}]}
    assert kind in box.create("true", status=1)
    assert not os.listdir(box.state)


def test_a_hook_that_takes_too_long_fails_create(box):
    hook = {"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}
    box.config["hooks"] = {"prestart": [hook]}
    begin = time.monotonic()
    box.create("true", status=1)
    assert time.monotonic() - begin < 50


# ---- attacks on the runtime itself


def test_the_runtimes_own_program_cannot_be_overwritten(box):
    """CVE-2019-5736: a command /proc/self/exe would be the host's Python, and open to root
    inside for writing."""
    for name in "/usr", "/lib", "/lib64", "/root/.pyenv":
        if os.path.isdir(name):
            mount = {"destination": name, "type": "bind", "source": name}
            box.config["mounts"].append(mount | {"options": ["rbind", "ro"]})
    code = (
        "import os; s = os.statvfs('/proc/self/exe'); print(s.f_flag & os.ST_RDONLY)\n"
    )
    code += (
        "try: open('/proc/self/exe', 'r+')\nexcept OSError as error: print(error.errno)"
    )
    read_only, error = box.run("/proc/self/exe", "-c", code).split()
    assert read_only == "1" and error in ("26", "30")  # ETXTBSY, EROFS


PLACES = ["/", "..", "/sys/../..", "/proc/self/root", "/../../{outside}", "self"]


@pytest.mark.parametrize("target", PLACES)
@pytest.mark.parametrize("name", ["proc", "dev", "sys", "etc", "masked"])
def test_no_link_of_the_image_leads_to_the_host(box, tmp_path, name, target):
    """symlink(7): what is attached, made, hidden or copied up is in the image, or nothing is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("host")
    target = name if target == "self" else target.format(outside=outside)
    place = box.path / "rootfs" / name
    shutil.rmtree(place, ignore_errors=True)
    place.symlink_to(target)
    box.config["mounts"].append(
        {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup", "size=1m"]}
    )
    hidden = ["/masked/secret", "/masked", f"/masked{outside}/secret"]
    box.config["linux"] |= {"maskedPaths": hidden, "readonlyPaths": hidden}
    text = box.sh(
        f"cat /..{outside}/secret {outside}/secret {place.name}/secret", status=None
    )
    assert "host" not in text.replace(str(outside), "")
    assert (outside / "secret").read_text() == "host"
    assert os.listdir(outside) == ["secret"] and not os.path.ismount(outside)


@pytest.mark.parametrize(
    "script",
    [
        "mkfifo passwd",
        "mkdir passwd",
        "ln -s /dev/zero passwd",
        "ln -s /proc/kmsg passwd",
        "ln -s passwd passwd",
        "ln -s ../../../../../../etc/passwd passwd",
        "head -c 3000000 /dev/zero >passwd",
        "printf 'a:b\\n\\377:x:1:1:::\\n' >passwd",
    ],
)
def test_the_home_may_be_in_any_kind_of_file(box, script):
    """passwd(5), fifo(7): the image's file is never the host's, and never without end."""
    shell(f"cd {box.path}/rootfs/etc; rm -f passwd; {script}")
    box.config["process"]["user"] = {"uid": 1000, "gid": 1000}
    assert box.sh("echo $HOME") == "/"


MODULES = """
import sys
print(*sys.path, *sys.stdlib_module_names, "terminal", "tools", "rootfs", sep="\\n")
"""


@pytest.fixture
def poisoned(box):
    """Puts modules into the image, where Python would look for its own and for ours. Each of
    them leaves a file if it is imported."""
    words = ["/usr/bin/python3", "-SE", "-c", MODULES]
    lines = subprocess.check_output(words, text=True).split("\n")
    folders = [line for line in lines if line.startswith("/")]
    folders += [str(CONTAINER.parent), str(CONTAINER.parent.parent)]
    for folder in filter(os.path.isdir, folders):
        place = pathlib.Path(f"{box.path}/rootfs/{folder}")
        place.mkdir(parents=True, exist_ok=True)
        for name in lines:
            if name.isidentifier():
                text = f'open("/imported", "a").write("{name} ")\n'
                (place / f"{name}.py").write_text(text)
    return box.path / "rootfs/imported"


def test_nothing_is_imported_from_the_image(box, poisoned, tmp_path, monkeypatch):
    """import: once the image is the root, its modules would be in place of the host's."""
    state = "process", "linux"
    before = {key: json.dumps(box.config[key]) for key in state}
    box.run("true")
    box.run("no-such-command", status=1)
    box.config["process"] |= {"cwd": "/etc/passwd"}
    box.run("true", status=1)
    box.config["process"] = json.loads(before["process"])
    box.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}
    box.config["process"] |= {
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 9}]
    }
    box.config["mounts"].append(
        {"destination": "/etc", "type": "tmpfs", "options": ["tmpcopyup"]}
    )
    box.run("true")
    box.config["mounts"].append({"destination": "/x", "type": "none-such"})
    box.run("true", status=1)
    assert not poisoned.exists(), poisoned.read_text()
    box.config["mounts"].pop()
    copy = tmp_path / "steps"
    shutil.copytree(PROJECT / "steps", copy)
    file, line = copy / "11_oci/inside.py", "    for tree, mount in trees:\n"
    source = file.read_text()
    assert source.count(line) == 1
    file.write_text(source.replace(line, f"    import csv\n{line}"))
    monkeypatch.setattr(__name__ + ".CONTAINER", copy / "11_oci/container.py")
    box.run("true", status=None)
    assert poisoned.read_text().startswith("csv ")


def test_a_working_directory_outside_is_refused(box):
    """CVE-2024-21626: an inherited descriptor is a directory of the host."""
    directory = os.open("/", os.O_RDONLY)
    os.set_inheritable(directory, True)
    for number in range(3, 12):
        box.config["process"]["cwd"] = f"/proc/self/fd/{number}"
        text = box.run(
            "ls", "/proc/self/cwd/var/lib/workshop", status=None, close_fds=False
        )
        assert "rootfs" not in text.split()
    os.close(directory)


# ---- limits


@pytest.mark.needs("cgroup2")
def test_limits_are_those_of_the_cgroup(box):
    box.config["linux"]["resources"] = {
        "memory": {"limit": 64 << 20, "swap": 64 << 20},
        "pids": {"limit": 17},
        "cpu": {"quota": 50000, "period": 100000, "shares": 512},
    }
    box.config["linux"]["cgroupsPath"] = f"/oci-test/{box.name}"
    box.config["linux"]["namespaces"].append({"type": "cgroup"})
    box.config["mounts"].append(
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["ro"]}
    )
    files = "memory.max memory.swap.max pids.max cpu.max cpu.weight"
    text = box.sh(f"cd /sys/fs/cgroup; cat {files} /proc/self/cgroup")
    own = [str(64 << 20), "0", "17", "50000 100000", "20", "0::/"]
    assert text.splitlines() == own
    box.sh("head -c 200m /dev/zero | tail -c 150m >/dev/null; exit $?", status=137)
    assert not os.path.exists(f"/sys/fs/cgroup/oci-test/{box.name}")
    os.rmdir("/sys/fs/cgroup/oci-test")


@pytest.mark.needs("cgroup2")
@pytest.mark.skipif(
    not os.path.isdir("/run/systemd/system"), reason="this needs systemd"
)
def test_systemd_knows_the_limits_and_keeps_them(box):
    """If one property of a unit changes, systemd writes the files of all others again."""
    cpu = {"quota": 33333, "period": 100000, "shares": 512, "cpus": "0"}
    limits = {"memory": {"limit": 64 << 20}, "pids": {"limit": 17}, "cpu": cpu}
    box.config["linux"]["resources"] = limits
    box.config["linux"]["cgroupsPath"] = f"system.slice:oci:{box.name}"
    box.write("sleep", "1000")
    words = [CONTAINER, "--root", box.state, "--systemd-cgroup", "create"]
    words += ["--bundle", box.path, box.name]
    streams = dict.fromkeys(["stdin", "stdout", "stderr"], subprocess.DEVNULL)
    subprocess.run(list(map(str, words)), check=True, timeout=60, **streams)
    scope = box.known()["systemd-scope"]
    place = pathlib.Path("/sys/fs/cgroup/system.slice") / scope
    names = "memory.max pids.max cpu.max cpu.weight cpuset.cpus".split()

    def found() -> list[str]:
        # When systemd answers the second command, it has done what the first one wants.
        shell(
            f"systemctl set-property --runtime {scope} MemoryMin=1M IOWeight=200; "
            f"systemctl show {scope}"
        )
        return [(place / name).read_text().strip() for name in names]

    assert found() == [str(64 << 20), "17", "33333 100000", "20", "0"]
    box("update", "--pids-limit", "18", "--cpu-share", "1024", box.name)
    assert found() == [str(64 << 20), "18", "33333 100000", "39", "0"]


@pytest.mark.needs("cgroup2")
def test_pause_stops_all_processes(box):
    box.config["linux"]["cgroupsPath"] = f"/oci-test/{box.name}"
    box.create("sh", "-c", "while :; do date +%N >/file; done")
    box("start", box.name)
    file = box.path / "rootfs/file"
    assert eventually(file.exists)
    box("pause", box.name)
    assert box.known()["status"] == "paused"
    before = file.read_text()
    time.sleep(0.3)
    assert file.read_text() == before
    assert "paused" in box("exec", box.name, "true", status=1)
    box("resume", box.name)
    assert eventually(lambda: file.read_text() != before)
    box("delete", "--force", box.name)
    os.rmdir("/sys/fs/cgroup/oci-test")


@pytest.mark.needs("cgroup2")
def test_disks_can_be_made_but_not_opened(box):
    box.config["linux"]["cgroupsPath"] = f"/oci-test/{box.name}"
    for kind in "bounding", "effective", "permitted":
        box.config["process"]["capabilities"][kind] = [*SOME, "CAP_MKNOD"]
    numbers = pathlib.Path("/proc/partitions").read_text().splitlines()[2].split()[:2]
    line = f"mknod /dev/disk b {' '.join(numbers)} && head -c 1 /dev/disk"
    assert "Operation not permitted" in box.sh(line, status=1)
    assert box.sh("echo >/dev/null && head -c 3 /dev/zero | wc -c") == "3"
    os.rmdir("/sys/fs/cgroup/oci-test")


def test_run_passes_on_that_a_service_is_ready(box, tmp_path, monkeypatch):
    """sd_notify(3): of what is said inside, only READY=1 means something outside."""
    place = tmp_path / "notify"
    monkeypatch.setenv("NOTIFY_SOCKET", str(place))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outside:
        outside.bind(str(place))
        box.write("sh", "-c", "echo $NOTIFY_SOCKET; ls -A $NOTIFY_SOCKET; read line")
        words = [CONTAINER, "--root", box.state, "run", "--bundle", box.path, box.name]
        streams = dict.fromkeys(["stdin", "stdout"], subprocess.PIPE)
        with subprocess.Popen(list(map(str, words)), text=True, **streams) as run:
            assert run.stdout and run.stdin
            inside = run.stdout.readline().strip()
            pid = box.known()["pid"]
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as container:
                there = f"/proc/{pid}/root{inside}"
                for line in b"STATUS=almost", b"MAINPID=1\nREADY=1":
                    container.sendto(line, there)
            outside.settimeout(30)
            assert outside.recv(100) == b"READY=1"
            run.stdin.write("\n")
            run.stdin.close()
        assert run.returncode == 0


def test_a_signal_to_run_reaches_the_command(box):
    box.write(
        "sh",
        "-c",
        "trap 'echo caught; exit 3' TERM; echo up; while :; do sleep .1; done",
    )
    command = [
        str(CONTAINER),
        "--root",
        box.state,
        "run",
        "--bundle",
        box.path,
        box.name,
    ]
    with subprocess.Popen(
        [*map(str, command)], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout and run.stdout.readline() == "up\n"
        run.send_signal(signal.SIGTERM)
        assert run.stdout.read() == "caught\n"
    assert run.returncode == 3
