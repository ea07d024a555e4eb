"""On the way into a container, and in it: what steps 00 to 10 do there, in the order that
config.json asks for. Nothing is imported here once the image is the root.
"""

import _signal as signal
import fcntl
import json
import os
import stat
import struct
import termios

import cgroups
import errors
import isolation
import kernel
import linux
import process
from spec import ATTRIBUTES, NAMESPACES, VERSION
from spec import host_id, mount_flags, sysctl_namespace
from state import described, hooks

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8)}
DEVICES |= {"urandom": (1, 9), "tty": (5, 0)}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1"}
LINKS |= {"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
ENOUGH = 1 << 16  # bytes of a message


# ---- between the host and the container: words on a socket


def tell(box, text):
    """Sends a message, which begins with a word."""
    box.channel.send(os.fsencode(text)[:ENOUGH])


def expect(box, word):
    """Waits for a message with this word. Returns the rest of it. SystemExit: it is another,
    an error, or the other end is closed because its process is dead."""
    first, _, rest = os.fsdecode(box.channel.recv(ENOUGH)).partition(" ")
    if first != word:
        raise SystemExit(rest or "the container's process has died")
    return rest


# ---- the helper, on its way in


def beget(box, function):
    """Enters what exists, clones a child into what is new, and ends. The child calls
    function(box), and sends its error if that returns."""
    new, joined = box.namespaces
    try:
        expect(box, "go")
        if function is child:
            make_devices(box)
        enter(joined)
        if new & kernel.CLONE_NEWTIME:
            kernel.unshare(kernel.CLONE_NEWTIME)  # of its children: clone3 cannot
            for clock, offset in box.config["linux"]["timeOffsets"].items():
                text = f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}"
                process.write("/proc/self/timens_offsets", text)
        pid = linux.clone(new & ~kernel.CLONE_NEWTIME)
        if pid:
            tell(box, f"pid {pid}")
            os._exit(0)
        function(box)
    except SystemExit as error:
        tell(box, f"error {error.code}")
    except BaseException as error:
        tell(box, f"error {errors.one_line(error)}")
    os._exit(1)


