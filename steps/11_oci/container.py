#!/usr/bin/python3 -SE
"""Step 11: the command line of an OCI runtime, so that podman and others start containers with
it. runtime-spec, runtime.md and config.md; podman --runtime PATH/container.py run IMAGE

A container's life here is three commands: `create` does what steps 01 to 10 do, and stops short
of the last line, which becomes the command; `start` lets that happen; `delete` tidies up. In
between, a directory with a state.json and a socket is all that is known of the container.
"""

import _signal as signal
import _socket as socket
import json
import os
import stat
import sys
import time
import types

sys.path[:0] = [os.path.join(sys.path[0], where) for where in ("../steps", "..")]
import cgroups
import errors
import isolation
import kernel
import linux
import process
from spec import ATTRIBUTES, NAMESPACES, VERSION
from spec import checked, features, host_id, map_lines, mount_flags, sysctl_namespace

VALUES = "--root --log --log-format --cgroup-manager --bundle --config --pid-file --process"
VALUES += " --console-socket --preserve-fds --cwd --user --env --cap --resources --cgroup"
VALUES += " --rootless --criu --apparmor --process-label"
FLAGS = "--systemd-cgroup --debug --version --help --force --all --detach --tty --keep"
FLAGS += " --no-new-privs --no-pivot --no-new-keyring --no-subreaper --regex"
SHORT = {"-b": "--bundle", "-f": "--force", "-a": "--all", "-d": "--detach", "-t": "--tty"}
SHORT |= {"-p": "--process", "-e": "--env", "-u": "--user", "-c": "--cap"}
SHORT |= {"-r": "--resources", "-v": "--version", "-h": "--help"}
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8)}
DEVICES |= {"urandom": (1, 9), "tty": (5, 0)}
LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1"}
LINKS |= {"stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx"}
ENOUGH = 1 << 16  # bytes of a message


def main():
    """Parses the command line and calls the command. An error is one line and status 1."""
    options = {"--root": "/run/workshop-oci", "--env": [], "--cap": []}
    try:
        command, *words = parse(options, iter(sys.argv[1:]))
        if command not in COMMANDS:
            raise SystemExit(f"unknown command {command!r}: {' '.join(COMMANDS)}")
        if command not in ("features", "list", "version") and not words:
            raise SystemExit(f"{command} needs the ID of a container")
        if command in ("create", "run", "exec"):
            hide_program()
        sys.exit(COMMANDS[command](options, *words))
    except (OSError, ValueError, LookupError, TypeError) as error:
        line = errors.one_line(error)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            raise
        line = str(error.code)
    errors.complain(line)
    if "--log" in options:  # podman shows it to the user
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        entry = json.dumps({"level": "error", "msg": line, "time": now})
        if options.get("--log-format") != "json":
            entry = f"time={json.dumps(now)} level=error msg={json.dumps(line)}"
        with open(options["--log"], "a") as file:
            print(entry, file=file)
    sys.exit(1)


def parse(options, words):
    """Adds options to a dict. Returns the other words; all after `exec ID` are a command."""
    found = []
    for word in words:
        name, equals, value = word.partition("=")
        name = SHORT.get(name, name)
        if not word.startswith("-"):
            found.append(word)
        elif name in VALUES.split():
            value = value if equals else next(words, "")
            options[name] = (
                [*options[name], value] if name in ("--env", "--cap") else value
            )
        elif name in FLAGS.split():
            options[name] = True
        else:
            raise SystemExit(f"unknown option {word}")
        if found[:1] == ["exec"] and len(found) == 2:
            return [*found, *words]
    if "--version" in options:
        return ["version"]
    return found or ["help"]


def hide_program():
    """Starts this program again, from a view of Python that is read-only and has no path.

    Until it becomes the command, this process is in the container, where /proc/PID/exe is a
    way to the host's own Python, which root inside could overwrite: CVE-2019-5736.
    """
    if not os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        python = linux.open_tree("/proc/self/exe")
        kernel.mount_setattr(python, on=ATTRIBUTES["ro"][0])
        flags = ["-SE", sys.argv[0], *sys.argv[1:]]
        os.execv(f"/proc/self/fd/{python}", [sys.executable, *flags])
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # nor may anybody look into our memory


