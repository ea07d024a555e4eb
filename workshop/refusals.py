"""Says in words why a runtime has ended: what the kernel has refused, and the usual cause."""

from __future__ import annotations

import re
import signal

ENDS = "your runtime ends before the command runs"
RAISES = "your runtime raises"

NOT_ROOT = (
    "the kernel refuses a call of child, which is not root in its user namespace yet: call "
    "os.setgid(0) and os.setuid(0) right after process.await_parent(), before anything that "
    "needs root."
)
PIVOT_ROOT = (
    "the kernel refuses pivot_root: the new root must be a mount point, and neither it nor / "
    "may be shared. Does child first make / private, with MS_REC as well, and mount the image "
    "on /mnt?"
)
ALL_REFUSED = (
    "the filter refuses every call, even execve and exit. For which question does `no` lead to "
    "a RETURN that is not ALLOW? Each question of the table skips one instruction, and clone "
    "skips three. After ARCHITECTURE, load NUMBER."
)
FILTERED = 128 + signal.SIGSYS  # the status of a command that the answer KILL has ended
# That of one that is refused even exit_group(2): the C library then executes an instruction
# that no program may execute, on x86 and on ARM.
NO_EXIT = (128 + signal.SIGSEGV, 128 + signal.SIGTRAP)
# What a refusal by the kernel, or by Python, looks like, as a pattern: its usual cause.
REFUSED = {
    "fsmount: Operation not permitted: 'cgroup2'": (
        "a user namespace may mount cgroup2 only with a cgroup namespace of its own: is "
        "linux.CLONE_NEWCGROUP among the flags of process.start?"
    ),
    "bytes or os.PathLike object, not NoneType": (
        "an option that the user has not given is None: without --hostname, args.hostname is "
        "None, and the name must be container."
    ),
    "argv must be a tuple or list|'Arguments' object is not subscriptable": (
        "process.execute takes a list: args.command, if USAGE ends with COMMAND..., whose dots "
        "mean that it is a list of words."
    ),
    r"child\(\) (missing|takes) \d+ .*argument": (
        "process.start calls child with the arguments that follow it, but not with those that "
        "have a name: process.start(child, args, flags=NAMESPACES)."
    ),
    "'NoneType' object has no attribute 'encode'": (
        "an option that the user has not given is None. For such a limit, write max."
    ),
    "name '_channel' is not defined": (
        "only the process that process.start makes can call process.execute. Give process.start "
        "the function child itself, and call it nowhere."
    ),
    "move_mount: Invalid argument: '/dev/": (
        "a device is a file, so it can only be attached to a file. process.attach makes the "
        "place that it needs, unlike os.makedirs and linux.move_mount."
    ),
    "mount: No such file or directory: 'overlay'": (
        "overlayfs finds no upperdir or no workdir: parent makes the directories upper and work "
        "in the container's own directory, which is the first of the trees."
    ),
    "type overlay; one of the options (?!.*upperdir)": (
        "an overlay that can be written to needs upperdir= and workdir=, too."
    ),
    "No such file or directory: '/var/lib/workshop/images/.*/": (
        "an IMAGE with a slash is the path of an image of one layer: look up only a name in "
        "/var/lib/workshop/images."
    ),
    r"No such file or directory: '/sys/fs/cgroup/workshop/\d+/(memory|pids|cpu)": (
        "a cgroup has the files of the limits only if the controllers are switched on in the "
        "directory above it: write +cpu +memory +pids to "
        "/sys/fs/cgroup/workshop/cgroup.subtree_control, before the cgroup's own files."
    ),
    "open_tree: No such file or directory: '/(dev/|run/workshop/dns)"
    "|No such file or directory: '/proc/self/mountinfo'": (
        "the host's devices and files can be reached only before linux.pivot_root: call "
        "linux.open_tree and linux.fsmount before it, and process.attach after the umount."
    ),
    r": '(/dev/)?(fd|std\w+|ptmx)': '(/proc/self/)?(fd|fd/\d|pts/ptmx)'$": (
        "os.symlink takes first where the link leads, and then the link: "
        'os.symlink("/proc/self/fd", "/dev/fd").'
    ),
    "(mount|open_tree|mount_setattr): No such file or directory: '[^/']+'": (
        "an IMAGE without a slash is a name, and parent must turn it into a path: of a "
        "directory in /var/lib/workshop/rootfs (from step 07 on, of its layers)."
    ),
    "pivot_root: ": PIVOT_ROOT,
    "mount_setattr: Invalid argument(?!.*has no idmapped)": (
        "the kernel refuses mount_setattr: does parent write the uid_map and the gid_map "
        "before it calls linux.idmapped?"
    ),
    "not permitted: '/proc/.*/gid_map': '0 [1-9]": (
        "an ordinary user may write a gid_map only after writing deny to /proc/PID/setgroups."
    ),
    "not permitted: '/proc/.*/[ug]id_map'": (
        "the kernel refuses the map: is CLONE_NEWUSER among the flags? And does parent write "
        "the map, once? The child must not choose ids of the host."
    ),
    "(mount|open_tree): Permission denied: '/var/lib/workshop": (
        "the child is already user 100000, who may not enter /var/lib/workshop: parent opens "
        "the image with linux.idmapped and hands it over with process.wait(container, trees), "
        "and process.await_parent() returns it to the child."
    ),
    r"line \d+: (Operation not permitted|Invalid argument)": (
        "until its map is written, child is the user nobody and cannot change that: call "
        "os.setgid(0) and os.setuid(0) after process.await_parent(), and os.setgroups([]) "
        "before these two, but only if BY_ROOT. The ids are those inside."
    ),
    "RTNETLINK answers: Operation not permitted": NOT_ROOT,
    "Nexthop has invalid gateway|[Dd]evice for nexthop is not up|answers: Network is ": (
        "the gateway can be reached only when eth0 is up and has its address. So the order is: "
        "`link set eth0 up`, `address add`, `route add`."
    ),
    r"cannot open /proc/\d+/ns/net|ip link add: RTNETLINK answers: No such process": (
        "the container has ended before parent could connect it: child must call "
        "process.await_parent() before the command runs."
    ),
    "Value too large for defined data type": NOT_ROOT,
    "move_mount: Operation not permitted": (
        "child has given up what a mount needs. It may drop capabilities, and load a filter, only "
        "right before process.execute."
    ),
    "(No such file or directory|not permitted|denied): '/(proc|sys)/": (
        "not every kernel has each of these places: cover, or make read-only, only those for which "
        "os.path.exists(path) is true."
    ),
    "move_mount: .*: '/(proc|sys)/": (
        "a file covers a file, and a directory covers a directory: take /dev/null for a file, and an "
        "empty tmpfs for a directory."
    ),
    "seccomp: Invalid argument": (
        "the filter must not be able to run past its end: its last instruction is "
        "(RETURN, 0, 0, ALLOW), and no question skips more instructions than follow it. clone's "
        "skips three."
    ),
    "'Arguments' object has no attribute 'cap": (
        "USAGE lacks --cap-add or --cap-drop, and process.main reads the options from it."
    ),
}


