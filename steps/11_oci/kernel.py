"""The system calls that step 11 needs besides those of linux.py, in the same manner: names and
order of arguments as in the man pages, and OSError with the call's name.

It also has two small compilers, for the two kinds of program that a runtime loads into the
kernel: a filter of system calls, seccomp(2), and a filter of devices, bpf(2).
"""

import ctypes
import errno
import os
import struct

import linux

# linux.py has the numbers of the others.
_NUMBERS = (
    linux.SYSCALL
    | {
        "x86_64": {"capget": 125, "ioprio_set": 251, "personality": 135},
        "aarch64": {"capget": 90, "ioprio_set": 30, "personality": 92},
    }[os.uname().machine]
)

CLONE_NEWTIME = 0x80  # offsets of the clocks: time_namespaces(7)
MS_UNBINDABLE, MS_SLAVE, MS_SHARED = 1 << 17, 1 << 19, 1 << 20
MOUNT_ATTR_IDMAP = 0x100000
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE, _OPEN_TREE_CLONE = -100, 0x1000, 0x8000, 1
_CAPABILITY_VERSION_3 = 0x20080522
_SET_MODE_FILTER, _NEW_LISTENER = 1, 8
_IOPRIO_WHO_PROCESS = 1


def _call(name: str, *arguments: object, path: str | None = None) -> int:
    """Makes a system call with at most five arguments. Returns its result."""
    unused = (0,) * (5 - len(arguments))
    result = linux._raw_syscall(_NUMBERS[name], *arguments, *unused)
    return linux._check(result, name, path)


def setns(descriptor: int, flags: int) -> None:
    """Enters the namespace behind a file of /proc/PID/ns or, with several flags together,
    those of a process behind a pidfd. setns(2), Linux 5.8.

    The process itself stays in its PID namespace; its next children are born in the new one.
    """
    _call("setns", descriptor, flags)


def unshare(flags: int) -> None:
    """Enters new namespaces: unshare(2)."""
    _call("unshare", flags)


def setdomainname(name: str) -> None:
    """Sets the NIS domain name of this UTS namespace. setdomainname(2)."""
    encoded = os.fsencode(name)
    _call("setdomainname", encoded, len(encoded))


def open_tree(path: str, recursive: bool = False) -> int:
    """linux.open_tree(), with everything that is mounted below, too, if it is recursive."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (_AT_RECURSIVE if recursive else 0)
    return _call("open_tree", _AT_FDCWD, os.fsencode(path), flags, path=path)


def mount_setattr(
    tree: int,
    on: int = 0,
    off: int = 0,
    propagation: int = 0,
    namespace: int = 0,
    recursive: bool = False,
) -> None:
    """Changes the mount behind a descriptor: sets and clears MOUNT_ATTR_*, sets its
    propagation, and with MOUNT_ATTR_IDMAP shows owners as a user namespace maps them.
    mount_setattr(2), Linux 5.12."""
    wanted = struct.pack("4Q", on, off, propagation, namespace)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", tree, b"", flags, wanted, len(wanted))


def personality(persona: int) -> None:
    """Sets what uname(2) says, and the like. personality(2)."""
    _call("personality", persona)


def ioprio_set(pid: int, kind: int, priority: int) -> None:
    """Sets a process's priority for disks: kind 1 real time, 2 best effort, 3 idle.
    ioprio_set(2)."""
    _call("ioprio_set", _IOPRIO_WHO_PROCESS, pid, kind << 13 | priority)


# ---- capabilities(7)


def known(names: "list[str]") -> set[str]:
    """Returns capabilities, such as ["CAP_KILL"], as linux.CAP has them. Others are left out."""
    return {name for name in linux.CAP if f"CAP_{name}" in names}


def last_capability() -> int:
    """Returns the highest number that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return int(file.read())


def limit_capabilities(bounding: set[str], last: int) -> None:
    """Drops from the bounding set what is not in bounding: no program that this process
    becomes can have it, whatever its file says."""
    kept = {linux.CAP[name] for name in bounding}
    for number in range(last + 1):
        if number not in kept:
            linux.prctl(linux.PR_CAPBSET_DROP, number)


