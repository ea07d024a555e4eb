"""The system calls that Python's os module lacks, and nothing else.

Names and the order of arguments are those of the man pages. Every function raises OSError:
its strerror names the call ("mount: No such file or directory"), its filename what the call
was given, and a note (PEP 678) says what most often causes that error.
"""

# _socket is what socket is made of; the full module takes 4 ms to import.
import _socket as socket
import ctypes
import errno
import os

_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}  # numbers that differ by machine
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_OPEN_TREE, _MOVE_MOUNT, _CLONE3, _OPENAT2, _MOUNT_SETATTR = 428, 429, 435, 437, 442

CLONE_NEWNS = 0x00020000  # the mount table: mount_namespaces(7)
CLONE_NEWCGROUP = 0x02000000  # what /proc/self/cgroup calls "/": cgroup_namespaces(7)
CLONE_NEWUTS = 0x04000000  # host name and domain name: uts_namespaces(7)
CLONE_NEWIPC = 0x08000000  # System V queues, semaphores, memory: ipc_namespaces(7)
CLONE_NEWUSER = 0x10000000  # user and group ids, capabilities: user_namespaces(7)
CLONE_NEWPID = 0x20000000  # process ids: pid_namespaces(7)
CLONE_NEWNET = 0x40000000  # network devices, addresses, routes: network_namespaces(7)
_CLONE_INTO_CGROUP = 0x200000000

MS_RDONLY = 0x1  # nothing can be written
MS_NOSUID = 0x2  # set-user-ID bits and file capabilities count for nothing
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

if os.uname().machine not in _PIVOT_ROOT:
    raise NotImplementedError(
        f"linux.py knows {', '.join(_PIVOT_ROOT)}, not this machine"
    )

# PyDLL keeps Python's lock during a call: a child cloned by a process with threads would
# otherwise wait for a lock whose holder exists only in the parent.
_libc = ctypes.PyDLL(None, use_errno=True)
_text, _number = ctypes.c_char_p, ctypes.c_ulong
_libc.mount.argtypes = [_text, _text, _text, _number, _text]
_libc.umount2.argtypes = [_text, ctypes.c_int]
_libc.sethostname.argtypes = [_text, ctypes.c_size_t]
_libc.prctl.argtypes = [ctypes.c_int] + [_number] * 4
_libc.statx.argtypes = [
    ctypes.c_int,
    _text,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
]
_libc.ioctl.argtypes = [ctypes.c_int, _number, ctypes.c_void_p]
_libc.syscall.argtypes = [ctypes.c_long] + [ctypes.c_void_p] * 5
_libc.syscall.restype = ctypes.c_long


