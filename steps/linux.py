"""The system calls that Python's os module lacks, and nothing else.

Names and the order of arguments are those of the man pages. Every function raises OSError:
its strerror names the call ("mount: No such file or directory"), its filename is what the
call was given, and a note (PEP 678) says what most often causes that error.
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
_NUMBERS = {
    "x86_64": {"mount": 165, "umount2": 166, "pivot_root": 155, "sethostname": 170}
    | {"prctl": 157, "keyctl": 250, "statx": 332},
    "aarch64": {"mount": 40, "umount2": 39, "pivot_root": 41, "sethostname": 161}
    | {"prctl": 167, "keyctl": 219, "statx": 291},
}
_NEWER = {"open_tree": 428, "move_mount": 429, "clone3": 435, "openat2": 437}
_NEWER |= {"mount_setattr": 442}

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
PR_SET_PDEATHSIG = 1  # a signal for the orphan: prctl(2)
MNT_DETACH = 0x2  # gone from the tree at once, freed when nobody uses it

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 0x1
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_NODEV = 0x4
_MOUNT_ATTR_IDMAP = 0x100000
_RESOLVE_NO_SYMLINKS = 0x4
_STATX_MNT_ID = 0x1000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SIGCHLD = 17

_Path = str | os.PathLike[str]


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A long, as C has it."""

    _type_ = "l"


class _Word(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A pointer, or a number of the same size."""

    _type_ = "P"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    """A char, as C has it."""

    _type_ = "c"


class _Statx(_ctypes.Array):  # type: ignore[type-arg]
    """Room for struct statx of statx(2)."""

    _type_, _length_ = _Char, 256


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
if _machine not in _NUMBERS:
    raise NotImplementedError(
        f"linux.py knows {' and '.join(_NUMBERS)}, but this machine is {_machine}"
    )
_numbers = _NUMBERS[_machine] | _NEWER


def _syscall(name: str, *arguments: object) -> int:
    """Calls the kernel with at most five numbers, buffers or None. Returns its answer, or -1,
    and then _ctypes.get_errno() says why. syscall(2)."""
    unused = (0,) * (5 - len(arguments))
    result: int = _raw_syscall(_numbers[name], *arguments, *unused)
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
            errno.EPERM: "new namespaces need root: try again with sudo",
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
    data: the filesystem's own options, separated by commas.
    EINVAL: the filesystem does not know an option. ENODEV: the kernel does not know the type.
    ENOENT, ENOTDIR: source or target is missing, or is not a directory.
    ELOOP: target, or a directory on the way to it, is a symbolic link. mount(2) alone would
    follow it, and in an image from somebody else it may lead anywhere. openat2(2).
    """
    place = os.fsencode(target)
    source_, type_, data_ = (
        None if x is None else os.fsencode(x) for x in (source, filesystemtype, data)
    )

    def check(result: int) -> int:
        details = f"type {filesystemtype}" if filesystemtype else ""
        details += f", options {data}" if data else ""
        return _check(
            result,
            "mount",
            source or target,
            target if source else None,
            note=details,
            hints={
                errno.EPERM: "mounting needs root: try again with sudo",
                errno.ENOENT: "both must exist, also a directory to mount on",
                errno.ENOTDIR: "a directory goes on a directory, a file on a file",
                errno.ELOOP: "no symbolic link is followed to where something is mounted",
            },
        )

    before = check(_mount_at(place))
    check(_syscall("mount", source_, place, type_, mountflags, data_))
    # By now target leads into the new mount, unless somebody made it a link meanwhile.
    if source is not None and check(_mount_at(place)) == before:
        _ctypes.set_errno(errno.ELOOP)
        check(-1)


def _mount_at(path: bytes) -> int:
    """Returns the number of the mount that path leads to without any symbolic link, or -1,
    and then _ctypes.get_errno() says why not. openat2(2), statx(2)."""
    # struct open_how
    how = struct.pack("3Q", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    place = _syscall("openat2", _AT_FDCWD, path, how, len(how))
    if place == -1:
        return -1
    status = _Statx()
    result = _syscall("statx", place, b"", _AT_EMPTY_PATH, _STATX_MNT_ID, status)
    os.close(place)
    return result or int.from_bytes(bytes(status)[144:152], "little")


def umount(target: _Path, flags: int = 0) -> None:
    """Detaches the filesystem at target. umount2(2).

    EINVAL: target is not a mount point. EBUSY: still in use, unless flags has MNT_DETACH.
    """
    _check(_syscall("umount2", os.fsencode(target), flags), "umount", target)


def pivot_root(new_root: _Path, put_old: _Path) -> None:
    """Makes new_root the root of this mount namespace, and moves the old root to put_old.
    pivot_root(2). With "." and "." the old root lies on top of the new one until
    umount(".", MNT_DETACH).

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


def open_tree(path: _Path) -> int:
    """Returns a descriptor of a new mount that shows path and is attached nowhere yet:
    the first half of a bind mount. open_tree(2), Linux 5.2.

    EPERM: needs CAP_SYS_ADMIN over the mount namespace. EACCES, ENOENT: no way to path.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _syscall("open_tree", _AT_FDCWD, os.fsencode(path), flags)
    hint = "you must be able to read an image to start a container from it"
    return _check(tree, "open_tree", path, hints={errno.EACCES: hint})


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
    # struct mount_attr: what to set, what to clear, propagation, the user namespace
    flags = _MOUNT_ATTR_IDMAP | _MOUNT_ATTR_NODEV
    wanted = struct.pack("4Q", flags, 0, MS_PRIVATE, namespace)
    result = _syscall("mount_setattr", tree, b"", _AT_EMPTY_PATH, wanted, len(wanted))
    number = _ctypes.get_errno()
    os.close(namespace)
    _ctypes.set_errno(number)
    hint = "there is no uid_map and gid_map yet, or this filesystem has no idmapped mounts:"
    hint += " keep images on ext4"
    _check(result, "mount_setattr", path, hints={errno.EINVAL: hint})
    return tree


def prctl(option: int, argument: int) -> None:
    """Changes how the kernel treats this process. prctl(2).

    PR_SET_PDEATHSIG: the signal that the kernel sends this process when its parent ends.
    It is lost when the user or group id changes.
    """
    _check(_syscall("prctl", option, argument), "prctl")


def join_session_keyring() -> None:
    """Leaves the caller's session keyring, with the keys in it, for a new and empty one.
    keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING, session-keyring(7).

    ENOSYS: a kernel without keys. EDQUOT: too many keys of this user: /proc/key-users.
    """
    _check(_syscall("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")


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
