"""The attacks: the one list that the tests and docs/attacks.md are made from.

Each is a function that runs in the container, since this file is also the program that is
started there: `python3 catalogue.py ATTACK root|user ARGUMENT...`. Its parameters name what
the test makes on the host to aim at: targets.py. It raises what the kernel refuses, or
returns what it has found. One without a body begins outside: test_outside.py.

The docstring is its row of the page: what it tries, with a reference; which step stops it,
by what, and in quotes the kernel's words, a pattern; what a real engine does.

Nothing here does harm where it works: kernel files get the value that they have, or are
opened and no more.
"""

import ctypes
import os
import struct
import sys

TOP = "../" * 40
CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
MS_REMOUNT = 32
NUMBERS = {
    "x86_64": {"bpf": 321, "add_key": 248, "keyctl": 250, "userfaultfd": 323},
    "aarch64": {"bpf": 280, "add_key": 217, "keyctl": 219, "userfaultfd": 282},
}

# What a machine needs to be open to these attacks: a key of NEEDS in tests/conftest.py.
NEEDS = {
    "cgroup_of_others": "cgroup2",
    "release_agent": "cgroup2",
    "processes": "cgroup2",
    "disk_by_number": "debian13",
    "device_of_the_image": "debian13",
    "memory_by_number": "debian13",
    "modprobe_path": "debian13",
    "sysrq": "debian13",
    "kernel_log": "debian13",
}
# No earlier step lets these attacks through. The last step does, if these lines are changed.
DETACHED = '    linux.umount("/", linux.MNT_DETACH)\n    os.chdir("/")\n'
ATTACHED = "    for path, tree in trees.items():\n        process.attach(tree, path)\n"
TOO_LATE = DETACHED + ATTACHED, ATTACHED + DETACHED
LEFT_OPEN = """    if kept > 3:
        linux.close_range(3, kept - 1)
    linux.close_range(kept + 1)
"""
KEPT = "        linux.join_session_keyring()\n"
WITHOUT = {
    "image_of_links": ("07_overlay/container.py", *TOO_LATE),
    "link_swapped_in": ("05_user/container.py", *TOO_LATE),
    "leaked_descriptor": ("isolation.py", LEFT_OPEN, ""),
    "session_keys": ("isolation.py", KEPT, "        pass\n"),
}


# ---- what the attacks share


def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    number = NUMBERS[os.uname().machine].get(name)
    function = libc.syscall if number else getattr(libc, name)
    words = [number, *arguments] if number else arguments
    result = function(*[ctypes.c_long(w) if isinstance(w, int) else w for w in words])
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def mount(kind, options=None):
    """Mount something on /tmp, in a new mount table."""
    call("unshare", CLONE_NEWNS)
    call("mount", kind, b"/tmp", kind, 0, options)


def read(path, **options):
    descriptor = os.open(path, os.O_RDONLY, **options)
    try:
        return os.read(descriptor, 4096).decode(errors="replace")
    finally:
        os.close(descriptor)


def rewrite(path):
    descriptor = os.open(path, os.O_WRONLY)
    os.write(descriptor, read(path).encode())


def open_to_write(path):
    os.close(os.open(path, os.O_WRONLY))


def open_device(kind, numbers):
    path = f"/tmp/device-{os.getpid()}"
    os.mknod(path, kind | 0o600, os.makedev(*map(int, numbers.split(":"))))
    try:
        os.close(os.open(path, os.O_RDONLY))
    finally:
        os.unlink(path)


def any_of(attempts):
    """Return the result of the first call that is not refused. Raise the last refusal if
    all are refused."""
    refusal = OSError(0, "there was nothing to try")
    for attempt in attempts:
        try:
            return attempt()
        except OSError as error:
            refusal = error
    raise refusal


# ---- the host's files