# ---- what is known of a container: a file, and what the kernel says of its first process


def directory(options, name):
    """Returns a container's directory. SystemExit: the ID cannot be a file's name."""
    for character in name:
        if not (character.isascii() and (character.isalnum() or character in "_+-.")):
            raise SystemExit(f"invalid character `{character}` in the ID")
    if name in ("", ".", ".."):
        raise SystemExit(f"{name!r} cannot be the ID of a container")
    return f"{options['--root']}/{name}"


def load(options, name):
    """Returns what is known of a container. SystemExit: there is none."""
    try:
        text = process.read(f"{directory(options, name)}/state.json")
        return types.SimpleNamespace(**json.loads(text))
    except FileNotFoundError:
        raise SystemExit(f"container {name} does not exist") from None


def save(box):
    """Writes what the commands after this one must know of the container."""
    names = "name bundle pid born created cgroup manager config".split()
    with open(f"{box.place}/new", "w") as file:
        json.dump({"place": box.place, **{k: getattr(box, k) for k in names}}, file)
    os.rename(f"{box.place}/new", f"{box.place}/state.json")


def born(pid):
    """Returns when a process began, which tells it from others with its pid; None: dead."""
    try:
        fields = process.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        return None


def status(box):
    """Returns the word that runtime.md has for the state of a container."""
    if born(box.pid) != box.born:
        return "stopped"
    if os.path.exists(f"{box.place}/start"):
        return "created"
    return "paused" if box.cgroup and cgroups.frozen(box.cgroup) else "running"


def described(box, word):
    """Returns a container's state as `state` prints it and as hooks read it."""
    text = {"ociVersion": VERSION, "id": box.name, "status": word, "bundle": box.bundle}
    if word != "stopped":
        text["pid"] = box.pid
    text["rootfs"] = os.path.join(box.bundle, box.config["root"]["path"])
    text["created"] = box.created
    return text | {"annotations": box.config["annotations"]}


def hooks(box, kind, word):
    """Calls the hooks of a kind, with the state on stdin. SystemExit: one fails."""
    for hook in box.config["hooks"].get(kind) or ():
        import subprocess  # 20 ms; create() has imported it if the container needs it

        words = hook.get("args") or [hook["path"]]
        variables = hook.get("env")
        if variables is not None:
            variables = dict(pair.split("=", 1) for pair in variables)
        done = subprocess.run(
            words,
            executable=hook["path"],
            env=variables,
            input=json.dumps(described(box, word)).encode(),
            timeout=hook.get("timeout"),
            stdout=subprocess.DEVNULL if kind == "startContainer" else None,
        )
        if done.returncode:
            raise SystemExit(f"{kind} hook {hook['path']}: status {done.returncode}")


def hooks_that_may_fail(box, kind, word):
    """Calls the hooks of a kind; a failure is only reported: runtime.md, Lifecycle."""
    for hook in box.config["hooks"].get(kind) or ():
        one = types.SimpleNamespace(**vars(box))
        one.config = box.config | {"hooks": {kind: [hook]}}
        try:
            hooks(one, kind, word)
        except (OSError, SystemExit, ValueError) as error:
            errors.complain(f"warning: {error}")


# ---- the commands, on the host


