#!/usr/bin/python3 -SE
"""Step 11: the command line of an OCI runtime, so that podman and others start containers with
it. runtime-spec, runtime.md and config.md; podman --runtime PATH/container.py run IMAGE

A container's life here is three commands: `create` does what steps 01 to 10 do, and stops short
of the last line, which becomes the command; `start` lets that happen; `delete` tidies up. In
between, a directory with a state.json and a socket is all that is known of the container.
"""

import os
import sys

sys.path[:0] = [os.path.join(sys.path[0], where) for where in ("../steps", "..")]
import linux


def hide_program():
    """Starts this program again, from a view of Python that is read-only and has no path.

    Until it becomes the command, this process is in the container, where /proc/PID/exe is a
    way to the host's own Python, which root inside could overwrite: CVE-2019-5736.
    """
    if not os.statvfs("/proc/self/exe").f_flag & os.ST_RDONLY:
        python = linux.open_tree("/proc/self/exe", "ro")
        flags = ["-SE", sys.argv[0], *sys.argv[1:]]
        os.execv(f"/proc/self/fd/{python}", [sys.executable, *flags])


if __name__ == "__main__" and {"create", "run", "exec"} & set(sys.argv[1:]):
    hide_program()  # before the other imports, which take 20 ms

import _signal as signal
import _socket as socket
import json
import time
import types

import cgroups
import errors
import kernel
import process
from inside import ENOUGH, beget, child, expect, guest, tell
from spec import NAMESPACES, VERSION, checked, features, map_lines
from state import born, described, directory, hooks, hooks_that_may_fail
from state import load, save, status

VALUES = "--root --log --log-format --cgroup-manager --rootless --criu --bundle"
VALUES += " --config --pid-file --console-socket --preserve-fds --process --cwd --user"
VALUES += " --env --cap --resources --cgroup --apparmor --process-label"
# Options of `update`, and the limits of config.json that they stand for.
CHANGES = {"--memory": "memory limit", "--memory-reservation": "memory reservation"}
CHANGES |= {"--memory-swap": "memory swap", "--pids-limit": "pids limit"}
CHANGES |= {"--cpu-share": "cpu shares", "--cpu-quota": "cpu quota"}
CHANGES |= {"--cpu-period": "cpu period"}
CHANGES |= {"--cpuset-cpus": "cpu cpus", "--cpuset-mems": "cpu mems"}
VALUES += " " + " ".join(CHANGES)
FLAGS = "--systemd-cgroup --debug --version --help --force --all --detach --tty --keep"
FLAGS += " --no-new-privs --no-pivot --no-new-keyring --no-subreaper"
SHORT = "-b --bundle -f --force -a --all -d --detach -t --tty -p --process -e --env"
SHORT += " -u --user -c --cap -r --resources -v --version -h --help"

ABOUT = f"""container.py step 11
spec: {VERSION}
+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF"""


def main():
    """Parses the command line and calls the command. An error is one line and status 1."""
    options = {"--root": "/run/workshop-oci", "--env": [], "--cap": []}
    try:
        command, *words = parse(options, iter(sys.argv[1:]))
        if command not in COMMANDS:
            raise SystemExit(f"unknown command {command!r}: {' '.join(COMMANDS)}")
        if command not in ("features", "list", "version") and not words:
            raise SystemExit(f"{command} needs the ID of a container")
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
        if name in SHORT.split()[::2]:
            name = SHORT.split()[SHORT.split().index(name) + 1]
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


# ---- the commands, on the host


def create(options, name):
    """Makes a container that waits for `start`."""
    make(options, name)