def second_chroot(secret):
    """Climb out with a second chroot: chroot(2)
    Step 03: after pivot_root and umount there is nothing above / "No such file|not permitted"
    Engines: the same"""
    os.chdir("/")
    os.chroot("/tmp")  # leaves the working directory above the new root
    for _ in range(64):
        os.chdir("..")
    os.chroot(".")
    return read(secret)


def kept_descriptor(secret):
    """Climb with `..` through a directory that was kept open: openat(2), CVE-2024-21626
    Step 03: the mount that the descriptor leads to has nothing above it "No such file"
    Engines: the same; runc looks at the working directory as well"""
    kept = os.open("/", os.O_RDONLY)
    if os.geteuid() == 0:
        os.chroot("/tmp")
    return read(TOP + secret, dir_fd=kept)


def root_of_others(secret):
    """Read through the root or working directory of other processes: proc_pid_root(5), proc_pid_cwd(5)
    Step 03: /proc shows only the container's processes "No such file|Permission denied"
    Engines: the same"""
    pids = [name for name in os.listdir("/proc") if name.isdigit()]
    ways = [f"/proc/{pid}/root{secret}" for pid in pids]
    ways += [f"/proc/{pid}/cwd/{TOP}{secret}" for pid in pids]
    return any_of([lambda way=way: read(way) for way in ways])


def leaked_descriptor(secret):
    """Use a directory that the runtime or its caller left open: CVE-2024-21626, close_range(2)
    Step 00: isolation.py closes every descriptor except 0, 1 and 2 before the command "Bad file descriptor"
    Engines: the same, and close-on-exec on every descriptor"""
    fds = range(3, 64)
    return any_of([lambda fd=fd: read(TOP + secret, dir_fd=fd) for fd in fds])


def runtime_program():
    """Change the runtime's own program, through /proc/self/exe: CVE-2019-5736
    Step 05: root inside does not own the program "Permission denied"
    Engines: runc runs from a sealed copy of itself"""
    program = "/proc/self/exe"
    # To write is refused while it runs; a set-user-ID bit for everybody's use is not.
    return any_of([lambda: os.chmod(program, 0o4755), lambda: open_to_write(program)])


def image_of_links():
    """Bring an image with links in place of /proc, /sys, /dev, /tmp, resolv.conf: CVE-2023-27561, CVE-2023-28642
    Step 03: nothing is mounted in the image before the host is detached "No such file or directory"
    Engines: openat2 with RESOLVE_*, or a path walk that follows no links"""


def link_swapped_in():
    """Swap in a link during the start, from a second container in the same image: CVE-2021-30465
    Step 03: nothing is mounted in the image before the host is detached "No such file or directory"
    Engines: they mount on descriptors instead of paths"""


def program_left_behind():
    """Leave a set-user-ID program in the image for the host's users: CVE-2021-41091
    Step 07: the file is in the container's own layer, in a directory of mode 0700 "Permission denied"
    Engines: the same"""


def copy_up():
    """Give a program in the image a set-user-ID bit and capabilities: CVE-2021-3493, CVE-2023-0386
    Step 07: overlayfs changes a copy, in a directory of mode 0700 "Permission denied"
    Engines: the same, and the kernel's fixes for both"""


# ---- devices, and files of the kernel


def disk_by_number(disk):
    """Make a device file for the disk: mknod(2)
    Step 05: mknod requires CAP_MKNOD in the first user namespace "Operation not permitted"
    Engines: no CAP_MKNOD; the device cgroup"""
    open_device(0o060000, disk)


def memory_by_number(memory):
    """Make a device file for memory (Linux 5.13 removed kmem, but mem is still there): mem(4)
    Step 05: mknod requires CAP_MKNOD in the first user namespace "Operation not permitted"
    Engines: no CAP_MKNOD; the device cgroup"""
    open_device(0o020000, memory)


def device_of_the_image(disk):
    """Open a device file that the image brings along: mount_setattr(2), mknod(2)
    Step 05: linux.idmapped mounts the image with nodev "Permission denied"
    Engines: the same; the device cgroup"""
    os.close(os.open("/image-disk", os.O_RDONLY))


