#!/usr/bin/python3 -S
"""Step 07: a stack of layers for a filesystem. mount(2), filesystems/overlayfs."""

import os
import sys

# linux.py and process.py: a floor up from here, or next door for my/container.py. The -S
# above leaves out what is installed besides: a quicker start.
sys.path += [os.path.join(sys.path[0], where) for where in ("..", "../steps")]
import linux
import process

USAGE = "run [--hostname NAME] [--net bridge|none]"
USAGE += " [--memory SIZE] [--pids COUNT] [--cpus CPUS] IMAGE COMMAND..."
BY_ROOT = os.geteuid() == 0  # or by an ordinary user, who has one id to give
STATE = "/var/lib/workshop" if BY_ROOT else os.path.expanduser("~/.workshop")

CGROUPS = "/sys/fs/cgroup/workshop"

NAMESPACES = linux.CLONE_NEWUTS | linux.CLONE_NEWIPC  # host name; message queues
NAMESPACES |= linux.CLONE_NEWPID  # process ids: the command is PID 1
NAMESPACES |= linux.CLONE_NEWNS  # the mount table
NAMESPACES |= linux.CLONE_NEWNET  # network devices, addresses, routes, ports
NAMESPACES |= linux.CLONE_NEWUSER  # users, groups and what root may do
NAMESPACES |= linux.CLONE_NEWCGROUP  # its cgroup looks like the root of them all

MOUNTS = {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}
MOUNTS |= {"/dev/mqueue": "mqueue", "/tmp": "tmpfs", "/sys/fs/cgroup": "cgroup2"}
OPTIONS = {"/dev": "mode=755", "/dev/pts": "ptmxmode=666"}
LINKS = "fd=/proc/self/fd stdin=fd/0 stdout=fd/1 stderr=fd/2 ptmx=pts/ptmx"


def parent(args):
    """On the host: starts the container and waits for its end. Returns its status."""
    layers = [args.image]
    if "/" not in args.image:
        layers = process.read(f"{STATE}/images/{args.image}").splitlines()
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
    if args.memory and "oom_kill 0" not in process.read(f"{cgroup}/memory.events"):
        process.complain(f"killed by the kernel: out of memory, limit {args.memory}")
    return status


def child(args):
    """In the container: prepares it, then becomes the command."""
    # Nothing that we mount, or unmount at the end, may reach the host's table.
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)  # ours stay ours
    # A tree is a mount that is attached nowhere yet. By root: the parent's, with the map
    # applied. By a user: one of our own, since the files are theirs anyway.
    trees = process.await_parent() or [linux.open_tree(p) for p in args.paths]
    if BY_ROOT:
        os.setgroups([])  # the caller's, such as disk; a user may not drop theirs
    os.setgid(0)
    os.setuid(0)
    linux.link_up("lo")
    linux.sethostname(args.hostname or "container")
    stack(trees)
    if args.net != "none":
        # network.sh's own file, not a copy: until step 05 root inside can write to it.
        linux.mount("/run/workshop/dns", "/mnt/etc/resolv.conf", None, linux.MS_BIND)
    enter_root("/mnt")
    process.execute(args.command)


def enter_root(root):
    """In the container: root, a mount point, becomes /, and the host's tree is gone."""
    os.chdir("/dev")  # the host's, in reach by relative paths even when / is another
    linux.pivot_root(root, root)  # the host is at /.. until the umount
    linux.mount("sysfs", "/sys", "sysfs", linux.MS_RDONLY)
    for target, kind in MOUNTS.items():
        os.makedirs(target, exist_ok=True)
        linux.mount(kind, target, kind, linux.MS_NOSUID, OPTIONS.get(target))
    for device in "full", "null", "random", "tty", "urandom", "zero":
        open(f"/dev/{device}", "x").close()
        linux.mount(device, f"/dev/{device}", None, linux.MS_BIND)
    for name, target in (link.split("=") for link in LINKS.split()):
        os.symlink(target, f"/dev/{name}")
    linux.umount("/", linux.MNT_DETACH)
    os.chdir("/")


def connect(pid):
    """On the host: lays a cable from the bridge that network.sh made to eth0 inside."""
    cable = f"veth{pid} up master workshop0 type veth peer name eth0 netns {pid}"
    process.run(f"ip link add {cable}", hint="as root after sudo steps/network.sh on")
    address = f"100.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"  # 100.64.0.0 + pid
    setup = f"link set eth0 up\naddress add {address}/10 dev eth0\n"
    setup += "route add default via 100.64.0.1"
    process.run(f"nsenter -t {pid} -n ip -batch -", input=setup)


def map_users(pid):
    """On the host: says which of our users the container's users 0, 1, 2... are."""
    process.write(f"/proc/{pid}/setgroups", "allow" if BY_ROOT else "deny")
    for file, own in ("uid_map", os.getuid()), ("gid_map", os.getgid()):
        # First id inside, first id outside, how many.
        ids = "0 100000 65536" if BY_ROOT else f"0 {own} 1"
        process.write(f"/proc/{pid}/{file}", ids)


def limit(args):
    """On the host: makes the cgroup that the container is born in. Returns its path."""
    controllers, hint = "+cpu +memory +pids", "limits need root and cgroup v2"
    process.write("/sys/fs/cgroup/cgroup.subtree_control", controllers, hint)
    cgroup = process.temporary_directory(CGROUPS, os.rmdir, mode=0o755)
    process.write(f"{CGROUPS}/cgroup.subtree_control", controllers)
    quota = f"{float(args.cpus or 0) * 100000:.0f} 100000"
    limits = {"memory.max": args.memory, "memory.swap.max": args.memory and "0"}
    limits |= {"pids.max": args.pids, "cpu.max": args.cpus and quota}
    for file, value in limits.items():
        process.write(f"{cgroup}/{file}", value or "max")
    return cgroup


def stack(trees):
    """In the container: trees[1:] become layers, the first on top, trees[0] the box."""
    for tree in trees:
        linux.move_mount(tree, "/mnt")  # covers the one before, still open by number
    box, *layers = [f"/proc/self/fd/{tree}" for tree in trees]
    options = f"lowerdir={':'.join(layers)},upperdir={box}/upper,workdir={box}/work"
    linux.mount("overlay", "/mnt", "overlay", 0, f"{options},userxattr")


if __name__ == "__main__":
    process.main(parent, USAGE)