def create(options, name):
    """Makes a container that waits for `start`. If that fails, nothing is left of it."""
    bundle = os.path.realpath(options.get("--bundle", "."))
    file = os.path.join(bundle, options.get("--config", "config.json"))
    config = checked(json.loads(process.read(file)))
    box = types.SimpleNamespace(name=name, bundle=bundle, config=config, pid=0)
    box.place, box.manager = directory(options, name), manager(options)
    box.created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    box.cgroup = cgroups.path_for(name, config["linux"]["cgroupsPath"], box.manager)
    if config["linux"]["resources"] and not box.cgroup and box.manager != "disabled":
        raise SystemExit("limits need cgroup v2: /sys/fs/cgroup is not a cgroup2 mount")
    if config["hooks"]:
        import subprocess  # noqa: F401 # here, because the image's would be imported later
    os.makedirs(options["--root"], 0o700, exist_ok=True)
    try:
        os.mkdir(box.place, 0o700)
    except FileExistsError:
        raise SystemExit(f"container {name} exists already") from None
    try:
        box.listener = socket.socket(socket.AF_UNIX)
        place = os.open(box.place, os.O_PATH)  # a socket's own path must be short: unix(7)
        box.listener.bind(f"/proc/self/fd/{place}/start")
        box.listener.listen()
        os.close(place)
        prepare(options, box, config["process"])
        open_trees(box)
        box.namespaces = open_namespaces(config)
        begin(box, child)
        if box.cgroup:
            cgroups.apply(box.cgroup, config["linux"]["resources"])
            rules = config["linux"]["resources"].get("devices") or []
            if not box.user:
                cgroups.restrict_devices(box.cgroup, rules)
        map_users(box)
        tell(box, "go")
        expect(box, "mounting")
        for kind in "prestart", "createRuntime":
            hooks(box, kind, "creating")
        tell(box, "go")
        finish(options, box)
        save(box)
    except BaseException:
        undo(box)
        raise


def manager(options):
    """Returns who makes cgroups: cgroupfs (we do), systemd, or disabled (nobody)."""
    word = "systemd" if "--systemd-cgroup" in options else "cgroupfs"
    return options.get("--cgroup-manager", word)


def prepare(options, box, wanted):
    """Prepares what a process needs of the host, while the host can be seen."""
    box.process, box.keep = wanted, 3 + int(options.get("--preserve-fds") or 0)
    box.last, box.proc = kernel.last_capability(), os.open("/proc", os.O_PATH)
    box.filter = kernel.compile_filter(box.config["linux"]["seccomp"])
    box.host = {
        kind: os.stat(f"/proc/self/ns/{file}").st_ino
        for kind, (file, _) in NAMESPACES.items()
        if os.path.exists(f"/proc/self/ns/{file}")
    }
    box.console = box.supervisor = None
    if wanted.get("terminal"):
        if "--console-socket" in options:
            box.console = socket.socket(socket.AF_UNIX)
            box.console.connect(options["--console-socket"])
        elif "--detach" in options or sys.argv[-2:-1] == ["create"]:
            raise SystemExit("a terminal needs a way out: use --console-socket")
        else:
            kind = socket.SOCK_SEQPACKET
            box.terminal, box.console = socket.socketpair(socket.AF_UNIX, kind)
    if listener := (box.config["linux"]["seccomp"] or {}).get("listenerPath"):
        box.supervisor = socket.socket(socket.AF_UNIX)
        box.supervisor.connect(listener)


def open_trees(box):
    """Opens what the container shows of the host: its root, directories, devices. A tree is a
    mount that is attached nowhere yet, and it needs no path inside."""
    config, spaces = box.config, {n["type"]: n for n in box.config["linux"]["namespaces"]}
    box.user = "user" in spaces
    root = os.path.join(box.bundle, config["root"]["path"])
    box.root = kernel.open_tree(root, recursive=True)
    slave = "slave" in config["linux"]["rootfsPropagation"]
    how = kernel.MS_SLAVE if slave else linux.MS_PRIVATE
    kernel.mount_setattr(box.root, propagation=how, recursive=True)
    box.trees, box.devices = {}, {}  # by the place of the mount in the list; by path
    for place, mount in enumerate(config["mounts"]):
        words, source = mount["options"], mount["source"]
        if mount["type"] == "cgroup" and "path" in spaces.get("cgroup", {"path": ""}):
            source, words = cgroups.TOP + (box.cgroup or ""), ["bind", *words]
        if mount["type"] == "bind" or "bind" in words or "rbind" in words:
            path = os.path.join(box.bundle, source)
            box.trees[place] = kernel.open_tree(path, recursive="rbind" in words)