class _CloneArgs(ctypes.Structure):
    """struct clone_args of clone3(2): eleven 64-bit numbers."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in "flags pidfd child_tid parent_tid exit_signal stack stack_size tls "
        "set_tid set_tid_size cgroup".split()
    ]


class _MountAttr(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in ("attr_set", "attr_clr", "propagation", "userns_fd")
    ]


class _OpenHow(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


class _IfReq(ctypes.Structure):
    """struct ifreq of netdevice(7): a name, and of the union flags, in all of its size."""

    _fields_ = [
        ("name", ctypes.c_char * 16),
        ("flags", ctypes.c_short),
        ("rest", ctypes.c_char * 22),
    ]


def clone(flags, cgroup=None):
    """Create a child process in new namespaces. Returns like os.fork(): 0 in the child, its
    pid in the parent. clone3(2), clone(2), namespaces(7).

    flags: CLONE_NEW* together. cgroup: descriptor of a directory of cgroup v2 that the child
    is born in, Linux 5.7.
    EPERM: namespaces other than the user namespace need root (CAP_SYS_ADMIN).
    EINVAL: this kernel lacks a namespace that flags ask for, or the flags exclude each other.
    ENOSPC: a limit in /proc/sys/user/max_*_namespaces. EAGAIN: too many processes.
    """
    arguments = _CloneArgs(flags=flags, exit_signal=_SIGCHLD)
    if cgroup is not None:
        arguments.flags |= _CLONE_INTO_CGROUP
        arguments.cgroup = cgroup
    # What os.fork() does around fork(2), so that the child has a sound interpreter.
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = _libc.syscall(
        _CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments), 0, 0, 0
    )
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()  # before the hook can change it
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    ctypes.set_errno(number)
    return _check(
        pid,
        "clone",
        hints={
            errno.EPERM: "new namespaces need root: try again with sudo",
            errno.EINVAL: "this kernel lacks a namespace that was asked for: ls /proc/self/ns",
            errno.ENOSPC: "a limit of this machine: see /proc/sys/user/max_*_namespaces",
            errno.EAGAIN: "too many processes, or the cgroup's pids.max is reached",
            errno.ENOSYS: "clone3 needs Linux 5.3",
        },
    )


def sethostname(name):
    """Set the host name of this UTS namespace. sethostname(2).

    EINVAL: longer than 64 bytes. EPERM: needs CAP_SYS_ADMIN over the UTS namespace.
    """
    name = os.fsencode(name)
    _check(
        _libc.sethostname(name, len(name)),
        "sethostname",
        os.fsdecode(name),
        hints={errno.EINVAL: "a host name has at most 64 bytes"},
    )


def link_up(name):
    """Start a network device of this network namespace, as `ip link set NAME up` does.
    ioctl(2) with SIOCSIFFLAGS, netdevice(7).

    ENODEV: there is no such device. EPERM: needs CAP_NET_ADMIN over the network namespace.
    """
    request = _IfReq(os.fsencode(name)[:16])
    any_socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for number in _SIOCGIFFLAGS, _SIOCSIFFLAGS:
            result = _libc.ioctl(any_socket.fileno(), number, ctypes.byref(request))
            _check(result, "ioctl", name)
            request.flags |= _IFF_UP
    finally:
        any_socket.close()


def mount(source, target, filesystemtype, mountflags=0, data=None):
    """Attach a filesystem, or with MS_BIND a directory or file, at target. mount(2).

    source: path, or any word for filesystems without a device; None where it is ignored.
    filesystemtype: a word of /proc/filesystems; None with MS_BIND or MS_PRIVATE.
    data: the filesystem's own options, comma separated.
    EINVAL: the filesystem does not know an option. ENODEV: the kernel does not know the type.
    ENOENT, ENOTDIR: source or target is missing, or is no directory.
    ELOOP: target, or a directory on the way to it, is a symbolic link. mount(2) alone would
    follow it: in somebody else's image it may lead anywhere. openat2(2).
    """
    given = [
        None if x is None else os.fsencode(x) for x in (source, target, filesystemtype)
    ]
    details = f"type {filesystemtype}" if filesystemtype else ""
    details += f", options {data}" if data else ""

    def check(result):
        return _check(
            result,
            "mount",
            source or target,
            target if source else None,
            note=details,
            hints={
                errno.EPERM: "mounting needs root: try again with sudo",
                errno.ENOENT: "both have to exist, a directory to be mounted on as well",
                errno.ENOTDIR: "a directory goes on a directory, a file on a file",
                errno.ELOOP: "a link is not followed to where something is mounted",
            },
        )

    before = check(_mount_at(given[1]))
    check(_libc.mount(*given, mountflags, None if data is None else os.fsencode(data)))
    # By now target leads into the new mount, unless somebody made it a link meanwhile.
    if source is not None and check(_mount_at(given[1])) == before:
        ctypes.set_errno(errno.ELOOP)
        check(-1)


def _mount_at(path):
    """Returns the number of the mount that path leads to without any link; -1: errno says
    why it does not. openat2(2), statx(2)."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    size = ctypes.sizeof(how)
    place = _libc.syscall(_OPENAT2, _AT_FDCWD, path, ctypes.byref(how), size, 0)
    if place == -1:
        return -1
    status = ctypes.create_string_buffer(256)
    result = _libc.statx(place, b"", _AT_EMPTY_PATH, _STATX_MNT_ID, status)
    os.close(place)
    return result or int.from_bytes(status.raw[144:152], "little")


def umount(target, flags=0):
    """Detach the filesystem at target. umount2(2).

    EINVAL: target is not a mount point. EBUSY: still in use, unless flags has MNT_DETACH.
    """
    _check(_libc.umount2(os.fsencode(target), flags), "umount", target)


