#!/usr/bin/python3 -S
"""Step 10: a filter for system calls. seccomp(2), bpf(4)."""

import os
import sys

# linux.py and process.py are in the parent directory, for my/container.py in ../steps.
# They come first, so that no other module of the same name replaces them.
# -S in the first line skips site-packages, which makes the start faster.
sys.path[:0] = [os.path.join(sys.path[0], where) for where in ("../steps", "..")]
import linux
import process

USAGE = "run [--hostname NAME] [--net bridge|none]"
USAGE += " [--memory SIZE] [--pids COUNT] [--cpus CPUS]"
USAGE += " [--cap-add CAPABILITY,...] [--cap-drop CAPABILITY,...] IMAGE [COMMAND...]"
BY_ROOT = os.geteuid() == 0  # otherwise a user, who may map only their own id
STATE = "/var/lib/workshop" if BY_ROOT else os.path.expanduser("~/.workshop")

CGROUPS = "/sys/fs/cgroup/workshop"

NAMESPACES = linux.CLONE_NEWUTS | linux.CLONE_NEWIPC  # host name; message queues
NAMESPACES |= linux.CLONE_NEWPID  # process ids: the command is PID 1
NAMESPACES |= linux.CLONE_NEWNS  # the mount table
NAMESPACES |= linux.CLONE_NEWNET  # network devices, addresses, routes, ports
NAMESPACES |= linux.CLONE_NEWUSER  # users, groups and what root may do
NAMESPACES |= linux.CLONE_NEWCGROUP  # its own cgroup looks like the root cgroup