def make_devices(box):
    """Makes the container's device files, on a tmpfs that only this helper sees, and opens a
    tree of each. They are its own, so it may change their modes and owners, and a root
    without power over the host could not make them."""
    wanted = box.config["linux"]
    devices = {
        f"/dev/{name}": {"type": "c", "major": major, "minor": minor}
        for name, (major, minor) in DEVICES.items()
    }
    devices |= {os.path.normpath(d["path"]): d for d in wanted["devices"]}
    kinds = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "u": stat.S_IFCHR, "p": stat.S_IFIFO}
    kernel.unshare(linux.CLONE_NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", "/mnt", "tmpfs", 0, "mode=755")
    for number, (path, device) in enumerate(devices.items()):
        file = f"/mnt/{number}"
        own = os.makedev(device.get("major") or 0, device.get("minor") or 0)
        os.mknod(file, kinds[device["type"]], own)
        os.chmod(file, device.get("fileMode") or 0o666)
        ids = [
            host_id(device.get(k) or 0, wanted[f"{k}Mappings"]) for k in ("uid", "gid")
        ]
        os.chown(file, *ids)
        box.devices[path] = linux.open_tree(file)
        if path == "/dev/null":
            box.nothing = [linux.open_tree(file) for _ in wanted["maskedPaths"]]
    linux.umount("/mnt", linux.MNT_DETACH)


def enter(joined):
    """Enters namespaces of others. Some belong to the user namespace among them, so we may
    enter them only as its root; others belong to the host, so we may not any more."""
    later = []
    for descriptor, flag in sorted(
        joined, key=lambda pair: pair[1] == linux.CLONE_NEWUSER
    ):
        try:
            kernel.setns(descriptor, flag)
        except PermissionError:
            later.append((descriptor, flag))
    for descriptor, flag in later:
        kernel.setns(descriptor, flag)


# ---- in the container


def child(box):
    """Prepares the container, waits for `start`, then becomes the command."""
    expect(box, "go")  # step 05: the host has mapped our users
    isolation.leave_session()  # step 00
    become_root(box)
    if box.namespaces[0] & linux.CLONE_NEWNET:
        linux.link_up("lo")  # step 04
    set_names(box)
    own_namespace(box, "mount", "a root")
    # step 03: no mount of ours reaches the host
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    enter_root(box)
    own_terminal(box)
    program = find_program(box.process) if box.process.get("args") else None
    kept = [box.proc, box.listener.fileno(), box.channel.fileno()]
    kept += [box.supervisor.fileno()] if box.supervisor else []
    close_from(
        box.keep, set(kept)
    )  # so that the door is below any limit of descriptors
    tell(box, "ready")
    expect(box, "go")
    door, _ = box.listener._accept()
    try:
        become(box, program, kept=door)
    except BaseException as error:
        line = str(error.code) if isinstance(error, SystemExit) else None
        os.write(door, os.fsencode(line or errors.one_line(error)))


def guest(box):
    """In a container that runs: becomes the command of `exec`."""
    expect(box, "go")
    isolation.leave_session()
    become_root(box)
    own_terminal(box)
    program = find_program(box.process)
    tell(box, "ready")
    expect(box, "go")
    become(box, program, kept=box.channel.fileno())


def become_root(box):
    """Becomes root of the user namespace, if there is one: step 05."""
    if box.user:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        linux.prctl(kernel.PR_SET_DUMPABLE, 0)


def own_namespace(box, kind, what):
    """SystemExit: this namespace is the host's, so that what we are about to do to it would
    be done to the host."""
    file = f"self/ns/{NAMESPACES[kind][0]}"
    if os.stat(file, dir_fd=box.proc).st_ino == box.host[kind]:
        raise SystemExit(f"{what} is not allowed without a {kind} namespace of its own")


def set_names(box):
    """Sets host name, domain name and sysctls, each of them only in its own namespace."""
    config = box.config
    for key, call in (
        ("hostname", linux.sethostname),
        ("domainname", kernel.setdomainname),
    ):
        if config.get(key):
            own_namespace(box, "uts", key)
            call(config[key])  # step 01
    for name, value in config["linux"]["sysctl"].items():
        own_namespace(box, sysctl_namespace(name), f"sysctl {name}")
        write_proc(box, f"sys/{name.replace('.', '/')}", value)


def enter_root(box):
    """Makes the image the root, as step 03 does: everything that needs the host is opened
    before, and everything that could follow a link of the image is done after."""
    config, wanted = box.config, box.config["linux"]
    trees = []
    for place, mount in enumerate(config["mounts"]):
        tree, own = box.trees.get(place), mount_flags(mount["options"])
        if place in box.links:
            trees.append((None, mount | {"link": box.links[place]}))
            continue
        if mount["type"] == "cgroup" and not box.namespaces[0] & linux.CLONE_NEWCGROUP:
            tree = linux.open_tree(cgroups.TOP + (box.cgroup or ""))
        elif tree is None:
            kind = {"cgroup": "cgroup2"}.get(mount["type"], mount["type"])
            data = [f"source={mount['source'] or kind}", *own.superblock, *own.data]
            tree = linux.fsmount(kind, ",".join(data))
        if not own.all_propagation and own.propagation in (0, linux.MS_PRIVATE):
            # Otherwise what is mounted below a directory of the host's is still shared.
            kernel.mount_setattr(tree, propagation=linux.MS_PRIVATE, recursive=True)
        kernel.mount_setattr(tree, own.on, own.off, own.propagation)
        if own.all_on or own.all_off or own.all_propagation:
            how = own.all_on, own.all_off, own.all_propagation
            kernel.mount_setattr(tree, *how, recursive=True)
        trees.append((tree, mount))
    linux.move_mount(box.root, "/mnt")
    os.chdir("/mnt")
    tell(box, "mounting")
    expect(box, "go")
    hooks(box, "createContainer", "creating")
    linux.pivot_root(".", ".")
    linux.umount(".", linux.MNT_DETACH)
    os.chdir("/")
    for tree, mount in trees:
        attach(tree, mount)
    for path, tree in box.devices.items():
        if not os.path.lexists(path):
            process.attach(tree, path)
    for name, target in LINKS.items():
        if os.path.isdir("/dev") and not os.path.lexists(f"/dev/{name}"):
            os.symlink(target, f"/dev/{name}")
    os.makedirs(box.process["cwd"], exist_ok=True)
    for path in filter(os.path.exists, wanted["readonlyPaths"]):
        tree = kernel.open_tree(path, recursive=True)
        kernel.mount_setattr(tree, on=ATTRIBUTES["ro"][0], recursive=True)
        process.attach(tree, path)
    for path in filter(os.path.exists, wanted["maskedPaths"]):
        if os.path.isdir(path):
            process.attach(linux.fsmount("tmpfs", "ro"), path)
        else:
            process.attach(box.nothing.pop(), path)
    how = {"shared": kernel.MS_SHARED, "unbindable": kernel.MS_UNBINDABLE}
    if flag := how.get(wanted["rootfsPropagation"].removeprefix("r")):
        linux.mount(None, "/", None, flag)
    if config["root"]["readonly"]:
        kernel.mount_setattr(os.open("/", os.O_PATH), on=ATTRIBUTES["ro"][0])


def attach(tree, mount):
    """Attaches a mount of config.json at its place inside."""
    path, words = mount["destination"], mount["options"]
    if tree is None:  # the option copy-symlink
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.islink(path) or os.readlink(path) != mount["link"]:
            os.symlink(mount["link"], path)
        return
    before = os.stat(path) if os.path.isdir(path) else None
    if "tmpcopyup" in words and before:
        copy_into(tree, path)
    process.attach(tree, path)
    if mount["type"] == "tmpfs" and before and "mode=" not in ",".join(words):
        os.chmod(path, stat.S_IMODE(before.st_mode))  # as the image has it
    os.close(tree)


def copy_into(tree, path):
    """Copies a directory of the image into a mount that will cover it. What is mounted there,
    such as /proc if the directory is a link to the root, is not the image's, and has no end."""
    os.fchdir(tree)
    device = os.stat(path).st_dev
    for top, directories, files in os.walk(path):
        for name in [*directories, *files]:
            source, target = f"{top}/{name}", os.path.relpath(f"{top}/{name}", path)
            about = os.lstat(source)
            if stat.S_ISDIR(about.st_mode) and about.st_dev != device:
                directories.remove(name)
                continue
            if stat.S_ISLNK(about.st_mode):
                os.symlink(os.readlink(source), target)
            elif stat.S_ISDIR(about.st_mode):
                os.mkdir(target)
            elif stat.S_ISREG(about.st_mode):
                with open(source, "rb") as old, open(target, "wb") as new:
                    while piece := old.read(1 << 20):
                        new.write(piece)
            else:
                continue
            os.chown(target, about.st_uid, about.st_gid, follow_symlinks=False)
            if not stat.S_ISLNK(about.st_mode):
                os.chmod(target, stat.S_IMODE(about.st_mode))
    os.chdir("/")


def own_terminal(box):
    """Gets a terminal of the container's own, and sends its other end out: pty(7)."""
    if not box.console:
        return
    ours, own = os.openpty()
    if size := box.process.get("consoleSize"):
        words = struct.pack("4H", size["height"], size["width"], 0, 0)
        fcntl.ioctl(own, termios.TIOCSWINSZ, words)
    name = os.ttyname(own)
    process._send(box.console, name.encode(), [ours])
    os.close(ours)
    if box.process is box.config["process"]:
        process.attach(linux.open_tree(name), "/dev/console")
    os.fchown(own, box.process["user"]["uid"], -1)
    os.login_tty(own)


def find_program(wanted):
    """Returns the path of the command, which its PATH names. SystemExit: there is none, or it
    cannot be executed; the words are those that podman turns into statuses 127 and 126."""
    command = wanted["args"][0]
    path = environment(wanted).get("PATH", "")
    os.chdir(wanted["cwd"])
    found = None
    for place in [""] if "/" in command else path.split(":"):
        program = os.path.join(place, command)
        if os.path.isfile(program):
            if os.access(program, os.X_OK):
                return program
            found = program
    if found:
        raise SystemExit(f"exec {found}: permission denied")
    reason = "no such file or directory" if "/" in command else "not found in $PATH"
    kind = "" if "/" in command else "executable file "
    raise SystemExit(f"exec {command}: {kind}{reason}")


def environment(wanted):
    """Returns the command's environment. HOME is what the image says of the user."""
    variables = dict(pair.partition("=")[::2] for pair in wanted.get("env") or ())
    if not variables.get("HOME"):
        user = process.find_user(str(wanted["user"]["uid"]))  # step 08
        variables["HOME"] = user.home
    return variables


def become(box, program, kept):
    """Gives up what the command is not to have, and becomes it. Returns only by an error.

    kept: a descriptor for that error. It is closed when the command begins.
    """
    wanted, user, variables = box.process, box.process["user"], environment(box.process)
    if not program:
        raise SystemExit("config.json has no process")
    if count := os.environ.get("LISTEN_FDS"):  # sockets of systemd's: sd_listen_fds(3)
        box.keep = max(box.keep, 3 + int(count))
        variables |= {"LISTEN_FDS": count, "LISTEN_PID": "1"}
    if label := wanted.get("apparmorProfile"):
        write_proc(box, "self/attr/apparmor/exec", f"exec {label}")
    if label := wanted.get("selinuxLabel"):
        write_proc(box, "self/attr/exec", label)
    if domain := (box.config["linux"]["personality"] or {}).get("domain"):
        kernel.personality({"LINUX": 0, "LINUX32": 8}[domain])
    own = box.supervisor.fileno() if box.supervisor else kept
    pid = os.readlink("self", dir_fd=box.proc)
    close_from(
        box.keep, {kept, own}
    )  # step 00: an open directory of the host is a way out
    given = wanted.get("capabilities") or {}
    kinds = "bounding effective permitted inheritable ambient".split()
    sets = {kind: kernel.known(given.get(kind) or []) for kind in kinds}
    kernel.limit_capabilities(sets["bounding"], box.last)  # step 09
    linux.prctl(linux.PR_SET_KEEPCAPS, 1)
    os.umask(user.get("umask", 0o022))
    if box.config["annotations"].get("run.oci.keep_original_groups", "0") == "0":
        os.setgroups(user.get("additionalGids") or [])
    os.setresgid(*[user["gid"]] * 3)
    os.setresuid(*[user["uid"]] * 3)
    os.chdir(wanted["cwd"])
    os.getcwd()  # fails if it is outside: CVE-2024-21626
    for number in signal.SIGPIPE, signal.SIGXFSZ:
        signal.signal(number, signal.SIG_DFL)
    if wanted.get("noNewPrivileges"):
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    else:  # only root may load a filter without it, so load it before
        linux.capset(kernel.permitted(), kernel.permitted(), ())
        load_filter(box, pid)  # step 10
    # What cannot be granted is left out: config.md, Linux Process.
    sets = {kind: names & kernel.permitted() for kind, names in sets.items()}
    most = sets["permitted"]
    linux.capset(sets["effective"] & most, most, sets["inheritable"])
    kernel.raise_ambient(sets["ambient"] & most & sets["inheritable"])
    if box.process is box.config["process"]:
        hooks(box, "startContainer", "created")
    if wanted.get("noNewPrivileges"):
        load_filter(box, pid)
    os.execve(program, wanted["args"], variables)


def load_filter(box, pid):
    """Loads the filter of system calls. If it has a supervisor, sends its descriptor there."""
    program, flags = box.filter
    descriptor = kernel.load_filter(program, flags) if program else 0
    if descriptor and box.supervisor:
        box.pid = int(pid)
        text = {"ociVersion": VERSION, "fds": ["seccompFd"], "pid": box.pid}
        text["metadata"] = box.config["linux"]["seccomp"].get("listenerMetadata", "")
        text["state"] = described(box, "creating")
        process._send(box.supervisor, json.dumps(text).encode(), [descriptor])


def write_proc(box, path, text):
    """Writes to a file of the host's /proc, because the one here could be the image's."""
    descriptor = os.open(path, os.O_WRONLY, dir_fd=box.proc)
    try:
        os.write(descriptor, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"{path}: {text}") from None
    os.close(descriptor)


def close_from(first, kept):
    """Closes all descriptors from the first on, except those kept: close_range(2)."""
    for descriptor in sorted(number for number in kept if number >= first):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 2**31 - 1)