def make(options, name):
    """Makes a container that waits for `start`. Returns what we know of it. If that fails,
    nothing is left of it."""
    bundle = os.path.realpath(options.get("--bundle", "."))
    file = os.path.join(bundle, options.get("--config", "config.json"))
    config = checked(json.loads(process.read(file)))
    box = types.SimpleNamespace(name=name, bundle=bundle, config=config)
    box.pid = box.born = None
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
        save(box)  # if somebody kills us, `delete --force` knows what to remove
        if "relay" in options:  # `run` stays, and can pass it on
            offer_notify_socket(box)
        box.listener = socket.socket(socket.AF_UNIX)
        # A path in a socket's address must be short, unix(7), so take the one of /proc.
        place = os.open(box.place, os.O_PATH)
        box.listener.bind(f"/proc/self/fd/{place}/start")
        box.listener.listen()
        os.close(place)
        prepare(options, box, config["process"])
        open_trees(box)
        box.namespaces = open_namespaces(config)
        begin(box, child)
        box.listener.close()  # or `run` would wait for a process that has died
        if box.cgroup:
            cgroups.apply(box.cgroup, config["linux"]["resources"], box.manager)
            rules = config["linux"]["resources"].get("devices") or []
            cgroups.restrict_devices(box.cgroup, rules)
        map_users(box)
        tell(box, "go")
        expect(box, "mounting")
        for kind in "prestart", "createRuntime":
            hooks(box, kind, "creating")
        tell(box, "go")
        finish(options, box)
        save(box)
        return box
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
    box.console = box.supervisor = box.relay = None
    if wanted.get("terminal"):
        if "--console-socket" in options:
            box.console = socket.socket(socket.AF_UNIX)
            box.console.connect(options["--console-socket"])
        elif "relay" not in options:
            raise SystemExit("a terminal needs a way out: use --console-socket")
        else:  # it is ours, and we are in the foreground
            kind = socket.SOCK_SEQPACKET
            box.relay, box.console = socket.socketpair(socket.AF_UNIX, kind)
    if listener := (box.config["linux"]["seccomp"] or {}).get("listenerPath"):
        box.supervisor = socket.socket(socket.AF_UNIX)
        box.supervisor.connect(listener)


def open_trees(box):
    """Opens what the container shows of the host: its root, directories, devices. A tree is a
    mount that is attached nowhere yet, and it needs no path inside."""
    config = box.config
    box.user = "user" in [space["type"] for space in config["linux"]["namespaces"]]
    root = os.path.join(box.bundle, config["root"]["path"])
    box.root = kernel.open_tree(root, recursive=True)
    slave = "slave" in config["linux"]["rootfsPropagation"]
    how = kernel.MS_SLAVE if slave else linux.MS_PRIVATE
    kernel.mount_setattr(box.root, propagation=how, recursive=True)
    box.trees, box.links = {}, {}  # by the place of the mount in the list
    box.devices = {}  # by path
    for place, mount in enumerate(config["mounts"]):
        if mount["type"] == "bind" or {"bind", "rbind"} & set(mount["options"]):
            path = os.path.join(box.bundle, mount["source"])
            if "copy-symlink" in mount["options"] and os.path.islink(path):
                box.links[place] = os.readlink(path)
                continue
            recursive = "rbind" in mount["options"]
            box.trees[place] = kernel.open_tree(path, recursive)


def open_namespaces(config):
    """Returns the flags of new namespaces, and descriptors and flags of others' to enter."""
    new, joined = 0, []
    for wanted in config["linux"]["namespaces"]:
        flag = NAMESPACES[wanted["type"]][1]
        if wanted.get("path"):
            joined.append((os.open(wanted["path"], os.O_RDONLY | os.O_CLOEXEC), flag))
        else:
            new |= flag
    return new, joined


def map_users(box):
    """Maps the container's users, as step 05 does, and the owners of the trees that ask."""
    wanted = box.config["linux"]
    if box.namespaces[0] & linux.CLONE_NEWUSER:
        write_maps(box.pid, wanted)
    for place, tree in box.trees.items():
        mount = box.config["mounts"][place]
        recursive = "ridmap" in mount["options"]
        if recursive or "idmap" in mount["options"] or mount.get("uidMappings"):
            namespace = user_namespace(mount) or os.open(
                f"/proc/{box.pid}/ns/user", os.O_RDONLY
            )
            flag = kernel.MOUNT_ATTR_IDMAP
            kernel.mount_setattr(
                tree, on=flag, namespace=namespace, recursive=recursive
            )
            os.close(namespace)


