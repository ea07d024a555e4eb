"""Step 10's filter: an interpreter runs it, and it is compared with Podman's profile."""

import ctypes
import errno
import importlib.util
import json
import pathlib

import linux
import pytest
from runtime import PROJECT

SPEC = importlib.util.spec_from_file_location(
    "step10", PROJECT / "steps/10_seccomp/container.py"
)
assert SPEC and SPEC.loader
step = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(step)

PODMAN = pathlib.Path("/usr/share/containers/seccomp.json")
LIBRARY = pathlib.Path("/usr/lib/x86_64-linux-gnu/libseccomp.so.2")
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i686": 0x40000003}
ALL, DEFAULT = set(linux.CAP), step.CAPABILITIES
# What Podman refuses and this filter allows.
ALLOWED = {
    # In the kernel only as a number, or not any more.
    *(
        "_sysctl",
        "afs_syscall",
        "create_module",
        "get_kernel_syms",
        "getpmsg",
        "lookup_dcookie",
    ),
    *(
        "nfsservctl",
        "putpmsg",
        "query_module",
        "security",
        "tuxcall",
        "uselib",
        "vserver",
    ),
    # Old ways to ask for what others answer as well.
    *("sysfs", "ustat"),
    # The kernel demands CAP_SYS_RAWIO in the first user namespace, and aarch64 lacks them.
    *("iopl", "ioperm"),
    # Docker allows them.
    *("futex_waitv", "set_mempolicy_home_node", "vmsplice", "io_pgetevents"),
    # Newer than Debian 12's profile; Debian 13's allows them.
    *("cachestat", "fchmodat2", "quotactl_fd"),
}
# What Podman allows and this filter refuses: Podman lets containers make user namespaces,
# and run Podman themselves. Docker refuses all of these.
REFUSED = {
    *(
        "fsconfig",
        "fsmount",
        "fsopen",
        "fspick",
        "mount",
        "mount_setattr",
        "move_mount",
    ),
    *(
        "open_tree",
        "setns",
        "pivot_root",
        "umount2",
        "unshare",
        "clone3",
        "keyctl",
        "reboot",
        "syslog",
    ),
}
needs_library = pytest.mark.skipif(not LIBRARY.exists(), reason="no libseccomp here")


def answer(program, number, arch=linux.AUDIT_ARCH, argument=0):
    """Returns what a filter answers to a system call, as the kernel would run it."""
    data = {step.NUMBER: number, step.ARCHITECTURE: arch, step.FIRST_ARGUMENT: argument}
    place, register = 0, 0
    while True:
        code, yes, no, operand = program[place]
        place += 1
        if code == step.RETURN:
            return operand
        if code == step.LOAD:
            register = data[operand]
            continue
        questions = {step.EQUAL: register == operand, step.GREATER: register > operand}
        questions[step.ANY_BIT] = bool(register & operand)
        place += yes if questions[code] else no


def numbers(machine):
    """Returns {name: number} of the machine's system calls, as libseccomp knows them."""
    library = ctypes.CDLL(str(LIBRARY))
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_char_p
    arch = ctypes.c_uint32(ARCHITECTURES[machine])
    names = [library.seccomp_syscall_resolve_num_arch(arch, n) for n in range(600)]
    return {name.decode(): number for number, name in enumerate(names) if name}


def podman_allows(profile, name, capabilities):
    """Returns whether a profile allows a system call, at least with some arguments."""

    def applies(rule):
        wanted, unwanted = (rule.get(key) or {} for key in ("includes", "excludes"))
        return (
            name in rule["names"]
            and {word[4:] for word in wanted.get("caps", [])} <= capabilities
            and not {word[4:] for word in unwanted.get("caps", [])} & capabilities
            and "amd64" in wanted.get("arches", ["amd64"])
        )

    found = {rule["action"] for rule in profile["syscalls"] if applies(rule)}
    return "SCMP_ACT_ALLOW" in found


