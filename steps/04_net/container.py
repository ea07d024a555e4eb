#!/usr/bin/python3 -S
"""Step 04: a network of its own. network_namespaces(7), veth(4), ip-link(8)."""

import os
import sys

# linux.py and process.py are in the parent directory, for my/container.py in ../steps.
# They come first, so that no other module of the same name replaces them.
# -S in the first line skips site-packages, which makes the start faster.
sys.path[:0] = [os.path.join(sys.path[0], where) for where in ("../steps", "..")]
import linux
import process

USAGE = "run [--hostname NAME] [--net bridge|none] IMAGE COMMAND..."
IMAGES = "/var/lib/workshop/rootfs"

NAMESPACES = linux.CLONE_NEWUTS | linux.CLONE_NEWIPC  # host name; message queues
NAMESPACES |= linux.CLONE_NEWPID  # process ids: the command is PID 1
NAMESPACES |= linux.CLONE_NEWNS  # the mount table
NAMESPACES |= linux.CLONE_NEWNET  # network devices, addresses, routes, ports

MOUNTS = {"/sys": "sysfs", "/tmp": "tmpfs", "/dev": "tmpfs", "/dev/pts": "devpts"}
MOUNTS |= {"/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/proc": "proc"}
OPTIONS = {"/sys": "ro", "/dev": "nosuid,mode=755", "/dev/pts": "nosuid,ptmxmode=666"}
DEVICES = "full", "null", "random", "tty", "urandom", "zero"
LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
LINKS |= {"ptmx": "pts/ptmx"}


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
        dns = linux.open_tree("/run/workshop/dns")
    enter_root("/mnt")
    if args.net != "none":
        # This is network.sh's own file. Until step 05, root inside can write to it.
        process.attach(dns, "/etc/resolv.conf")
    # The caller's session, keys, terminal and open files stay behind: isolation.py
    process.execute(args.command)


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