def open_namespaces(config):
    """Returns the flags of new namespaces, and descriptors and flags of others' to enter."""
    new, joined = 0, []
    for wanted in config["linux"]["namespaces"]:
        flag = NAMESPACES[wanted["type"]][1]
        if "path" in wanted:
            joined.append((os.open(wanted["path"], os.O_RDONLY | os.O_CLOEXEC), flag))
        else:
            new |= flag
    return new, joined


def map_users(box):
    """Maps the container's users, as step 05 does, and the owners of the trees that ask."""
    wanted = box.config["linux"]
    if box.namespaces[0] & linux.CLONE_NEWUSER:
        for file, key in ("uid_map", "uidMappings"), ("gid_map", "gidMappings"):
            process.write(f"/proc/{box.pid}/{file}", map_lines(wanted[key]))
    for place, tree in box.trees.items():
        mount = box.config["mounts"][place]
        recursive = "ridmap" in mount["options"]
        if recursive or "idmap" in mount["options"] or mount.get("uidMappings"):
            namespace = user_namespace(mount) or os.open(
                f"/proc/{box.pid}/ns/user", os.O_RDONLY
            )
            flag = kernel.MOUNT_ATTR_IDMAP
            kernel.mount_setattr(tree, on=flag, namespace=namespace, recursive=recursive)
            os.close(namespace)


def user_namespace(mount):
    """Returns a user namespace with the maps of a mount, or None if it has none."""
    if not mount.get("uidMappings"):
        return None
    pid = linux.clone(linux.CLONE_NEWUSER)
    if pid == 0:
        signal.pause()
    try:
        for file, key in ("uid_map", "uidMappings"), ("gid_map", "gidMappings"):
            process.write(f"/proc/{pid}/{file}", map_lines(mount[key]))
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def begin(box, function):
    """Starts a process that calls function(box) in the container's namespaces and cgroup.

    A helper enters the cgroup and the namespaces that exist, and has the process as its
    child, because we must stay outside. When it ends, the kernel gives the child to us,
    and when we end, to whoever asked for orphans: podman's conmon.
    """
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    kind = socket.SOCK_SEQPACKET
    box.channel, theirs = socket.socketpair(socket.AF_UNIX, kind)
    helper = os.fork()
    if helper == 0:
        box.channel = theirs
        beget(box, function)
    theirs.close()
    try:
        if box.cgroup:
            cgroups.make(box.cgroup, helper, box.manager)
        tell(box, "go")
        box.pid = int(expect(box, "pid"))
    finally:
        box.channel.close() if not box.pid else None
        os.waitpid(helper, 0)
    box.born = born(box.pid)


def finish(options, box):
    """Sets what only the host may set of a process, once it is ready, and lets it go on."""
    expect(box, "ready")
    wanted, pid = box.process, box.pid
    import resource

    for limit in wanted.get("rlimits") or ():
        number = getattr(resource, limit["type"])
        values = [n if n < 1 << 63 else -1 for n in (limit["soft"], limit["hard"])]
        resource.prlimit(pid, number, tuple(values))
    if "oomScoreAdj" in wanted:
        process.write(f"/proc/{pid}/oom_score_adj", str(wanted["oomScoreAdj"]))
    if scheduler := wanted.get("scheduler"):
        policy = getattr(os, scheduler["policy"])
        parameter = os.sched_param(scheduler.get("priority") or 0)
        os.sched_setscheduler(pid, policy, parameter)
        os.setpriority(os.PRIO_PROCESS, pid, scheduler.get("nice") or 0)
    if priority := wanted.get("ioPriority"):
        kinds = "IOPRIO_CLASS_NONE IOPRIO_CLASS_RT IOPRIO_CLASS_BE IOPRIO_CLASS_IDLE"
        kind = kinds.split().index(priority["class"])
        kernel.ioprio_set(pid, kind, priority.get("priority") or 0)
    if "--pid-file" in options:
        with open(options["--pid-file"], "w") as file:
            file.write(str(pid))
    tell(box, "go")


