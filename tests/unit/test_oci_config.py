"""The parts of step 11 that only compute: what config.json means, and the programs for the
kernel. The two programs run here in small interpreters."""

import importlib
import json
import pathlib
import struct
import sys
from types import ModuleType, SimpleNamespace

import pytest

STEP = pathlib.Path(__file__).resolve().parents[2] / "steps" / "11_oci"
MODULES = ["cgroups", "kernel", "spec", "state", "inside", "container"]


@pytest.fixture(scope="module")
def step() -> SimpleNamespace:
    """The modules of step 11. Their names are common, so they leave sys.modules again."""
    before = {name: sys.modules.pop(name, None) for name in MODULES}
    sys.path.insert(0, str(STEP))
    try:
        found = {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(STEP))
        for name, module in before.items():
            sys.modules.pop(name, None)
            if isinstance(module, ModuleType):
                sys.modules[name] = module
    return SimpleNamespace(**found)


def config(**changes):
    """Returns a small config.json with some of its top-level members replaced."""
    whole = {
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs"},
        "process": {"args": ["sh"], "cwd": "/"},
        "linux": {"namespaces": [{"type": "mount"}]},
    }
    return whole | changes


# ---- config.json


def test_a_small_config_gets_everything_it_left_out(step):
    full = step.spec.checked(config())
    assert full["mounts"] == [] and full["hooks"] == {} and full["annotations"] == {}
    assert full["root"] == {"readonly": False, "path": "rootfs"}
    assert full["process"]["user"] == {"uid": 0, "gid": 0}
    assert full["linux"]["sysctl"] == {} and full["linux"]["seccomp"] is None


def test_null_means_the_same_as_leaving_out(step):
    full = step.spec.checked(config(mounts=None, hooks=None, annotations=None))
    assert full["mounts"] == [] and full["hooks"] == {} and full["annotations"] == {}


def test_the_config_that_was_read_is_not_changed(step):
    before = config(mounts=[{"destination": "/proc", "type": "proc"}])
    text = json.dumps(before)
    step.spec.checked(before)
    assert json.dumps(before) == text


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ociVersion": "invalid"}, "ociVersion"),
        ({"ociVersion": None}, "ociVersion"),
        ({"root": {}}, "root.path"),
        ({"process": {"args": [], "cwd": "/"}}, "process.args"),
        ({"process": {"args": ["sh"], "cwd": "tmp"}}, "absolute"),
        ({"process": {"args": ["sh"]}}, "process.cwd"),
        ({"linux": {}}, "no mount namespace"),
        ({"linux": {"namespaces": [{"type": "mount"}] * 2}}, "there twice"),
        ({"linux": {"namespaces": [{"type": "mnt"}]}}, "mnt is unknown"),
        ({"hooks": {"poststop": [{"path": "true"}]}}, "not an absolute path"),
    ],
)
def test_a_wrong_config_is_refused_with_the_reason(step, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        step.spec.checked(config(**changes))


@pytest.mark.parametrize("names", [["RLIMIT_AS"] * 2, ["RLIMIT_TEST"]])
def test_limits_of_a_process_are_known_and_there_once(step, names):
    limits = [{"type": name, "soft": 1, "hard": 1} for name in names]
    process = {"args": ["sh"], "cwd": "/", "rlimits": limits}
    with pytest.raises(ValueError, match=names[0]):
        step.spec.checked(config(process=process))


def test_a_process_is_not_needed_before_start(step):
    whole = config()
    del whole["process"]
    assert "args" not in step.spec.checked(whole)["process"]


def test_destinations_of_mounts_are_absolute_and_without_dots(step):
    mounts = [{"destination": name} for name in ("proc", "/a//b/", "/x/../../y")]
    full = step.spec.checked(config(mounts=mounts))
    assert [m["destination"] for m in full["mounts"]] == ["/proc", "/a/b", "/y"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.shmmax", "ipc"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.domainname", "uts"),
    ],
)
def test_sysctls_belong_to_a_namespace(step, name, kind):
    assert step.spec.sysctl_namespace(name) == kind


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern",
        "vm.overcommit_memory",
        "fs.file-max",
        "kernel.hostname",
        "net",
    ]
    + ["kernel.modprobe", "fs.mqueue", "../net.core", "kernel/core_pattern"],
)
def test_sysctls_of_the_host_are_refused(step, name):
    linux = {"namespaces": [{"type": "mount"}], "sysctl": {name: "1"}}
    with pytest.raises(ValueError, match="belongs to no namespace"):
        step.spec.checked(config(linux=linux))


# ---- options of a mount