@needs_library
@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_numbers_of_system_calls_are_those_of_libseccomp(machine):
    known = numbers(machine)
    column = linux._MACHINES.index(machine)
    ours = {name: numbers[column] for name, numbers in linux._OLDER.items()}
    ours = {n: number for n, number in ours.items() if number != linux._NONE}
    ours |= linux._NEWER
    assert {name: known.get(name) for name in ours} == ours


def test_architecture_is_this_machines():
    assert linux.AUDIT_ARCH in ARCHITECTURES.values()


@needs_library
@pytest.mark.skipif(not PODMAN.exists(), reason="Podman's profile is not here")
@pytest.mark.parametrize("capabilities", [DEFAULT, ALL], ids=["default", "all"])
def test_filter_differs_from_podmans_profile_only_where_it_says_so(capabilities):
    profile = json.loads(PODMAN.read_text())
    program = step.filter_for(capabilities)
    allowed, refused = set(), set()
    for name, number in numbers("x86_64").items():
        if number > linux.SYSCALL["fchmodat2"]:
            continue
        ours = answer(program, number) == step.ALLOW
        theirs = podman_allows(profile, name, capabilities)
        allowed |= {name} if ours and not theirs else set()
        refused |= {name} if theirs and not ours else set()
    assert (allowed - ALLOWED, refused - REFUSED) == (set(), set())


@pytest.mark.parametrize("missing", sorted(step.REFUSED))
def test_each_row_needs_its_own_capability_and_no_other(missing):
    program = step.filter_for(ALL - {missing})
    for row, names in step.REFUSED.items():
        wanted = step.EPERM if row in ("", missing) else step.ALLOW
        assert {answer(program, linux.SYSCALL[name]) for name in names} == {wanted}
    assert missing in (*linux.CAP, "")


def test_child_is_refused_each_new_namespace_unless_it_has_sys_admin():
    clone = linux.SYSCALL["clone"]
    for bit in range(32):
        new = step.NAMESPACES >> bit & 1
        got = answer(step.filter_for(DEFAULT), clone, argument=1 << bit)
        assert got == (step.EPERM if new else step.ALLOW), bit
        assert answer(step.filter_for(ALL), clone, argument=1 << bit) == step.ALLOW
    # The first argument of other calls is not looked at.
    program = step.filter_for(DEFAULT)
    assert (
        answer(program, linux.SYSCALL["prctl"], argument=step.NAMESPACES) == step.ALLOW
    )


def test_clone3_is_unknown_unless_it_is_allowed():
    assert answer(step.filter_for(DEFAULT), linux.SYSCALL["clone3"]) == step.ENOSYS
    assert answer(step.filter_for(ALL), linux.SYSCALL["clone3"]) == step.ALLOW
    assert step.ENOSYS & 0xFFFF == errno.ENOSYS and step.EPERM & 0xFFFF == errno.EPERM


@pytest.mark.parametrize("number", [453, 462, 599, 0x40000000, 0x4000003B, 0xFFFFFFFF])
def test_newer_numbers_and_those_of_x32_are_unknown(number):
    for capabilities in DEFAULT, ALL:
        assert answer(step.filter_for(capabilities), number) == step.ENOSYS


@pytest.mark.parametrize("arch", [0x40000003, 0x40000028, 0])
def test_other_machines_numbers_end_the_program(arch):
    for number in 0, 1, 310, 500:
        assert answer(step.filter_for(ALL), number, arch=arch) == step.KILL


@pytest.mark.parametrize("capabilities", [DEFAULT, ALL, set()])
def test_no_jump_leads_past_the_end(capabilities):
    program = step.filter_for(capabilities)
    assert len(program) <= 4096 and program[-1] == (step.RETURN, 0, 0, step.ALLOW)
    for place, (code, yes, no, _) in enumerate(program):
        assert place + 1 + max(yes, no) < len(program) or code == step.RETURN