def write_maps(pid, wanted):
    """Maps the users and groups of the user namespace of a process: user_namespaces(7)."""
    for file, key in ("uid_map", "uidMappings"), ("gid_map", "gidMappings"):
        process.write(f"/proc/{pid}/{file}", map_lines(wanted[key]))


def user_namespace(mount):
    """Returns a user namespace with the maps of a mount, or None if it has none."""
    if not mount.get("uidMappings"):
        return None
    pid = linux.clone(linux.CLONE_NEWUSER)
    if pid == 0:
        signal.pause()
    try:
        write_maps(pid, mount)
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
    linux.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    linux.prctl(kernel.PR_SET_DUMPABLE, 0)  # nobody inside may look into our memory
    kind = socket.SOCK_SEQPACKET
    box.channel, theirs = socket.socketpair(socket.AF_UNIX, kind)
    helper = os.fork()
    if helper == 0:
        box.channel.close()  # or we would not notice that the other process is dead
        box.channel = theirs
        beget(box, function)
    theirs.close()
    try:
        if box.cgroup:
            cgroups.make(box.cgroup, helper, box.manager)
        tell(box, "go")
        box.pid = int(expect(box, "pid"))
    except BaseException:
        box.channel.close()  # which ends the helper
        raise
    finally:
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
    try:
        line = door.recv(ENOUGH)  # nothing: its end was closed because it has executed
    except ConnectionResetError:
        raise SystemExit("the container's process has died") from None
    if line:
        raise SystemExit(line.decode())
    hooks_that_may_fail(box, "poststart", "running")


def state(options, name):
    """Prints what is known of a container."""
    box = load(options, name)
    print(json.dumps(described(box, status(box)), indent=2), flush=True)


def kill(options, name, word="TERM"):
    """Sends a signal to a container's first process, or with --all to all of them."""
    plain = "SIG" + word.upper().removeprefix("SIG")
    number = int(word) if word.isdigit() else getattr(signal, plain, None)
    if number is None:
        raise SystemExit(f"unknown signal {word}")
    box = load(options, name)
    pids = cgroups.processes(box.cgroup) if "--all" in options and box.cgroup else []
    if status(box) in ("creating", "stopped") and not pids:
        raise SystemExit("container not running")
    for pid in pids or [box.pid]:
        try:
            one = os.pidfd_open(pid)  # whose pid cannot become another's now
            if pids or born(pid) == box.born:
                signal.pidfd_send_signal(one, number)
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
        process.run(
            "rm -rf", directory(options, name)
        )  # if it is not there, all is well
        return
    if status(box) != "stopped" and not force:
        raise SystemExit(
            f"cannot delete a container that is {status(box)}: use --force"
        )
    if status(box) not in ("creating", "stopped"):
        import select

        end = os.pidfd_open(box.pid)
        if born(box.pid) == box.born:
            signal.pidfd_send_signal(end, signal.SIGKILL)
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
    wanted["user"] = {"uid": 0, "gid": 0} | (wanted.get("user") or {})
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
    if "--detach" not in options:
        options["relay"] = True
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
        whole, box.cgroup, box.manager = box.cgroup, cgroups.of(box.pid), "cgroupfs"
        if "--cgroup" in options:
            box.cgroup = os.path.normpath(f"{whole}/{options['--cgroup']}")
    box.pid = None
    begin(box, guest)
    forward_signals(box)
    tell(box, "go")
    finish(options, box)
    if line := box.channel.recv(ENOUGH):
        os.waitpid(box.pid, 0)
        raise SystemExit(line.decode().partition(" ")[2])
    return None if "--detach" in options else wait(box)