# What root inside may do, as far as its namespaces reach: the list of Podman.
CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"}
CAPABILITIES |= {"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}

# System calls that need a capability: whoever lacks it is refused. Those of "" nobody has.
REFUSED = {"": ["add_key", "keyctl", "request_key", "migrate_pages", "move_pages"]}
REFUSED[""] += ["io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"]
REFUSED[""] += ["kexec_load", "kexec_file_load", "swapon", "swapoff"]
REFUSED["SYS_ADMIN"] = ["mount", "umount2", "pivot_root", "fsopen", "fspick", "fsmount"]
REFUSED["SYS_ADMIN"] += ["fsconfig", "open_tree", "move_mount", "mount_setattr"]
REFUSED["SYS_ADMIN"] += ["setns", "unshare", "sethostname", "setdomainname"]
REFUSED["SYS_ADMIN"] += ["quotactl", "quotactl_fd", "fanotify_init"]
REFUSED |= {"BPF": ["bpf"], "PERFMON": ["perf_event_open"], "SYSLOG": ["syslog"]}
REFUSED |= {"SYS_MODULE": ["init_module", "finit_module", "delete_module"]}
REFUSED |= {"SYS_TIME": ["settimeofday", "clock_settime"], "SYS_PACCT": ["acct"]}
REFUSED |= {"SYS_PTRACE": ["kcmp", "process_madvise"], "SYS_CHROOT": ["chroot"]}
REFUSED |= {"DAC_READ_SEARCH": ["open_by_handle_at"], "SYS_TTY_CONFIG": ["vhangup"]}
REFUSED |= {"SYS_BOOT": ["reboot"]}
# A filter's instructions, the offsets that it loads from, and its answers: seccomp(2).
LOAD, EQUAL, GREATER, ANY_BIT, RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000

MOUNTS = {"/sys": "sysfs", "/tmp": "tmpfs", "/dev": "tmpfs", "/dev/pts": "devpts"}
MOUNTS |= {"/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/proc": "proc"}
MOUNTS |= {"/sys/fs/cgroup": "cgroup2"}
OPTIONS = {"/sys": "ro", "/dev": "nosuid,mode=755", "/dev/pts": "nosuid,ptmxmode=666"}
DEVICES = "full", "null", "random", "tty", "urandom", "zero"
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
LINKS |= {"ptmx": "pts/ptmx"}
# No namespace covers these: they are about the machine, or are the same for all.
MASKED = ["/proc/acpi", "/proc/asound", "/proc/cmdline", "/proc/interrupts"]
MASKED += ["/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug"]
MASKED += ["/proc/scsi", "/proc/timer_list", "/sys/dev/block", "/sys/firmware"]
MASKED += ["/sys/devices/virtual/powercap", "/sys/fs/selinux"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def parent(args):
    """On the host: starts the container and waits for its end. Returns its status."""
    layers = [args.image]
    if "/" not in args.image:
        layers = process.read_lines(f"{STATE}/images/{args.image}", most=228)
    args.config = config_of(args.image)
    args.command = args.command or args.config.get("Cmd") or []
    args.command = (args.config.get("Entrypoint") or []) + args.command
    if not args.command:
        raise SystemExit("the image names no command: type one after its name")
    if both := args.cap_add & args.cap_drop:
        raise SystemExit(f"--cap-add and --cap-drop both name {min(both)}")
    if "ALL" in args.cap_add:
        args.cap_add = {*linux.CAP}
    kept = set() if "ALL" in args.cap_drop else CAPABILITIES
    args.capabilities = (kept | args.cap_add) - args.cap_drop
    box = process.temporary_directory(f"{STATE}/containers", process.remove_tree)
    os.mkdir(f"{box}/upper")
    os.mkdir(f"{box}/work")
    args.paths = [box, *layers]
    args.net = args.net or ("bridge" if BY_ROOT else "none")
    cgroup = limit(args) if args.memory or args.pids or args.cpus else None
    container = process.start(child, args, flags=NAMESPACES, cgroup=cgroup)
    map_users(container.pid)
    if args.net != "none":
        connect(container.pid)
    trees = [linux.idmapped(p, container.pid) for p in args.paths if BY_ROOT]
    status = process.wait(container, trees)
    if args.memory and process.read_counts(f"{cgroup}/memory.events")["oom_kill"]:
        process.complain(f"killed by the kernel: out of memory, limit {args.memory}")
    return status


def config_of(image):
    """On the host: returns what an image says about its command, if it was pulled."""
    if "/" in image or not os.path.exists(f"{STATE}/origins/{image}"):
        return {}
    manifest = read_blob(process.read_json(f"{STATE}/origins/{image}")["manifest"])
    return read_blob(manifest["config"]).get("config") or {}


def read_blob(descriptor):
    """On the host: returns the JSON text that a descriptor names by its digest."""
    return process.read_json(f"{STATE}/blobs/{descriptor['digest'].replace(':', '/')}")


def child(args):
    """In the container: prepares it, then becomes the command."""
    # Nothing that we mount, or unmount at the end, may reach the host's mount table.
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)  # no propagation
    # If root started us, the parent has made trees with the map applied. A user owns the
    # files, so plain trees will do.
    trees = process.await_parent() or [linux.open_tree(p) for p in args.paths]
    if BY_ROOT:
        os.setgroups([])  # drops the caller's, such as disk; only root may
    os.setgid(0)
    os.setuid(0)
    linux.link_up("lo")
    linux.sethostname(args.hostname or "container")
    stack(trees)
    if args.net != "none":
        dns = linux.open_tree("/run/workshop/dns")
    enter_root("/mnt")
    if args.net != "none":
        # This is network.sh's own file. Until step 05, root inside can write to it.
        process.attach(dns, "/etc/resolv.conf")
    # A link in /proc/self/fd must not lead to the layers, or to the caller's directories.
    directory = os.path.realpath(args.config.get("WorkingDir") or "/")
    os.makedirs(directory, exist_ok=True)
    os.chdir(directory)
    user = process.find_user(args.config.get("User") or "0")
    variables = {"HOME": user.home}
    for variable in args.config.get("Env") or []:
        name, _, variables[name] = variable.partition("=")
    for name in linux.CAP.keys() - args.capabilities:
        linux.prctl(linux.PR_CAPBSET_DROP, linux.CAP[name])  # no program brings it back
    linux.prctl(linux.PR_SET_KEEPCAPS, 1)  # otherwise setuid would take away all
    if BY_ROOT:
        os.setgroups(user.groups)
    os.setgid(user.gid)
    os.setuid(user.uid)
    kept = args.capabilities if user.uid == 0 else args.capabilities & args.cap_add
    linux.capset(kept, kept, kept if user.uid else [])
    for name in kept if user.uid else []:  # root's programs need no ambient set
        linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, linux.CAP[name])
    linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)  # and no set-user-ID program either
    linux.seccomp(filter_for(args.capabilities))
    # The caller's session, keys, terminal and open files stay behind: isolation.py
    process.execute(args.command, variables)


