"""The system calls that Python's os module lacks, and nothing else.

Names and the order of arguments are those of the man pages. Every function raises OSError:
its strerror names the call ("mount: No such file or directory"), its filename is what the
call was given, and a note (PEP 678) says what causes that error here.
"""

# ctypes and socket are written in Python on top of these two: 1.4 ms and 6 ms more, of 17 ms
# for a start.
import _ctypes
import _socket as socket
import errno
import fcntl
import os
import struct

# The numbers of older system calls differ by machine. Each newer one has the same everywhere.
_MACHINES = "x86_64", "aarch64", "i686"  # i686: the machine in the browser tab
_NONE = 0xFFFFFFFF  # a number that no system call has
_OLDER = {
    "acct": (163, 89, 51),
    "add_key": (248, 217, 286),
    "bpf": (321, 280, 357),
    "capset": (126, 91, 185),
    "chroot": (161, 51, 61),
    "clock_settime": (227, 112, 264),
    "clone": (56, 220, 120),
    "delete_module": (176, 106, 129),
    "fanotify_init": (300, 262, 338),
    "finit_module": (313, 273, 350),
    "init_module": (175, 105, 128),
    "kcmp": (312, 272, 349),
    "kexec_file_load": (320, 294, _NONE),
    "kexec_load": (246, 104, 283),
    "keyctl": (250, 219, 288),
    "migrate_pages": (256, 238, 294),
    "mount": (165, 40, 21),
    "move_pages": (279, 239, 317),
    "open_by_handle_at": (304, 265, 342),
    "perf_event_open": (298, 241, 336),
    "pivot_root": (155, 41, 217),
    "prctl": (157, 167, 172),
    "quotactl": (179, 60, 131),
    "reboot": (169, 142, 88),
    "request_key": (249, 218, 287),
    "seccomp": (317, 277, 354),
    "setdomainname": (171, 162, 121),
    "sethostname": (170, 161, 74),
    "setns": (308, 268, 346),
    "settimeofday": (164, 170, 79),
    "swapoff": (168, 225, 115),
    "swapon": (167, 224, 87),
    "syslog": (103, 116, 103),
    "umount2": (166, 39, 52),
    "unshare": (272, 97, 310),
    "userfaultfd": (323, 282, 374),
    "vhangup": (153, 58, 111),
}
_NEWER = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
_NEWER |= {"open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431}
_NEWER |= {"fsmount": 432, "fspick": 433, "clone3": 435, "close_range": 436}
_NEWER |= {"process_madvise": 440, "mount_setattr": 442, "quotactl_fd": 443}
_NEWER |= {"fchmodat2": 452}

CLONE_NEWNS = 0x00020000  # the mount table: mount_namespaces(7)
CLONE_NEWCGROUP = 0x02000000  # what /proc/self/cgroup calls "/": cgroup_namespaces(7)
CLONE_NEWUTS = 0x04000000  # host name and domain name: uts_namespaces(7)
CLONE_NEWIPC = 0x08000000  # System V queues, semaphores, memory: ipc_namespaces(7)
CLONE_NEWUSER = 0x10000000  # user and group ids, capabilities: user_namespaces(7)
CLONE_NEWPID = 0x20000000  # process ids: pid_namespaces(7)
CLONE_NEWNET = 0x40000000  # network devices, addresses, routes: network_namespaces(7)
_CLONE_INTO_CGROUP = 0x200000000

MS_RDONLY = 0x1  # nothing can be written
MS_NOSUID = 0x2  # set-user-ID bits and file capabilities have no effect
MS_NODEV = 0x4  # device files cannot be opened
MS_NOEXEC = 0x8  # programs cannot be started
MS_BIND = 0x1000  # show a directory at a second place
MS_REC = 0x4000  # and everything mounted below it
MS_PRIVATE = 0x40000  # mounts made here are not passed on: mount_namespaces(7)
MNT_DETACH = 0x2  # gone from the tree at once, freed when nobody uses it
PR_SET_PDEATHSIG = 1  # a signal for the orphan: prctl(2)
PR_SET_KEEPCAPS = 8  # capabilities stay when the user changes, until the next execve(2)
PR_CAPBSET_DROP = 24  # out of the bounding set, so no program brings it back
PR_SET_NO_NEW_PRIVS = 38  # set-user-ID bits and file capabilities have no effect
PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 47, 2  # a user who is not root keeps it

# The numbers of the capabilities, whose names begin with CAP_: capabilities(7).
CAP = {
    name: number
    for number, name in enumerate(
        """
        CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
        LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER
        SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE
        SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
        MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF
        CHECKPOINT_RESTORE
        """.split()
    )
}

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_IDMAP = 0x100000
_MOUNT_ATTRIBUTES = {
    "ro": 0x1,
    "nosuid": 0x2,
    "nodev": _MOUNT_ATTR_NODEV,
    "noexec": 0x8,
}
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = 0x1
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
# Filesystems that cannot have an overlay's upperdir: filesystems/overlayfs.
_NO_UPPER = {
    "overlay",
    "nfs",
    "nfs4",
    "cifs",
    "9p",
    "virtiofs",
    "fuse",
    "vboxsf",
    "vfat",
}
# The kernel made these directories to mount on, so a mount there covers nothing.
_MEANT_FOR_MOUNTS = (
    "/sys/fs/",
    "/sys/kernel/",
    "/sys/firmware/efi/efivars",
    "/sys/hypervisor",
    "/proc/sys/fs/binfmt_misc",
    "/proc/fs/nfsd",
)
_KEYCTL_JOIN_SESSION_KEYRING = 1
_LAST = 2**31 - 1  # no descriptor has a larger number
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1
_SIGCHLD = 17

TYPE_CHECKING = False  # importing typing would take 8 ms
if TYPE_CHECKING:
    from collections.abc import Iterable

_Path = str | os.PathLike[str]


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A long, as C has it."""

    _type_ = "l"


class _Word(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A pointer, or a number of the same size."""

    _type_ = "P"


class _Short(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """An unsigned short."""

    _type_ = "H"


class _Bytes(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A pointer to bytes."""

    _type_ = "z"


class _Program(_ctypes.Structure):
    """struct sock_fprog: how many instructions, and where they are."""

    _fields_ = [("length", _Short), ("instructions", _Bytes)]


class _Function(_ctypes.CFuncPtr):
    """A function of the C library or of Python. It keeps Python's lock during the call: a
    child cloned by a process with threads would otherwise wait for a lock whose holder exists
    only in the parent."""

    _flags_ = (
        _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI | _ctypes.FUNCFLAG_USE_ERRNO
    )
    _restype_ = _Long


_program = _ctypes.dlopen(None, 0)  # type: ignore[arg-type]
_raw_syscall = _Function(_ctypes.dlsym(_program, "syscall"))
_raw_syscall.argtypes = [_Long, _Word, _Word, _Word, _Word, _Word]

_machine = os.uname().machine
if _machine not in _MACHINES:
    raise NotImplementedError(
        f"linux.py knows {', '.join(_MACHINES)}, but this machine is {_machine}"
    )
# The numbers of the system calls that we call, or that step 10 refuses.
SYSCALL = {name: numbers[_MACHINES.index(_machine)] for name, numbers in _OLDER.items()}
SYSCALL |= _NEWER
# elf.h, audit.h
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i686": 0x40000003}[_machine]


def _syscall(name: str, *arguments: object) -> int:
    """Calls the kernel with at most five numbers, buffers or None. Returns its answer, or -1,
    and then _ctypes.get_errno() says why. syscall(2)."""
    unused = (0,) * (5 - len(arguments))
    result: int = _raw_syscall(SYSCALL[name], *arguments, *unused)
    return result


def clone(flags: int, cgroup: int | None = None) -> int:
    """Creates a child process in new namespaces. Returns like os.fork(): 0 in the child, its
    pid in the parent. clone3(2), clone(2), namespaces(7).

    flags: CLONE_NEW* together. cgroup: descriptor of a directory of cgroup v2 that the child
    is born in, Linux 5.7.
    EPERM: namespaces other than the user namespace need root (CAP_SYS_ADMIN).
    EINVAL: this kernel lacks a namespace in flags, or the flags exclude each other.
    ENOSPC: a limit in /proc/sys/user/max_*_namespaces. EAGAIN: too many processes.
    """
    if cgroup is not None:
        flags |= _CLONE_INTO_CGROUP
    # struct clone_args; between exit_signal and cgroup are those for threads.
    fields = [flags, 0, 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, cgroup or 0]
    arguments = struct.pack("11Q", *fields)
    # Do what os.fork() does around fork(2), so that Python works in the child.
    _python("PyOS_BeforeFork")
    pid = _syscall("clone3", arguments, len(arguments))
    if pid == 0:
        _python("PyOS_AfterFork_Child")
        return 0
    number = _ctypes.get_errno()  # before the next call can change it
    _python("PyOS_AfterFork_Parent")
    _ctypes.set_errno(number)
    return _check(
        pid,
        "clone",
        hints={
            errno.EPERM: _not_allowed("new namespaces"),
            errno.EINVAL: "this kernel lacks one of these namespaces: ls /proc/self/ns",
            errno.ENOSPC: "a limit of this machine: see /proc/sys/user/max_*_namespaces",
            errno.EAGAIN: "too many processes, or the cgroup's pids.max is reached",
            errno.ENOSYS: "clone3 needs Linux 5.3",
        },
    )


def _python(name: str) -> None:
    """Calls a function of Python's C API that has neither arguments nor a result."""
    function = _Function(_ctypes.dlsym(_program, name))
    function.restype = None
    function()


def sethostname(name: str) -> None:
    """Sets the host name of this UTS namespace. sethostname(2).

    EINVAL: longer than 64 bytes. EPERM: needs CAP_SYS_ADMIN over the UTS namespace.
    """
    encoded = os.fsencode(name)
    _check(
        _syscall("sethostname", encoded, len(encoded)),
        "sethostname",
        name,
        hints={errno.EINVAL: "a host name has at most 64 bytes"},
    )


def link_up(name: str) -> None:
    """Starts a network device of this network namespace, as `ip link set NAME up` does.
    ioctl(2) with SIOCSIFFLAGS, netdevice(7).

    ENODEV: there is no such device. EPERM: needs CAP_NET_ADMIN over the network namespace.
    """
    layout = (
        "16sh22x"  # struct ifreq: a name, and the member flags of a union of 24 bytes
    )
    any_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        request = struct.pack(layout, os.fsencode(name), 0)
        device, flags = struct.unpack(
            layout, fcntl.ioctl(any_socket.fileno(), _SIOCGIFFLAGS, request)
        )
        request = struct.pack(layout, device, flags | _IFF_UP)
        fcntl.ioctl(any_socket.fileno(), _SIOCSIFFLAGS, request)
    except OSError as error:
        raise _error(error.errno or 0, "ioctl", name) from None
    finally:
        any_socket.close()


def mount(
    source: _Path | None,
    target: _Path,
    filesystemtype: str | None,
    mountflags: int = 0,
    data: str | None = None,
) -> None:
    """Attaches a filesystem, or with MS_BIND a directory or file, at target. mount(2).

    source: path, or any word for filesystems without a device; None where it is ignored.
    filesystemtype: a word of /proc/filesystems; None with MS_BIND or MS_PRIVATE.
    data: the filesystem's own options, separated by commas, up to 4095 bytes.
    target is followed if it is a link, so it must not be in an image from somebody else while
    the host is in reach.
    EINVAL: the filesystem does not know an option. ENODEV: the kernel does not know the type.
    ENOENT, ENOTDIR: source or target is missing, or is not a directory.
    ELOOP: two layers of an overlay are the same directory, or links lead in a circle.
    """
    if data and len(data) >= os.sysconf("SC_PAGE_SIZE"):
        # The kernel would cut them off, and complain about the last one.
        raise _error(errno.E2BIG, "mount", source, target, "too many options or layers")
    source_, type_, data_ = (
        None if x is None else os.fsencode(x) for x in (source, filesystemtype, data)
    )
    result = _syscall("mount", source_, os.fsencode(target), type_, mountflags, data_)
    if result != -1:
        return
    number = _ctypes.get_errno()
    raise _error(
        number,
        "mount",
        source or target,
        target if source else None,
        note=f"type {filesystemtype}" if filesystemtype else "",
        hints={
            errno.EPERM: _not_allowed("mounting"),
            errno.EINVAL: _wrong_upper(data) if data else "",
            errno.ENOENT: "both must exist, also a directory to mount on",
            errno.ENOTDIR: "a directory goes on a directory, a file on a file",
            errno.ELOOP: "a layer is there twice, or links lead in a circle",
        },
    )


def fsmount(filesystemtype: str, options: str = "") -> int:
    """Returns a descriptor of a new mount of a filesystem that is attached nowhere yet: the
    first half of mount(2). fsopen(2), fsconfig(2), fsmount(2), Linux 5.2.

    options: as in mount(8), separated by commas. "ro", "nosuid", "nodev" and "noexec" apply to
    this mount, and the others are the filesystem's own, such as "mode=755".
    EPERM: needs CAP_SYS_ADMIN. In a new user namespace, proc and sysfs also need one of
    their kind in this mount namespace, and nothing may be mounted in that one.
    EINVAL: the filesystem does not know an option. ENODEV: the kernel does not know the type.
    """

    def check(result: int) -> int:
        if result == -1:
            number = _ctypes.get_errno()  # before the hint's own calls can change it
            hint = _covered(filesystemtype) or _not_allowed("mounting")
            if filesystemtype == "cgroup2" and not os.geteuid():
                hint = "only with a cgroup namespace of its own, CLONE_NEWCGROUP"
            raise _error(number, "fsmount", filesystemtype, hints={errno.EPERM: hint})
        return result

    kind, attributes = os.fsencode(filesystemtype), 0
    context = check(_syscall("fsopen", kind, _FSOPEN_CLOEXEC))
    try:
        for option in filter(None, options.split(",")):
            key, equals, value = option.partition("=")
            if option in _MOUNT_ATTRIBUTES:
                attributes |= _MOUNT_ATTRIBUTES[option]
                continue
            command = _FSCONFIG_SET_STRING if equals else _FSCONFIG_SET_FLAG
            text = os.fsencode(value) if equals else None
            check(_syscall("fsconfig", context, command, os.fsencode(key), text, 0))
        check(_syscall("fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0))
        return check(_syscall("fsmount", context, _FSMOUNT_CLOEXEC, attributes))
    finally:
        os.close(context)


def umount(target: _Path, flags: int = 0) -> None:
    """Detaches the filesystem at target. umount2(2).

    EINVAL: target is not a mount point. EBUSY: still in use, unless flags has MNT_DETACH.
    """
    _check(_syscall("umount2", os.fsencode(target), flags), "umount", target)


def pivot_root(new_root: _Path, put_old: _Path) -> None:
    """Makes new_root the root of this mount namespace, and moves the old root to put_old.
    pivot_root(2). If both are the same path, the old root is on top of the new one, at "/..",
    until umount("/", MNT_DETACH).

    EINVAL: new_root is not a mount point, or its parent mount or / is shared.
    EBUSY: new_root is on the same mount as the current root.
    """
    _check(
        _syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old)),
        "pivot_root",
        new_root,
        put_old,
        hints={errno.EINVAL: "new_root is not a mount point, or / is shared"},
    )


def open_tree(path: _Path, options: str = "") -> int:
    """Returns a descriptor of a new mount that shows path and is attached nowhere yet:
    the first half of a bind mount. open_tree(2), mount_setattr(2), Linux 5.2.

    options: "ro", "nosuid", "nodev" and "noexec", separated by commas, Linux 5.12.
    EPERM: needs CAP_SYS_ADMIN over the mount namespace. EACCES, ENOENT: no way to path.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _syscall("open_tree", _AT_FDCWD, os.fsencode(path), flags)
    if tree != -1:
        attributes = sum(_MOUNT_ATTRIBUTES[o] for o in filter(None, options.split(",")))
        if attributes:
            _check(_mount_setattr(tree, attributes), "mount_setattr", path)
        return tree
    number = _ctypes.get_errno()
    hints = {errno.EPERM: _not_allowed("mounting")}
    hints[errno.EACCES] = (
        "you must be able to read an image to start a container from it"
    )
    raise _error(number, "open_tree", path, hints=hints)


def move_mount(tree: int, target: _Path) -> None:
    """Attaches the mount behind a descriptor of open_tree() at target: the second half of a
    bind mount. move_mount(2), Linux 5.2.

    ENOTDIR, EINVAL: one of the two is a directory and the other is not, or tree is attached.
    """
    place, flags = os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH
    _check(
        _syscall("move_mount", tree, b"", _AT_FDCWD, place, flags),
        "move_mount",
        target,
        hints={errno.EINVAL: "a directory goes on a directory, a file on a file"},
    )


def idmapped(path: _Path, pid: int) -> int:
    """Returns open_tree(path), private, with the owners that the user namespace of process
    pid has for their numbers: a file of 0 on disk is root's inside. Nothing changes on disk.
    Device files in it cannot be opened, because nobody inside could have made them.
    mount_setattr(2) with MOUNT_ATTR_IDMAP, Linux 5.12 (ext4), 6.3 (tmpfs).

    EINVAL: the filesystem cannot do this, or the namespace has no map yet. EPERM: needs root.
    """
    tree = open_tree(path)
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    flags = _MOUNT_ATTR_IDMAP | _MOUNT_ATTR_NODEV
    result = _mount_setattr(tree, flags, MS_PRIVATE, namespace)
    number = _ctypes.get_errno()  # before the next call can change it
    os.close(namespace)
    if result == -1:
        with open(f"/proc/{pid}/uid_map") as file:
            hint = "write the container's uid_map and gid_map first"
            if file.read():
                hint = f"{_type_of(path)} has no idmapped mounts: keep images on ext4"
        hints = {errno.EINVAL: hint, errno.EPERM: _not_allowed("mounting")}
        raise _error(number, "mount_setattr", path, hints=hints)
    return tree


def _mount_setattr(tree: int, flags: int, propagation: int = 0, user: int = 0) -> int:
    """Sets attributes of the mount behind a descriptor. Returns -1 if the kernel refuses."""
    # struct mount_attr: what to set, what to clear, propagation, the user namespace
    wanted = struct.pack("4Q", flags, 0, propagation, user)
    return _syscall("mount_setattr", tree, b"", _AT_EMPTY_PATH, wanted, len(wanted))


def prctl(option: int, *arguments: int) -> None:
    """Changes how the kernel treats this process. prctl(2).

    PR_SET_PDEATHSIG: the signal that the kernel sends this process when its parent ends.
    It is lost when the user or group id changes.
    EPERM: PR_CAPBSET_DROP needs CAP_SETPCAP, and PR_CAP_AMBIENT_RAISE a capability that is
    both permitted and inheritable.
    """
    _check(_syscall("prctl", option, *arguments), "prctl")


def capset(
    effective: "Iterable[str]", permitted: "Iterable[str]", inheritable: "Iterable[str]"
) -> None:
    """Sets three of this process's sets of capabilities, by the names of CAP. capset(2).

    EPERM: a set has a capability that is not permitted now, or, if it is the effective one,
    not permitted then.
    """
    header = struct.pack("Ii", _LINUX_CAPABILITY_VERSION_3, 0)  # 0: this process
    sets = [
        sum(1 << CAP[name] for name in names)
        for names in (effective, permitted, inheritable)
    ]
    # First the lower halves of the three sets, then the upper ones.
    halves = [half >> shift & 0xFFFFFFFF for shift in (0, 32) for half in sets]
    _check(_syscall("capset", header, struct.pack("6I", *halves)), "capset")


def seccomp(program: "list[tuple[int, int, int, int]]") -> None:
    """Has the kernel run a program before each system call of this process, and of all that
    it starts, for good. seccomp(2) with SECCOMP_SET_MODE_FILTER, bpf(4).

    program: instructions, each of them a code, how many instructions to skip if it is a jump
    and its question is answered with yes, how many if with no, and an operand.
    EINVAL: the program is empty, is too long, jumps past its end, or does not end with a
    return. EACCES: needs PR_SET_NO_NEW_PRIVS, or CAP_SYS_ADMIN.
    """
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    fprog = _Program(len(program), code)
    _check(
        _syscall("seccomp", _SECCOMP_SET_MODE_FILTER, 0, _ctypes.byref(fprog)),
        "seccomp",
        hints={
            errno.EACCES: "set PR_SET_NO_NEW_PRIVS first",
            errno.EINVAL: "an instruction is wrong, a jump leads past the end, or the last "
            "instruction is not a return",
        },
    )


def close_range(first: int, last: int = _LAST) -> None:
    """Closes all descriptors from first to last. close_range(2), Linux 5.9.

    If the kernel refuses, os.closerange() calls close(2) for each number. For two billion of them
    that takes minutes, and a filter of system calls may refuse those as well.
    """
    _check(_syscall("close_range", first, last, 0), "close_range")


def join_session_keyring() -> None:
    """Leaves the caller's session keyring, with the keys in it, for a new and empty one.
    keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING, session-keyring(7).

    ENOSYS: a kernel without keys. EDQUOT: too many keys of this user: /proc/key-users.
    """
    _check(_syscall("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")


# ---- errors


def _not_allowed(what: str) -> str:
    """Returns the hint for an EPERM: it depends on who we are."""
    if os.geteuid():
        return f"{what} need root: try again with sudo"
    return "this root lacks CAP_SYS_ADMIN, as in a container: use the lab's VM"


def _covered(filesystemtype: str) -> str:
    """Returns the hint if a part of the host's /proc or /sys is covered by another mount. The
    kernel calls it "mount too revealing": a new mount would show what is under it."""
    place = {"proc": "/proc", "sysfs": "/sys"}.get(filesystemtype)
    for mount in _mounts():
        below = mount[4].startswith(f"{place}/")
        # What the kernel itself provides as an empty directory to mount on does not count.
        if below and not mount[4].startswith(_MEANT_FOR_MOUNTS):
            return (
                f"{mount[4]} is covered by another mount, as in a container, and then the "
                f"kernel gives new user namespaces no {place}: use the lab's VM"
            )
    return ""


def _wrong_upper(data: str) -> str:
    """Returns the hint for an EINVAL of an overlay whose upperdir cannot be one, or ""."""
    options = dict(option.partition("=")[::2] for option in data.split(","))
    kind = _type_of(options["upperdir"]) if "upperdir" in options else ""
    if kind in _NO_UPPER:
        return (
            f"overlayfs cannot write to a directory on {kind}: keep containers on ext4"
        )
    return f"one of the options {data}" if len(data) < 80 else ""


def _type_of(path: _Path) -> str:
    """Returns the type of the filesystem that a path is on, or "this filesystem"."""
    try:
        device = os.stat(path).st_dev
    except OSError:
        return "this filesystem"
    for mount in _mounts():
        if mount[2] == f"{os.major(device)}:{os.minor(device)}":
            return mount[mount.index("-") + 1]
    return "this filesystem"


def _mounts() -> list[list[str]]:
    """Returns the fields of each mount that we see: proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", errors="replace") as file:
        return [line.split(" ") for line in file.read().split("\n")[:-1]]


def _check(
    result: int,
    call: str,
    path: _Path | None = None,
    path2: _Path | None = None,
    note: str = "",
    hints: dict[int, str] | None = None,
) -> int:
    """Returns the result of a system call. If it is -1, raises OSError as the module's
    docstring describes it."""
    if result != -1:
        return result
    raise _error(_ctypes.get_errno(), call, path, path2, note, hints)


def _error(
    number: int,
    call: str,
    path: _Path | None = None,
    path2: _Path | None = None,
    note: str = "",
    hints: dict[int, str] | None = None,
) -> OSError:
    """Returns an OSError, of the subclass that Python picks for its number, such as
    PermissionError, with a note and the hint for that number."""
    names = [None if name is None else os.fspath(name) for name in (path, path2)]
    text = f"{call}: {os.strerror(number)}"
    error = OSError(number, text, names[0], None, names[1])
    for line in note, (hints or {}).get(number):
        if line:
            error.add_note(line)
    return error