@pytest.mark.parametrize(
    ("options", "on", "off"),
    [
        ([], 0, 0),
        (["ro", "nosuid", "nodev", "noexec"], 0xF, 0),
        (["rw", "suid"], 0, 0x3),
        (["ro", "rw"], 0, 0x1),
        (["rw", "ro"], 0x1, 0),
        (["noatime"], 0x10, 0x70),
        (["strictatime"], 0x20, 0x70),
        (["relatime"], 0, 0x70),
        (["noatime", "strictatime"], 0x20, 0x70),
    ],
)
def test_options_become_attributes(step, options, on, off):
    flags = step.spec.mount_flags(options)
    assert (flags.on, flags.off) == (on, off)
    assert flags.data == flags.superblock == []


def test_options_with_an_r_in_front_are_for_everything_below(step):
    flags = step.spec.mount_flags(["rro", "rprivate", "rrelatime"])
    assert (flags.on, flags.all_on, flags.all_off) == (0, 0x1, 0x70)
    assert (flags.propagation, flags.all_propagation) == (0, 1 << 18)


def test_other_options_are_for_the_filesystem(step):
    flags = step.spec.mount_flags(["mode=755", "sync", "size=64k", "rbind", "nosuid"])
    assert flags.data == ["mode=755", "size=64k"] and flags.superblock == ["sync"]


def test_ids_are_found_in_the_map_they_are_in(step):
    maps = [
        {"containerID": 0, "hostID": 1000, "size": 1},
        {"containerID": 1, "hostID": 100000, "size": 65535},
    ]
    assert step.spec.map_lines(maps) == "0 1000 1\n1 100000 65535"
    assert [step.spec.host_id(n, maps) for n in (0, 1, 65535)] == [1000, 100000, 165534]
    with pytest.raises(ValueError, match="no mapping"):
        step.spec.host_id(65536, maps)


def test_features_name_what_the_tables_have(step):
    features = step.spec.features()
    assert {"ro", "rro", "rprivate", "idmap", "sync"} <= set(features["mountOptions"])
    assert "SCMP_ACT_NOTIFY" in features["linux"]["seccomp"]["actions"]
    assert "CAP_CHECKPOINT_RESTORE" in features["linux"]["capabilities"]
    assert features["linux"]["cgroup"]["v1"] is False
    json.dumps(features)


# ---- limits


@pytest.mark.parametrize(
    ("resources", "files"),
    [
        ({}, []),
        ({"memory": {"limit": 64 << 20}}, [("memory.max", str(64 << 20))]),
        ({"memory": {"limit": -1}}, [("memory.max", "max")]),
        # Version 1 counts memory and swap together; version 2 does not.
        (
            {"memory": {"limit": 100, "swap": 300}},
            [("memory.max", "100"), ("memory.swap.max", "200")],
        ),
        ({"memory": {"swap": 0}}, [("memory.swap.max", "0")]),
        ({"memory": {"reservation": 5}}, [("memory.low", "5")]),
        ({"pids": {"limit": 10}}, [("pids.max", "10")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        ({"pids": {"limit": 0}}, []),
        ({"cpu": {"shares": 2}}, [("cpu.weight", "1")]),
        ({"cpu": {"shares": 1024}}, [("cpu.weight", "39")]),
        ({"cpu": {"shares": 262144}}, [("cpu.weight", "10000")]),
        ({"cpu": {"quota": 50000}}, [("cpu.max", "50000 100000")]),
        ({"cpu": {"quota": -1, "period": 20000}}, [("cpu.max", "max 20000")]),
        ({"cpu": {"cpus": "0-1", "mems": ""}}, [("cpuset.cpus", "0-1")]),
        ({"blockIO": {"weight": 10}}, [("io.weight", "default 1")]),
        ({"unified": {"memory.high": "7"}}, [("memory.high", "7")]),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]},
            [("hugetlb.2MB.max", "0")],
        ),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]
                }
            },
            [("io.max", "8:0 rbps=9")],
        ),
        (
            {"rdma": {"mlx5": {"hcaHandles": 3, "hcaObjects": 4}}},
            [("rdma.max", "mlx5 hca_handle=3 hca_object=4")],
        ),
    ],
)
def test_resources_become_files_of_version_2(step, resources, files):
    assert step.cgroups.limits(resources) == files


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"memory": {"limit": 7}}, ["MemoryMax t 7"]),
        ({"memory": {"limit": -1}}, [f"MemoryMax t {2**64 - 1}"]),
        ({"blockIO": {"weight": 10}}, ["IOWeight t 1"]),
        ({"cpu": {"cpus": "0-2,9"}}, ["AllowedCPUs ay 2 7 2"]),
        ({"cpu": {"cpus": "0-9:1/2"}}, []),
        # Rounded up, so that systemd finds the same quota when it divides.
        (
            {"cpu": {"quota": 10000, "period": 30000}},
            ["CPUQuotaPerSecUSec t 333334", "CPUQuotaPeriodUSec t 30000"],
        ),
        (
            {"cpu": {"quota": -1}},
            [f"CPUQuotaPerSecUSec t {2**64 - 1}", "CPUQuotaPeriodUSec t 100000"],
        ),
        ({"unified": {"memory.high": "7"}}, ["MemoryHigh t 7"]),
        ({"unified": {"memory.high": "1G", "misc.max": "x 1"}}, []),
    ],
)
def test_systemd_has_names_for_some_limits(step, resources, words):
    assert step.cgroups.properties(resources) == words


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"limit": 300, "swap": 100}},
        {"unified": {"../memory.max": "1"}},
        {"unified": {"nonsense": "1"}},
    ],
)
def test_impossible_resources_are_refused(step, resources):
    with pytest.raises(ValueError, match="swap|CONTROLLER"):
        step.cgroups.limits(resources)