def core_pattern():
    """Have the kernel start a program at every crash: core(5)
    Step 05: for the kernel's files, root inside is the user 100000 "Permission denied"
    Engines: /proc/sys is read-only; AppArmor, SELinux"""
    rewrite("/proc/sys/kernel/core_pattern")


def modprobe_path():
    """Have the kernel start another modprobe: proc_sys_kernel(5)
    Step 05: for the kernel's files, root inside is the user 100000 "Permission denied"
    Engines: /proc/sys is read-only; AppArmor, SELinux"""
    rewrite("/proc/sys/kernel/modprobe")


def sysrq():
    """Restart the machine with SysRq: proc_sysrq-trigger(5)
    Step 05: for the kernel's files, root inside is the user 100000 "Permission denied"
    Engines: the file is read-only"""
    open_to_write("/proc/sysrq-trigger")


def uevent():
    """Have the kernel start uevent_helper, if it has one, or send udev an event: sysfs(5), udev(7)
    Step 05: for the kernel's files, root inside is the user 100000 "Permission denied|not permitted"
    Engines: /sys is read-only, and no CAP_SYS_ADMIN to change that"""
    mount(b"sysfs")
    call("mount", None, b"/tmp", None, MS_REMOUNT, None)  # and not read-only
    if os.path.exists("/tmp/kernel/uevent_helper"):
        rewrite("/tmp/kernel/uevent_helper")
    open_to_write("/tmp/devices/virtual/mem/null/uevent")


def binfmt(interpreters):
    """Register an interpreter for the host's programs: mount(2), binfmt_misc
    Step 05: a user namespace has its own binfmt_misc since Linux 6.7; before, it has none "another one|not permitted"
    Engines: no CAP_SYS_ADMIN to mount it, and /proc/sys is read-only"""
    mount(b"binfmt_misc")
    open_to_write("/tmp/register")
    if os.stat("/tmp").st_dev != int(interpreters):
        raise OSError(0, "this is another one than the host's")


def bpf():
    """Load a program into the kernel: bpf(2), CVE-2021-3490
    Step 05: the kernel requires CAP_BPF and CAP_PERFMON in the first user namespace "Operation not permitted"
    Engines: seccomp refuses bpf"""
    program = bytes.fromhex("b700000000000000 9500000000000000")  # return 0
    code = ctypes.create_string_buffer(program)
    text = ctypes.create_string_buffer(b"GPL")
    words = 2, 2, ctypes.addressof(code), ctypes.addressof(text)  # a kprobe's
    call("bpf", 5, struct.pack("IIQQ", *words) + bytes(104), 128)


def kernel_log():
    """Read the kernel's log: syslog(2)
    Step 05: the kernel requires CAP_SYSLOG in the first user namespace "Operation not permitted"
    Engines: no CAP_SYSLOG; Docker's seccomp filter refuses syslog"""
    call("klogctl", 3, ctypes.create_string_buffer(4096), 4096)


def cgroup_of_others(cgroup):
    """Move into a cgroup above or next to the container's own: cgroups(7)
    Step 05: cgroups are not mounted; from step 06 on only the container's own part is "No such file|denied|not permitted"
    Engines: the same"""

    def by_mounting():
        name, options = cgroup.split(":")
        mount(b"cgroup2", options.encode())
        descriptor = os.open(f"/tmp/{name}/cgroup.procs", os.O_WRONLY)
        os.write(descriptor, b"0")
        return read("/proc/self/cgroup")

    # Even the list of its own cgroup is the host's to write to.
    own = "/sys/fs/cgroup/cgroup.procs"
    return any_of([lambda: open_to_write(own), by_mounting])


def release_agent():
    """Have the kernel start a program when a cgroup v1 becomes empty: CVE-2022-0492
    Step 05: root in a user namespace can neither create a hierarchy nor write to one "not permitted"
    Engines: seccomp, and no CAP_SYS_ADMIN to mount it"""
    mount(b"cgroup", f"none,name=attack{os.getpid()}".encode())
    rewrite("/tmp/release_agent")


