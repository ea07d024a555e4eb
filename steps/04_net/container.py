#!/usr/bin/python3 -S
"""Step 04: a network of its own. network_namespaces(7), veth(4), ip-link(8)."""

import os
import sys

# linux.py and process.py are in the parent directory, for my/container.py in ../steps.
# -S in the first line skips site-packages, which makes the start faster.
sys.path += [os.path.join(sys.path[0], where) for where in ("..", "../steps")]
import linux
import process

USAGE = "run [--hostname NAME] [--net bridge|none] IMAGE COMMAND..."
IMAGES = "/var/lib/workshop/rootfs"

NAMESPACES = linux.CLONE_NEWUTS | linux.CLONE_NEWIPC  # host name; message queues
NAMESPACES |= linux.CLONE_NEWPID  # process ids: the command is PID 1
NAMESPACES |= linux.CLONE_NEWNS  # the mount table
NAMESPACES |= linux.CLONE_NEWNET  # network devices, addresses, routes, ports

MOUNTS = {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}
MOUNTS |= {"/dev/mqueue": "mqueue", "/tmp": "tmpfs"}
OPTIONS = {"/dev": "mode=755", "/dev/pts": "ptmxmode=666"}
LINKS = "fd=/proc/self/fd stdin=fd/0 stdout=fd/1 stderr=fd/2 ptmx=pts/ptmx"


def parent(args):
    """On the host: starts the container and waits for its end. Returns its status."""
    args.image = args.image if "/" in args.image else f"{IMAGES}/{args.image}"
    container = process.start(child, args, flags=NAMESPACES)
    if args.net != "none":
        connect(container.pid)
    return process.wait(container)


def child(args):
    """In the container: prepares it, then becomes the command."""
    # Nothing that we mount, or unmount at the end, may reach the host's mount table.
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)  # no propagation
    process.await_parent()
    linux.link_up("lo")
    linux.sethostname(args.hostname or "container")
    linux.mount(args.image, "/mnt", None, linux.MS_BIND)
    if args.net != "none":
        # This is network.sh's own file. Until step 05, root inside can write to it.
        linux.mount("/run/workshop/dns", "/mnt/etc/resolv.conf", None, linux.MS_BIND)
    enter_root("/mnt")
    # The caller's session, keys, terminal and open files stay behind: isolation.py
    process.execute(args.command)


def enter_root(root):
    """In the container: makes root, a mount point, the new /, and detaches the host."""
    os.chdir("/dev")  # keeps the host's devices in reach, by relative paths
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
    """On the host: connects eth0 inside to the bridge that network.sh made."""
    cable = f"veth{pid} up master workshop0 type veth peer name eth0 netns {pid}"
    process.run(f"ip link add {cable}", hint="as root after sudo steps/network.sh on")
    a, b, *_ = process.read("/run/workshop/pool").split(".")  # such as 100.64.0.0/10
    address = f"{a}.{int(b) + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}/10"  # + pid
    setup = f"link set eth0 up\naddress add {address} dev eth0\nroute add default via "
    process.run(f"nsenter -t {pid} -n ip -batch -", input=setup + f"{a}.{b}.0.1")


if __name__ == "__main__":
    process.main(parent, USAGE)