def enter_root(root):
    """In the container: makes root, a mount point, the new /, and detaches the host."""
    # Trees are mounts that are attached nowhere yet. The kernel makes /proc and /sys only
    # while the host's are in sight, but then a link in the image could lead to the host.
    trees = {p: linux.fsmount(fs, OPTIONS.get(p, "nosuid")) for p, fs in MOUNTS.items()}
    trees |= {f"/dev/{name}": linux.open_tree(f"/dev/{name}") for name in DEVICES}
    linux.pivot_root(root, root)  # the host is at /.. until the umount
    linux.umount("/", linux.MNT_DETACH)
    os.chdir("/")
    for path, tree in trees.items():
        process.attach(tree, path)
    for name, target in LINKS.items():
        os.symlink(target, f"/dev/{name}")
    for path in filter(os.path.exists, MASKED):
        if os.path.isdir(path):
            process.attach(linux.fsmount("tmpfs", "ro"), path)
        else:
            process.attach(linux.open_tree("/dev/null"), path)
    for path in filter(os.path.exists, READ_ONLY):
        process.attach(linux.open_tree(path, "ro"), path)


def filter_for(capabilities):
    """In the container: returns the program that answers each system call from now on."""
    # An instruction: its code, how many to skip if yes, how many if no, and an operand.
    program = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, linux.AUDIT_ARCH)]
    program += [(RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    program += [(GREATER, 0, 1, linux.SYSCALL["fchmodat2"]), (RETURN, 0, 0, ENOSYS)]
    for capability in REFUSED.keys() - capabilities:
        for name in REFUSED[capability]:
            program += [(EQUAL, 0, 1, linux.SYSCALL[name]), (RETURN, 0, 0, EPERM)]
    if "SYS_ADMIN" not in capabilities:
        # clone3 has its flags in memory, where no filter can look. Libraries then use clone.
        program += [(EQUAL, 0, 1, linux.SYSCALL["clone3"]), (RETURN, 0, 0, ENOSYS)]
        program += [(EQUAL, 0, 3, linux.SYSCALL["clone"]), (LOAD, 0, 0, FIRST_ARGUMENT)]
        program += [(ANY_BIT, 0, 1, NAMESPACES), (RETURN, 0, 0, EPERM)]
    return [*program, (RETURN, 0, 0, ALLOW)]


def connect(pid):
    """On the host: connects eth0 inside to the bridge that network.sh made."""
    cable = f"veth{pid} up master workshop0 type veth peer name eth0 netns {pid}"
    process.run(f"ip link add {cable}", hint="as root after sudo steps/network.sh on")
    a, b, *_ = process.read("/run/workshop/pool").split(".")  # such as 100.64.0.0/10
    address = f"{a}.{int(b) + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}/10"  # + pid
    setup = f"link set eth0 up\naddress add {address} dev eth0\nroute add default via "
    process.run(f"nsenter -t {pid} -n ip -batch -", input=setup + f"{a}.{b}.0.1")


def map_users(pid):
    """On the host: maps the container's users 0, 1, 2... to users of the host."""
    process.write(f"/proc/{pid}/setgroups", "allow" if BY_ROOT else "deny")
    for file, own in ("uid_map", os.getuid()), ("gid_map", os.getgid()):
        # First id inside, first id outside, how many.
        ids = "0 100000 65536" if BY_ROOT else f"0 {own} 1"
        process.write(f"/proc/{pid}/{file}", ids)


def limit(args):
    """On the host: makes the cgroup that the container is born in. Returns its path."""
    controllers = "+cpu +memory +pids"
    process.write("/sys/fs/cgroup/cgroup.subtree_control", controllers)
    cgroup = process.temporary_directory(CGROUPS, os.rmdir, mode=0o755)
    process.write(f"{CGROUPS}/cgroup.subtree_control", controllers)
    quota = f"{float(args.cpus or 0) * 100000:.0f} 100000"
    limits = {"memory.max": args.memory, "memory.swap.max": args.memory and "0"}
    limits |= {"pids.max": args.pids, "cpu.max": args.cpus and quota}
    for file, value in limits.items():
        process.write(f"{cgroup}/{file}", value or "max")
    return cgroup


def stack(trees):
    """In the container: stacks trees[1:], the first on top; trees[0] takes writes."""
    for tree in trees:
        linux.move_mount(tree, "/mnt")  # hides the tree before, which is still open
    box, *layers = [f"/proc/self/fd/{tree}" for tree in trees]
    options = f"lowerdir={':'.join(layers)},upperdir={box}/upper,workdir={box}/work"
    linux.mount("overlay", "/mnt", "overlay", 0, f"{options},userxattr")


if __name__ == "__main__":
    process.main(parent, USAGE)