def undo(box):
    """Removes everything that a failed create() has made."""
    if box.pid:
        os.kill(box.pid, signal.SIGKILL)
        os.waitpid(box.pid, 0)
    if box.cgroup:
        cgroups.remove(box.cgroup)
    process.run("rm -rf", box.place)


def start(options, name):
    """Lets a created container become its command. Its last error comes back to us."""
    box = load(options, name)
    if status(box) != "created":
        raise SystemExit(f"cannot start a container that is {status(box)}")
    door = socket.socket(socket.AF_UNIX)
    place = os.open(box.place, os.O_PATH)
    door.connect(f"/proc/self/fd/{place}/start")
    os.unlink(f"{box.place}/start")
    if line := door.recv(ENOUGH):  # nothing: its end was closed because it has executed
        raise SystemExit(line.decode())
    hooks_that_may_fail(box, "poststart", "running")


def state(options, name):
    """Prints what is known of a container."""
    box = load(options, name)
    print(json.dumps(described(box, status(box)), indent=2), flush=True)


def kill(options, name, word="TERM"):
    """Sends a signal to a container's first process, or with --all to all of them."""
    number = int(word) if word.isdigit() else 0
    if not number:
        number = getattr(signal, "SIG" + word.upper().removeprefix("SIG"))
    box = load(options, name)
    pids = cgroups.processes(box.cgroup) if "--all" in options and box.cgroup else []
    if status(box) == "stopped" and not pids:
        raise SystemExit("container not running")
    for pid in pids or [box.pid]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass  # it has ended by itself


def delete(options, name):
    """Removes a container that has stopped, or with --force any."""
    force = "--force" in options
    try:
        box = load(options, name)
    except SystemExit:
        if not force:
            raise
        process.run("rm -rf", directory(options, name))  # of a create that was killed
        return
    if status(box) != "stopped" and not force:
        raise SystemExit(f"cannot delete a container that is {status(box)}: use --force")
    if status(box) != "stopped":
        os.kill(box.pid, signal.SIGKILL)
        end = os.pidfd_open(box.pid)
        import select

        select.select([end], [], [], 10)
    if box.cgroup:
        cgroups.remove(box.cgroup)
    process.run("rm -rf", box.place)
    hooks_that_may_fail(box, "poststop", "stopped")