def permitted() -> set[str]:
    """Returns the permitted set of this process. capget(2)."""
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    _call("capget", header, data)
    halves = struct.unpack("6I", data.raw)
    bits = halves[1] | halves[4] << 32
    return {name for name, number in linux.CAP.items() if bits >> number & 1}


def raise_ambient(ambient: set[str]) -> None:
    """Lets an ordinary user's program keep these capabilities. They must be permitted and
    inheritable."""
    for name in ambient:
        linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, linux.CAP[name])


# ---- seccomp(2)

ACTIONS = {"KILL": 0, "KILL_THREAD": 0, "KILL_PROCESS": 0x80000000, "TRAP": 0x30000}
ACTIONS |= {"ERRNO": 0x50000, "NOTIFY": 0x7FC00000, "TRACE": 0x7FF00000}
ACTIONS |= {"LOG": 0x7FFC0000, "ALLOW": 0x7FFF0000}
OPERATORS = "NE LT LE EQ GE GT MASKED_EQ".split()  # from 1 on
FLAGS = {"TSYNC": 1, "LOG": 2, "SPEC_ALLOW": 4, "WAIT_KILLABLE_RECV": 0x20}
_SCMP_FLTATR_CTL_OPTIMIZE = 8


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int)]
    _fields_ += [("datum_a", ctypes.c_uint64), ("datum_b", ctypes.c_uint64)]


def compile_filter(profile: "dict[str, object] | None") -> tuple[bytes, int]:
    """Returns the seccomp section of config.json as a program for the kernel, and flags for
    load_filter(). No profile, no program. seccomp_export_bpf(3).

    The library is the host's, so this must be called before the image is the root.
    OSError: it refuses a rule. KeyError, ValueError: there is no such action or operator.
    """
    if not profile:
        return b"", 0
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    base = _action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(base)))
    library.seccomp_attr_set(context, _SCMP_FLTATR_CTL_OPTIMIZE, ctypes.c_uint32(2))
    notifies = profile["defaultAction"] == "SCMP_ACT_NOTIFY"
    for name in profile.get("architectures") or ():
        word = name.removeprefix("SCMP_ARCH_").lower().encode()
        token = ctypes.c_uint32(library.seccomp_arch_resolve_name(word))
        library.seccomp_arch_add(context, token)  # the machine's own is there already
    for rule in profile.get("syscalls") or ():
        action = _action(rule["action"], rule.get("errnoRet"))
        notifies = notifies or rule["action"] == "SCMP_ACT_NOTIFY"
        if action == base:
            continue  # the library calls it an error
        for name in rule["names"]:
            number = library.seccomp_syscall_resolve_name(name.encode())
            for tests in _alternatives(rule.get("args") or []) if number != -1 else ():
                array = (_Comparison * len(tests))(*tests)
                words = context, ctypes.c_uint32(action), number, len(tests), array
                result = library.seccomp_rule_add_array(*words)
                if result < 0:
                    text = f"seccomp_rule_add: {os.strerror(-result)}"
                    raise OSError(-result, text, name)
    flags = sum(
        FLAGS[name.removeprefix("SECCOMP_FILTER_FLAG_")]
        for name in profile.get("flags") or ()
    )
    if notifies or profile.get("listenerPath"):
        flags |= _NEW_LISTENER
    file = os.memfd_create("filter")
    library.seccomp_export_bpf(context, file)
    library.seccomp_release(context)
    with open(file, "rb") as program:
        program.seek(0)
        return program.read(), flags


def _action(name: str, number: int | None) -> int:
    """Returns an action as the kernel has it. Without a number, ERRNO is EPERM."""
    action = ACTIONS[name.removeprefix("SCMP_ACT_")]
    if action in (ACTIONS["ERRNO"], ACTIONS["TRACE"]):
        action |= errno.EPERM if number is None else number
    return action