@pytest.mark.parametrize(
    ("wanted", "manager", "path"),
    [
        ("/machine.slice/x", "cgroupfs", "/machine.slice/x"),
        ("below", "cgroupfs", "/below"),
        ("/../../x", "cgroupfs", "/x"),
        ("", "cgroupfs", "/oci-box"),
        ("machine.slice:libpod:1a", "systemd", "/machine.slice/libpod-1a.scope"),
        ("a-b.slice:libpod:1a", "systemd", "/a.slice/a-b.slice/libpod-1a.scope"),
        ("/x", "disabled", None),
    ],
)
def test_a_cgroup_is_where_the_config_says(step, monkeypatch, wanted, manager, path):
    monkeypatch.setattr(step.cgroups, "available", lambda: True)
    assert step.cgroups.path_for("box", wanted, manager) == path


# ---- the command line


def test_options_may_come_before_and_after_the_command(step):
    options = {"--env": [], "--cap": []}
    words = iter("--root /r --log=l create --bundle /b --pid-file p box".split())
    assert step.container.parse(options, words) == ["create", "box"]
    assert options["--root"] == "/r" and options["--log"] == "l"
    assert options["--bundle"] == "/b" and options["--pid-file"] == "p"


def test_options_after_the_id_belong_to_the_command_of_exec(step):
    options = {"--env": [], "--cap": []}
    words = iter("exec -t -e A=b --env C=d box sh -c --root".split())
    found = step.container.parse(options, words)
    assert found == ["exec", "box", "sh", "-c", "--root"]
    assert options["--env"] == ["A=b", "C=d"] and options["--tty"] is True
    assert "--root" not in options


def test_an_unknown_option_is_an_error(step):
    with pytest.raises(SystemExit, match="unknown option --frobnicate"):
        step.container.parse({}, iter(["--frobnicate", "list"]))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "a b", "x\n", "é"])
def test_an_id_cannot_lead_out_of_the_directory(step, name):
    with pytest.raises(SystemExit, match="ID"):
        step.state.directory({"--root": "/r"}, name)


def test_a_process_is_known_by_when_it_began(step):
    box = SimpleNamespace(pid=1, born="1", cgroup=None, place="/nonexistent")
    assert step.state.status(box) == "stopped"
    box.born = step.state.born(1)
    assert step.state.status(box) == "running"
    box.pid = None
    assert step.state.status(box) == "creating"


# ---- programs for the kernel


def decide(program: bytes, kind: str, access: str, major: int, minor: int) -> int:
    """Runs a program about devices, as bpf(2) does, and returns r0."""
    bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    context = {0: {"b": 1, "c": 2}[kind] | bits << 16, 4: major, 8: minor}
    registers = dict.fromkeys(range(11), 0)
    place = 0
    while True:
        code, pair, skip, value = struct.unpack_from("<BBhi", program, place * 8)
        to, by = pair & 15, pair >> 4
        place += 1
        if code == 0x95:
            return registers[0]
        if code == 0x61:
            registers[to] = context[skip]
        elif code == 0xBC:
            registers[to] = registers[by]
        elif code == 0xB4:
            registers[to] = value
        elif code == 0x74:
            registers[to] >>= value
        elif code == 0x54:
            registers[to] &= value
        elif code == 0x56:
            place += skip if registers[to] != value else 0
        elif code == 0x16:
            place += skip if registers[to] == value else 0
        else:
            raise AssertionError(f"an unknown instruction {code:#x}")


RULES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
    {"allow": True, "type": "b", "major": 8, "access": "rw"},
    {"allow": False, "type": "b", "major": 8, "minor": 1, "access": "w"},
]