def execute(options, name, *words):
    """Starts another process in a container, and waits for it unless it is --detached."""
    box = load(options, name)
    if status(box) not in ("running", "created"):
        raise SystemExit(f"cannot exec in a container that is {status(box)}")
    wanted = dict(box.config["process"], args=list(words), terminal="--tty" in options)
    if "--process" in options:
        wanted = json.loads(process.read(options["--process"]))
    wanted["env"] = [*(wanted.get("env") or ()), *options["--env"]]
    wanted["cwd"] = options.get("--cwd") or wanted.get("cwd") or "/"
    if "--user" in options:
        uid, _, gid = options["--user"].partition(":")
        wanted["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    if "--no-new-privs" in options:
        wanted["noNewPrivileges"] = True
    given = wanted["capabilities"] = dict(wanted.get("capabilities") or {})
    for kind in "bounding", "effective", "permitted":
        given[kind] = [*(given.get(kind) or ()), *options["--cap"]]
    prepare(options, box, wanted)
    first, flags = os.pidfd_open(box.pid), 0
    if born(box.pid) != box.born:
        raise SystemExit(f"container {name} has ended")
    for kind, inode in box.host.items():
        file, flag = NAMESPACES[kind]
        if os.stat(f"/proc/{box.pid}/ns/{file}").st_ino != inode:
            flags |= flag
    box.user, box.namespaces = flags & linux.CLONE_NEWUSER, (0, [(first, flags)])
    if box.cgroup:
        box.cgroup, box.manager = cgroups.of(box.pid), "cgroupfs"
        if "--cgroup" in options:
            box.cgroup = os.path.normpath(f"{box.cgroup}/../{options['--cgroup']}")
    box.pid = 0
    begin(box, guest)
    finish(options, box)
    if line := box.channel.recv(ENOUGH):
        os.waitpid(box.pid, 0)
        raise SystemExit(line.decode().partition(" ")[2])
    return None if "--detach" in options else wait(box)


def run(options, name):
    """Creates and starts a container. Waits for it and deletes it unless it is --detached."""
    create(options, name)
    box = load(options, name)
    box.terminal = None
    try:
        start(options, name)
    except BaseException:
        delete(options | {"--force": True}, name)
        raise
    if "--detach" in options:
        return None
    result = wait(box)
    if "--keep" not in options:
        delete(options | {"--force": True}, name)
    return result


def wait(box):
    """Waits for a process, and passes signals on to it. Returns its status as a shell does."""
    for number in process.FORWARDED:
        signal.signal(number, lambda number, _: os.kill(box.pid, number))
    if getattr(box, "terminal", None):
        import terminal

        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        ours = process._receive(box.terminal)[1][0]
        terminal.relay(ours, os.pidfd_open(box.pid), woken)
    result = os.waitstatus_to_exitcode(os.waitpid(box.pid, 0)[1])
    return 128 - result if result < 0 else result


def pause(options, name, yes=True):
    """Stops all processes of a container, or continues them."""
    box = load(options, name)
    if not box.cgroup or status(box) != ("running" if yes else "paused"):
        raise SystemExit(f"cannot do this to a container that is {status(box)}")
    cgroups.freeze(box.cgroup, yes)


def update(options, name):
    """Changes a container's limits to those of a file, or of stdin if it is "-"."""
    file = options["--resources"]
    text = sys.stdin.read() if file == "-" else process.read(file)
    cgroups.apply(load(options, name).cgroup, json.loads(text))


def show(options):
    """Prints the state of all containers."""
    names = os.listdir(options["--root"]) if os.path.exists(options["--root"]) else []
    boxes = [load(options, name) for name in sorted(names)]
    print(json.dumps([described(box, status(box)) for box in boxes]), flush=True)


# ---- between the three: words on a socket


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
    devices = {f"/dev/{name}": ("c", *numbers) for name, numbers in DEVICES.items()}
    devices = {path: dict(zip(("type", "major", "minor"), d)) for path, d in devices.items()}
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
        ids = [host_id(device.get(k) or 0, wanted[f"{k}Mappings"]) for k in ("uid", "gid")]
        os.chown(file, *ids)
        box.devices[path] = linux.open_tree(file)
        if path == "/dev/null":
            box.nothing = [linux.open_tree(file) for _ in wanted["maskedPaths"]]
    linux.umount("/mnt", linux.MNT_DETACH)


def enter(joined):
    """Enters namespaces of others. Some belong to the user namespace among them, so we may
    enter them only as its root; others belong to the host, so we may not any more."""
    later = []
    for descriptor, flag in sorted(joined, key=lambda pair: pair[1] == linux.CLONE_NEWUSER):
        try:
            kernel.setns(descriptor, flag)
        except PermissionError:
            later.append((descriptor, flag))
    for descriptor, flag in later:
        kernel.setns(descriptor, flag)


# ---- in the container


def child(box):
    """Prepares the container, waits for `start`, then becomes the command."""
    config, new = box.config, box.namespaces[0]
    expect(box, "go")  # step 05: the host has mapped our users
    isolation.leave_session()  # step 00
    become_root(box)
    if new & linux.CLONE_NEWNET:
        linux.link_up("lo")  # step 04
    set_names(box)
    own_namespace(box, "mount", "a root")
    # step 03: no mount of ours reaches the host
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    enter_root(box)
    own_terminal(box)
    program = find_program(box.process)
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
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def own_namespace(box, kind, what):
    """SystemExit: this namespace is the host's, so that what we are about to do to it would
    be done to the host."""
    file = f"self/ns/{NAMESPACES[kind][0]}"
    if os.stat(file, dir_fd=box.proc).st_ino == box.host[kind]:
        raise SystemExit(f"{what} is not allowed without a {kind} namespace of its own")


def set_names(box):
    """Sets host name, domain name and sysctls, each of them only in its own namespace."""
    config = box.config
    for key, call in ("hostname", linux.sethostname), ("domainname", kernel.setdomainname):
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
        if tree is None:
            kind = {"cgroup": "cgroup2"}.get(mount["type"], mount["type"])
            data = [f"source={mount['source'] or kind}", *own.superblock, *own.data]
            tree = linux.fsmount(kind, ",".join(data))
        kernel.mount_setattr(tree, own.on, own.off, own.propagation or linux.MS_PRIVATE)
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
    before = os.stat(path) if os.path.isdir(path) else None
    if "tmpcopyup" in words and before:
        copy_into(tree, path)
    process.attach(tree, path)
    if mount["type"] == "tmpfs" and before and "mode=" not in ",".join(words):
        os.chmod(path, stat.S_IMODE(before.st_mode))  # as the image has it
    os.close(tree)


def copy_into(tree, path):
    """Copies a directory of the image into a mount that will cover it."""
    os.fchdir(tree)
    for top, directories, files in os.walk(path):
        for name in [*directories, *files]:
            source, target = f"{top}/{name}", os.path.relpath(f"{top}/{name}", path)
            about = os.lstat(source)
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
    size = box.process.get("consoleSize")
    if size:
        import termios  # built into Python

        termios.tcsetwinsize(own, (size["height"], size["width"]))
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
        uid, variables["HOME"] = str(wanted["user"]["uid"]), "/"
        if os.path.isfile("/etc/passwd"):
            for line in process.read("/etc/passwd").splitlines():
                fields = line.split(":")
                if len(fields) > 5 and fields[2] == uid:
                    variables["HOME"] = fields[5]
                    break
    return variables


def become(box, program, kept):
    """Gives up what the command is not to have, and becomes it. Returns only by an error.

    kept: a descriptor for that error. It is closed when the command begins.
    """
    wanted, user, variables = box.process, box.process["user"], environment(box.process)
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
    close_from(box.keep, {kept, own})  # step 00: an open directory of the host is a way out
    given = wanted.get("capabilities") or {}
    kinds = "bounding effective permitted inheritable ambient".split()
    sets = {kind: kernel.bits(given.get(kind) or []) for kind in kinds}
    kernel.limit_capabilities(sets["bounding"], box.last)  # step 09
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    os.umask(user.get("umask", 0o022))
    os.setgroups(user.get("additionalGids") or [])
    os.setresgid(*[user["gid"]] * 3)
    os.setresuid(*[user["uid"]] * 3)
    os.chdir(wanted["cwd"])
    os.getcwd()  # fails if it is outside: CVE-2024-21626
    for number in signal.SIGPIPE, signal.SIGXFSZ:
        signal.signal(number, signal.SIG_DFL)
    if wanted.get("noNewPrivileges"):
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    else:  # only root may load a filter without it, so load it before
        kernel.capset(kernel.permitted(), kernel.permitted(), sets["inheritable"])
        load_filter(box, pid)  # step 10
    kernel.capset(sets["effective"], sets["permitted"], sets["inheritable"])
    kernel.raise_ambient(sets["ambient"] & sets["permitted"] & sets["inheritable"])
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
    os.write(descriptor, text.encode())
    os.close(descriptor)


def close_from(first, kept):
    """Closes all descriptors from the first on, except those kept: close_range(2)."""
    for descriptor in sorted(number for number in kept if number >= first):
        os.closerange(first, descriptor)
        first = descriptor + 1
    os.closerange(first, 2**31 - 1)


COMMANDS = {"create": create, "start": start, "state": state, "kill": kill}
COMMANDS |= {"delete": delete, "exec": execute, "run": run, "update": update, "list": show}
COMMANDS |= {"pause": pause, "resume": lambda options, name: pause(options, name, False)}
COMMANDS |= {"features": lambda options: print(json.dumps(features()), flush=True)}
COMMANDS |= {"version": lambda options: print(f"container.py step 11\nspec: {VERSION}")}

if __name__ == "__main__":
    main()