def pivot_root(new_root, put_old):
    """Make new_root the root of this mount namespace; the old root moves to put_old.
    pivot_root(2). With "." and "." the old root lies on top of the new one until
    umount(".", MNT_DETACH).

    EINVAL: new_root is not a mount point, or its parent mount or / is shared.
    EBUSY: new_root is on the same mount as the current root.
    """
    number = _PIVOT_ROOT[os.uname().machine]
    _check(
        _libc.syscall(number, os.fsencode(new_root), os.fsencode(put_old), 0, 0, 0),
        "pivot_root",
        new_root,
        put_old,
        hints={errno.EINVAL: "new_root is not a mount point, or / is shared"},
    )


def open_tree(path):
    """Returns a descriptor of a new mount that shows path and is attached nowhere yet:
    the first half of a bind mount. open_tree(2), Linux 5.2.

    EPERM: needs CAP_SYS_ADMIN over the mount namespace. EACCES, ENOENT: no way to path.
    """
    tree = _libc.syscall(
        _OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC, 0, 0
    )
    hint = "who starts a container has to be able to read its image"
    return _check(tree, "open_tree", path, hints={errno.EACCES: hint})


def move_mount(tree, target):
    """Attach the mount behind a descriptor of open_tree() at target: the second half of a
    bind mount. move_mount(2), Linux 5.2.

    ENOTDIR, EINVAL: one of the two is a directory and the other is not, or tree is attached.
    """
    target = os.fspath(target)
    _check(
        _libc.syscall(
            _MOVE_MOUNT,
            tree,
            b"",
            _AT_FDCWD,
            os.fsencode(target),
            _MOVE_MOUNT_F_EMPTY_PATH,
        ),
        "move_mount",
        target,
        hints={errno.EINVAL: "a directory goes on a directory, a file on a file"},
    )


def idmapped(path, pid):
    """Returns open_tree(path), private, with the owners that the user namespace of process
    pid has for their numbers: what is 0's on disk is root's inside. Nothing changes on disk.
    Device files in it cannot be opened: their owner inside has not made them.
    mount_setattr(2) with MOUNT_ATTR_IDMAP, Linux 5.12 (ext4), 6.3 (tmpfs).

    EINVAL: the filesystem cannot do this, or the namespace has no map yet. EPERM: needs root.
    """
    tree = open_tree(path)
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    flags = _MOUNT_ATTR_IDMAP | _MOUNT_ATTR_NODEV
    wanted = _MountAttr(flags, 0, MS_PRIVATE, namespace)
    size = ctypes.sizeof(wanted)
    result = _libc.syscall(
        _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(wanted), size
    )
    number = ctypes.get_errno()
    os.close(namespace)
    ctypes.set_errno(number)
    hint = "there is no uid_map and gid_map yet, or this filesystem has no idmapped mounts:"
    hint += " keep images on ext4"
    _check(result, "mount_setattr", path, hints={errno.EINVAL: hint})
    return tree


def prctl(option, argument):
    """Change how the kernel treats this process. prctl(2).

    PR_SET_PDEATHSIG: the signal that the kernel sends this process when its parent ends.
    It is lost when the user or group id changes.
    """
    _check(_libc.prctl(option, argument, 0, 0, 0), "prctl")


def join_session_keyring():
    """Leave the caller's session keyring, with the keys in it, for a new and empty one.
    keyctl(2) with KEYCTL_JOIN_SESSION_KEYRING, session-keyring(7).

    ENOSYS: a kernel without keys. EDQUOT: too many keys of this user: /proc/key-users.
    """
    number = _KEYCTL[os.uname().machine]
    _check(_libc.syscall(number, _KEYCTL_JOIN_SESSION_KEYRING, None, 0, 0, 0), "keyctl")


def _check(result, call, path=None, path2=None, note="", hints=None):
    """Returns result unless it says failure; then raises OSError as the module's docstring
    has it, of the subclass that Python picks for errno (PermissionError, ...)."""
    if result != -1:
        return result
    number = ctypes.get_errno()
    error = OSError(number, f"{call}: {os.strerror(number)}", path, None, path2)
    for line in note, (hints or {}).get(number):
        if line:
            error.add_note(line)
    raise error