@pytest.mark.parametrize(
    ("device", "answer"),
    [
        (("c", "r", 10, 229), 1),
        (("c", "w", 10, 229), 0),
        (("c", "rw", 10, 229), 0),
        (("c", "r", 10, 228), 0),
        (("b", "r", 10, 229), 0),
        (("b", "rw", 8, 0), 1),
        (("b", "m", 8, 0), 0),
        (("b", "rw", 8, 1), 0),
        (("b", "r", 8, 1), 1),
        (("c", "r", 1, 3), 0),
    ],
)
def test_the_last_rule_that_fits_decides_about_a_device(step, device, answer):
    assert decide(step.kernel.compile_devices(RULES), *device) == answer


@pytest.mark.parametrize(
    ("device", "answer"),
    [
        (("c", "rw", 1, 3), 1),
        (("c", "rw", 136, 7), 1),
        (("b", "m", 8, 0), 1),
        (("b", "r", 8, 0), 0),
        (("c", "r", 1, 1), 0),
    ],
)
def test_by_default_disks_can_be_made_but_not_opened(step, device, answer):
    rules = step.cgroups.DEFAULT_RULES
    assert decide(step.kernel.compile_devices(rules), *device) == answer


def judge(program: bytes, number: int, architecture: int, *arguments: int) -> int:
    """Runs a filter of system calls, as seccomp(2) does, and returns its action."""
    data = struct.pack("iIQ6Q", number, architecture, 0, *(*arguments, *[0] * 6)[:6])
    place = accumulator = index = 0
    memory = dict.fromkeys(range(16), 0)
    while True:
        code, yes, no, value = struct.unpack_from("<HBBI", program, place * 8)
        place += 1
        if code == 0x20:
            [accumulator] = struct.unpack_from("<I", data, value)
        elif code == 0x06:
            return value
        elif code == 0x05:
            place += value
        elif code in (0x15, 0x25, 0x35, 0x45):
            tests = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }
            place += yes if tests[code] else no
        elif code == 0x54:
            accumulator &= value
        elif code == 0x02:
            memory[value] = accumulator
        elif code == 0x60:
            accumulator = memory[value]
        elif code == 0x07:
            index = accumulator
        elif code == 0x87:
            accumulator = index
        else:
            raise AssertionError(f"an unknown instruction {code:#x}")


ALLOW, ERRNO = 0x7FFF0000, 0x50000
X86_64 = 0xC000003E
NUMBERS = {"read": 0, "mkdir": 83, "personality": 135, "socket": 41, "bpf": 321}


@pytest.fixture
def profile(step):
    """A filter with each kind of rule. Needs libseccomp, as podman's host has it."""
    pytest.importorskip("ctypes")
    try:
        __import__("ctypes").CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("no libseccomp")
    if __import__("os").uname().machine != "x86_64":
        pytest.skip("the numbers below are those of x86_64")
    text = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {
                "names": ["personality"],
                "action": "SCMP_ACT_ALLOW",
                "args": [
                    {"index": 0, "value": 0, "op": "SCMP_CMP_EQ"},
                    {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"},
                ],
            },
            {
                "names": ["socket"],
                "action": "SCMP_ACT_ALLOW",
                "args": [
                    {"index": 0, "value": 16, "op": "SCMP_CMP_EQ"},
                    {"index": 2, "value": 9, "op": "SCMP_CMP_NE"},
                ],
            },
        ],
    }
    return step.kernel.compile_filter(text)[0]


@pytest.mark.parametrize(
    ("name", "arguments", "action"),
    [
        ("read", (), ALLOW),
        ("bpf", (), ERRNO | 38),
        ("mkdir", (), ERRNO | 1),
        # Tests of one argument are alternatives; of several, all must be true.
        ("personality", (0,), ALLOW),
        ("personality", (8,), ALLOW),
        ("personality", (4,), ERRNO | 38),
        ("socket", (16, 3, 0), ALLOW),
        ("socket", (16, 3, 9), ERRNO | 38),
        ("socket", (2, 3, 0), ERRNO | 38),
    ],
)
def test_a_profile_becomes_a_filter(profile, name, arguments, action):
    assert judge(profile, NUMBERS[name], X86_64, *arguments) == action


def test_no_profile_is_no_filter(step):
    assert step.kernel.compile_filter(None) == (b"", 0)


def test_a_supervisor_needs_a_descriptor(step, profile):
    text = {"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}
    assert step.kernel.compile_filter(text)[1] == 2
    text["syscalls"] = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    assert step.kernel.compile_filter(text)[1] == 2 | 8


def test_capabilities_lose_their_prefix_and_unknown_ones_are_left_out(step):
    names = ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE", "CAP_UNKNOWN", "KILL"]
    assert step.kernel.known(names) == {"CHOWN", "CHECKPOINT_RESTORE"}