def _alternatives(arguments: "list[dict[str, int]]") -> "list[list[_Comparison]]":
    """Returns the tests of a rule. Tests of different arguments must all be true; several of
    the same argument are alternatives, which the library wants as rules of their own."""
    tests = [
        _Comparison(
            test["index"],
            1 + OPERATORS.index(test["op"].removeprefix("SCMP_CMP_")),
            test["value"],
            test.get("valueTwo", 0),
        )
        for test in arguments
    ]
    if len({test.arg for test in tests}) < len(tests):
        return [[test] for test in tests]
    return [tests]


def load_filter(program: bytes, flags: int) -> int:
    """Has the kernel check each system call of this process, and of what it starts, with the
    program. Returns a descriptor for a supervisor if flags ask for one, and otherwise 0.
    linux.seccomp() has no flags, and takes a list of instructions, not a program.

    EACCES: needs CAP_SYS_ADMIN or no_new_privs.
    """
    code = ctypes.create_string_buffer(program, len(program))
    length = len(program) // 8  # struct sock_filter
    pointer = struct.pack("HxxxxxxQ", length, ctypes.addressof(code))
    return _call("seccomp", _SET_MODE_FILTER, flags, pointer)


# ---- bpf(2): which devices a cgroup's processes may open

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_LOAD, _ATTACH, _CGROUP_DEVICE_PROGRAM, _CGROUP_DEVICE, _ALLOW_MULTI = 5, 8, 15, 6, 2


def _instruction(code: int, to: int = 0, by: int = 0, skip: int = 0, value: int = 0):
    """Returns a struct bpf_insn."""
    return struct.pack("<BBhi", code, to | by << 4, skip, value)


def compile_devices(rules: "list[dict[str, object]]") -> bytes:
    """Returns a program that decides about opening and making devices. The last rule that
    fits decides; if none does, the answer is no. rules: as in config.json."""
    # r2: b or c, r3: m, r and w, r4 and r5: the numbers of struct bpf_cgroup_dev_ctx
    program = [_instruction(0x61, 2, 1), _instruction(0xBC, 3, 2)]
    program += [_instruction(0x74, 3, value=16), _instruction(0x54, 2, value=0xFFFF)]
    program += [_instruction(0x61, 4, 1, 4), _instruction(0x61, 5, 1, 8)]
    for rule in reversed(rules):
        block = []  # instructions; a number stands for a jump to the next rule
        access = sum(_ACCESS[letter] for letter in rule.get("access") or "rwm")
        if rule.get("type", "a") != "a":
            block += [(0x56, 2, _TYPES[rule["type"]])]  # if r2 !=
        block += [(0xBC, 1, 3), (0x54, 1, ~access & 7 if rule["allow"] else access)]
        block += [(0x56 if rule["allow"] else 0x16, 1, 0)]
        for register, key in (4, "major"), (5, "minor"):
            if rule.get(key) not in (None, -1):
                block += [(0x56, register, rule[key])]
        for place, (code, register, value) in enumerate(block):
            if code == 0xBC:  # r1 = r3
                program += [_instruction(code, register, value)]
            else:
                skip = len(block) - place + 1 if code in (0x56, 0x16) else 0
                program += [_instruction(code, register, 0, skip, value)]
        program += [_instruction(0xB4, 0, value=int(rule["allow"])), _instruction(0x95)]
    return b"".join([*program, _instruction(0xB4, 0), _instruction(0x95)])


def attach_devices(program: bytes, cgroup: str) -> None:
    """Has the kernel ask the program about devices for every process in a cgroup: bpf(2),
    cgroups(7), Linux 4.15. Without it, root inside can open every disk."""
    code = ctypes.create_string_buffer(program, len(program))
    license_ = ctypes.create_string_buffer(b"GPL")
    words = _CGROUP_DEVICE_PROGRAM, len(program) // 8
    pointers = ctypes.addressof(code), ctypes.addressof(license_)
    request = struct.pack("IIQQ96x", *words, *pointers)
    loaded = _call("bpf", _LOAD, request, len(request))
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        request = struct.pack("4I", directory, loaded, _CGROUP_DEVICE, _ALLOW_MULTI)
        _call("bpf", _ATTACH, request, len(request), path=cgroup)
    finally:
        os.close(directory)
        os.close(loaded)