def run(options, name):
    """Creates and starts a container. Waits for it and deletes it unless it is --detached."""
    foreground = "--detach" not in options
    box = make(options | ({"relay": True} if foreground else {}), name)
    if foreground:
        forward_signals(box)
    try:
        start(options, name)
    except BaseException:
        delete(options | {"--force": True}, name)
        raise
    if not foreground:
        return None
    if box.notify and not box.relay:
        pass_readiness(box)
    result = wait(box)
    if "--keep" not in options:
        delete(options | {"--force": True}, name)
    return result


def offer_notify_socket(box):
    """Gives the container a socket for READY=1, if we are a service of systemd's that waits
    for it: sd_notify(3). It is in a directory of its own, at the place that ours has."""
    box.notify, ours = None, os.environ.get("NOTIFY_SOCKET", "")
    if not ours.startswith("/"):
        return
    source, wanted = f"{box.place}/notify", box.config["process"]
    os.mkdir(source)
    os.chmod(source, 0o755)  # whatever the umask is
    place = os.open(source, os.O_PATH)
    box.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    box.notify.bind(f"/proc/self/fd/{place}/notify")
    os.close(place)
    os.chmod(f"{source}/notify", 0o666)  # for every user inside
    mount = {"type": "bind", "source": source, "destination": ours, "options": []}
    box.config["mounts"].append(mount)
    variable = f"NOTIFY_SOCKET={ours}/notify"
    wanted["env"] = [*(wanted.get("env") or ()), variable]


def pass_readiness(box):
    """Waits until a container says that it is ready, and tells systemd, or until it ends."""
    import select

    end = os.pidfd_open(box.pid)
    while box.notify in select.select([box.notify, end], [], [])[0]:
        if b"READY=1" in box.notify.recv(ENOUGH).split(b"\n"):
            place = os.environ["NOTIFY_SOCKET"]
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", place)
            return


def forward_signals(box):
    """Passes signals on to a process. It must not run its command yet, because otherwise a
    signal could come too early, and end only us."""
    for number in process.FORWARDED:
        signal.signal(number, lambda number, _: os.kill(box.pid, number))


def wait(box):
    """Waits for a process. Returns its status as a shell does."""
    if box.relay:
        import terminal

        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        [own] = process._receive(box.relay)[1]
        terminal.relay(own, os.pidfd_open(box.pid), woken)
    result = os.waitstatus_to_exitcode(os.waitpid(box.pid, 0)[1])
    return 128 - result if result < 0 else result


def pause(options, name, yes=True):
    """Stops all processes of a container, or continues them."""
    box = load(options, name)
    if not box.cgroup or status(box) != ("running" if yes else "paused"):
        raise SystemExit(f"cannot do this to a container that is {status(box)}")
    cgroups.freeze(box.cgroup, yes)


def update(options, name):
    """Changes a container's limits to those of a file, or of stdin if it is "-", and to those
    of the options."""
    file, wanted = options.get("--resources"), {}
    if file:
        wanted = json.loads(sys.stdin.read() if file == "-" else process.read(file))
    for option, place in CHANGES.items():
        section, key = place.split()
        if option in options:
            text = options[option]
            value = text if option.startswith("--cpuset") else int(text)
            wanted[section] = (wanted.get(section) or {}) | {key: value}
    box = load(options, name)
    cgroups.apply(box.cgroup, wanted, box.manager)


def show(options):
    """Prints the state of all containers."""
    names = os.listdir(options["--root"]) if os.path.exists(options["--root"]) else []
    boxes = [load(options, name) for name in sorted(names)]
    print(json.dumps([described(box, status(box)) for box in boxes]), flush=True)


COMMANDS = {"create": create, "start": start, "state": state, "kill": kill}
COMMANDS |= {
    "delete": delete,
    "exec": execute,
    "run": run,
    "update": update,
    "list": show,
}
COMMANDS |= {
    "pause": pause,
    "resume": lambda options, name: pause(options, name, False),
}
COMMANDS |= {"features": lambda options: print(json.dumps(features()), flush=True)}
COMMANDS |= {"version": lambda options: print(ABOUT)}

if __name__ == "__main__":
    main()