def why_refused(said: str) -> str | None:
    """Returns the usual cause of a refusal by the kernel that a runtime has printed, or None
    if it is not a known one."""
    causes = (why for pattern, why in REFUSED.items() if re.search(pattern, said))
    return next(causes, None)


def why_ended(status: int, said: str) -> str:
    """Returns why a runtime has ended with this status, after it printed `said`."""
    if status in NO_EXIT and not said:
        return ALL_REFUSED
    if why := why_refused(said):
        return why
    short = in_one_line(said)
    if short != said:
        return f"{RAISES}, {short.removeprefix('container.py: ')}"
    last = said.splitlines()[-1] if said else ""
    message = last.removeprefix("container.py: ")
    if status == 0 and not message:
        return f"{ENDS}, or with it: parent must call process.wait, and child process.execute."
    printed = f"it prints: {message}" if message else "it prints nothing"
    return f"{ENDS} (status {status}); {printed}"


def in_one_line(said: str) -> str:
    """Returns what a runtime has printed, but of a Python traceback only the last line of the
    learner's and the error: "container.py: line 12: TypeError: …"."""
    text = said.replace("\\n", "\n")  # a child's error reaches its parent in one line
    numbers = re.findall(r'File ".*container\.py", line (\d+)', text)
    if not numbers:
        return said
    return f"container.py: line {numbers[-1]}: {text.strip().splitlines()[-1]}"


def line_raised(said: str) -> str:
    """Returns the last line of the learner's in a traceback, as ", line 12", or ""."""
    lines = re.findall(r'container\.py", line (\d+)', said)
    return f", line {lines[-1]}" if lines else ""