# ---- processes, terminals, keys


def trace(victim):
    """Trace a process on the host: ptrace(2)
    Step 02: a process number has no meaning in another PID namespace "No such process"
    Engines: the same"""
    pid = int(victim.split(":")[0])
    call("ptrace", 0x4206, pid, None, None)  # PTRACE_SEIZE
    return read(f"/proc/{pid}/status")


def memory_of_others(victim):
    """Read a host process's memory: process_vm_readv(2)
    Step 02: a process number has no meaning in another PID namespace "No such process"
    Engines: the same; seccomp"""
    pid, address = map(int, victim.split(":"))
    buffer = ctypes.create_string_buffer(64)
    here = struct.pack("QQ", ctypes.addressof(buffer), 64)
    call("process_vm_readv", pid, here, 1, struct.pack("QQ", address, 64), 1, 0)
    return buffer.value.decode()


def type_into_terminal(terminal):
    """Type into the caller's terminal: ioctl_tty(2), CVE-2016-2781, CVE-2017-5226
    Step 05: a new session and no CAP_SYS_ADMIN; at a terminal, step 00 gives it a terminal of its own "not permitted|Input/output error"
    Engines: the same; seccomp; dev.tty.legacy_tiocsti=0"""
    import fcntl
    import termios

    def typed_into(descriptor):
        for key in f"{terminal}\n":
            fcntl.ioctl(descriptor, termios.TIOCSTI, key.encode())

    # Standard input may be a pipe, but standard error is often the terminal.
    any_of([lambda n=n: typed_into(n) for n in range(3)])


def key_in(keyring, description):
    # KEYCTL_SEARCH, and into the thread's own keyring with it; KEYCTL_READ.
    key = call("keyctl", 10, keyring, b"user", description.encode(), -1)
    buffer = ctypes.create_string_buffer(64)
    call("keyctl", 11, key, buffer, 64)
    return buffer.value.decode()


def session_keys(session_key):
    """Read the keys in the caller's session keyring: session-keyring(7)
    Step 00: isolation.py gives the container a new session keyring "key not available"
    Engines: the same; Docker's seccomp filter refuses keyctl"""
    return key_in(-3, session_key)


def user_keys(user_key):
    """Read the keys of the host's user with the same number: user-keyring(7)
    Step 05: each user namespace has its own user keyrings "key not available"
    Engines: Docker's seccomp filter refuses keyctl"""
    return key_in(-4, user_key)


# ---- the network


def abstract_socket(listener):
    """Connect to an abstract socket on the host: unix(7), CVE-2020-15257
    Step 04: the name of an abstract socket is valid in one network namespace only "Connection refused"
    Engines: the same, unless --network=host"""
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0{listener}")
        return client.recv(64).decode()


def netlink(link):
    """Remove one of the host's network devices: rtnetlink(7)
    Step 04: netlink acts on the container's own network namespace "No such device|not permitted"
    Engines: the same; no CAP_NET_ADMIN"""
    import socket

    name = link.encode() + bytes(1)
    body = (
        bytes(16) + struct.pack("HH", 4 + len(name), 3) + name + bytes(-len(name) % 4)
    )
    head = struct.pack("IHHII", 16 + len(body), 17, 5, 1, 0)  # RTM_DELLINK, with answer
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as kernel:
        kernel.send(head + body)
        number = -struct.unpack_from("i", kernel.recv(4096), 16)[0]
    if number:
        raise OSError(number, os.strerror(number))


GATEWAY = bytes([100, 64, 0, 1])


def arp_spoofing(neighbour):
    """Pretend to a neighbour to be the gateway: arp(7), packet(7)
    Step 09: root inside has no CAP_NET_RAW "not permitted"
    Engines: Podman drops CAP_NET_RAW, Docker does not; CNI has macspoofchk"""
    import socket
    import time

    own = bytes.fromhex(read("/sys/class/net/eth0/address").replace(":", ""))
    reply = b"\xff" * 6 + own + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 2)
    reply += own + GATEWAY + b"\xff" * 6 + socket.inet_aton(neighbour)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("eth0", 0))
        for _ in range(600):  # until the test has seen it: a minute at most
            wire.send(reply)
            time.sleep(0.1)


def address_spoofing(neighbour):
    """Send a neighbour packets with the gateway's address: raw(7)
    Step 09: root inside has no CAP_NET_RAW "not permitted"
    Engines: Podman drops CAP_NET_RAW, Docker does not; CNI has macspoofchk"""
    import socket

    there = socket.inet_aton(neighbour)
    udp = struct.pack("!HHHH", 53, 5353, 8 + 4, 0) + b"fake"
    ip = struct.pack("!BBHHHBBH4s4s", 69, 0, 0, 0, 0, 64, 17, 0, GATEWAY, there)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as wire:
        for _ in range(10):
            wire.sendto(ip + udp, (neighbour, 0))


# ---- what is shared


def processes():
    """Use up all process numbers: fork(2), cgroups(7)
    Step 06: pids.max, with --pids "Resource temporarily unavailable"
    Engines: the same, with --pids-limit"""
    import signal

    made = []
    try:
        for _ in range(200):
            made.append(os.fork())
            if made[-1] == 0:
                signal.pause()
    finally:
        for pid in made:
            os.kill(pid, signal.SIGKILL)


def inodes():
    """Use up the inodes or the space of the host's disk: statvfs(3)
    Open: no namespace and no cgroup counts files or disk blocks; a filesystem's project quotas do, see below
    Engines: the same; on XFS, Docker and Podman can set a project quota, see below"""
    place = f"/open/{os.getpid()}"
    os.mkdir(place)
    for number in range(2000):
        os.close(os.open(f"{place}/{number}", os.O_CREAT))


def nested_user_namespace():
    """Get all capabilities in a user namespace inside: user_namespaces(7), CVE-2022-0185
    Step 10: seccomp refuses unshare, setns, and clone with flags for namespaces "not permitted"
    Engines: Docker does the same; Podman allows it, so that Podman runs in Podman"""
    call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
    call("mount", b"tmpfs", b"/tmp", b"tmpfs", 0, None)


def kernel_keys():
    """Reach the kernel's code for keys, and hide data there: add_key(2), keyctl(2), CVE-2016-0728
    Step 10: seccomp refuses add_key, request_key and keyctl "not permitted"
    Engines: Docker does the same; Podman allows keyctl, but not the other two"""
    call("add_key", b"user", b"attack", b"hidden", 6, -2)  # the process's own keyring
    return key_in(-2, "attack")


def userfaultfd():
    """Stop the kernel in the middle of a copy, to win a race: userfaultfd(2)
    Step 10: seccomp refuses userfaultfd "not permitted"
    Engines: the same"""
    os.close(call("userfaultfd", 1))  # UFFD_USER_MODE_ONLY: allowed to everybody


def facts_about_the_machine(machine):
    """Read facts about the machine in /proc and /sys, such as how it was started: proc_cmdline(5), sysfs(5)
    Step 09: /proc/cmdline, /proc/keys, /sys/firmware and others are covered "is empty"
    Engines: the same, except for /proc/cmdline"""
    found = read("/proc/cmdline")
    if not found:
        raise OSError(0, "the file is empty")
    return found


def main(name, who, *arguments):
    if who == "user":
        os.setgroups([])
        os.setgid(1000)
        os.setuid(1000)
        call("prctl", 4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: as after an execve(2)
    try:
        found = globals()[name](*arguments)
    except OSError as error:
        sys.exit(f"refused: {error.strerror}")
    print(f"worked: {found}")


if __name__ == "__main__":
    main(*sys.argv[1:])
