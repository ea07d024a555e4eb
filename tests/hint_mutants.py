"""Likely mistakes of a learner, each of them made in the reference of its step, and the hint
that `workshop check` must give about it."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Mistake:
    """A mistake: a text of a step's container.py that occurs once is replaced by another."""

    step: str
    old: str
    new: str
    fact: str  # a part of its name; it must fail
    hint: str | None  # a pattern; None: no hint would fit, because the fact says it all
    second: tuple[str, str] = ("", "")  # another text, and what replaces it


START = "    container = process.start("
PRIVATE = '    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)  # no propagation\n'
UMOUNT = '    linux.umount("/", linux.MNT_DETACH)\n'
CHDIR = '    os.chdir("/")\n'
ATTACH = "    for path, tree in trees.items():\n        process.attach(tree, path)\n"
BIND = '    linux.mount(args.image, "/mnt", None, linux.MS_BIND)\n'
FILESYSTEMS = '    trees = {p: linux.fsmount(fs, OPTIONS.get(p, "nosuid")) for p, fs in MOUNTS.items()}\n'
FILES = '    trees |= {f"/dev/{name}": linux.open_tree(f"/dev/{name}") for name in DEVICES}\n'
ROOT = "    if BY_ROOT:\n        os.setgroups([])  # drops the caller's, such as disk; only root may\n"

MISTAKES = [
    # 00_run
    Mistake(
        "00_run",
        "    return process.wait(container)",
        "    process.wait(container)",
        "exits with the status of its command",
        "parent must return what process.wait returns",
    ),
    Mistake(
        "00_run",
        "    return process.wait(container)",
        "    return 0 if process.wait(container) == 0 else 1",
        "exits with the status of its command",
        "parent must return what process.wait returns",
    ),
    Mistake(
        "00_run",
        "    return process.wait(container)",
        "    return 0",
        # Not one that a quick command can satisfy before the runtime has ended.
        "signal to the runtime reaches the command",
        "parent must call process.wait",
    ),
    Mistake(
        "00_run",
        "    return process.wait(container)",
        "    return container",
        "command runs with its arguments",
        "parent must return what process.wait returns",
    ),
    Mistake(
        "00_run",
        "    process.execute(args.command)",
        "    pass",
        "command runs with its arguments",
        None,  # "it must end in execute()"
    ),
    Mistake(
        "00_run",
        "    process.execute(args.command)",
        "    os.system(' '.join(args.command))",
        "command runs with its arguments",
        "must not fork or start it itself",
    ),
    Mistake(
        "00_run",
        "    process.execute(args.command)",
        "    process.execute(args)",
        "command runs with its arguments",
        "process.execute takes a list",
    ),
    Mistake(
        "00_run",
        "    process.execute(args.command)",
        "    process.execute(args.command[0])",
        "command runs with its arguments",
        "process.execute takes a list",
    ),
    Mistake(
        "00_run",
        "process.start(child, args)",
        "process.start(child)",
        "command runs with its arguments",
        r"process.start\(child, args",
    ),
    Mistake(
        "00_run",
        "process.start(child, args)",
        "process.start(child(args))",
        "command runs with its arguments",
        "the function child itself",
    ),
    Mistake(
        "00_run",
        'USAGE = "run COMMAND..."',
        'USAGE = "run COMMAND"',
        "command runs with its arguments",
        "USAGE ends with COMMAND...",
    ),
    Mistake(
        "00_run",
        "process.execute(args.command)",
        "process.exekute(args.command)",
        "command runs with its arguments",
        None,  # "has no attribute 'exekute'. Did you mean: 'execute'?"
    ),
    # 01_uts
    Mistake(
        "01_uts",
        "linux.CLONE_NEWUTS | linux.CLONE_NEWIPC",
        "linux.CLONE_NEWIPC",
        "host name of its own",
        "CLONE_NEWUTS",
    ),
    Mistake(
        "01_uts",
        "linux.CLONE_NEWUTS | linux.CLONE_NEWIPC",
        "linux.CLONE_NEWUTS",
        "message queue of the host is invisible",
        "CLONE_NEWIPC",
    ),
    Mistake(
        "01_uts",
        "linux.CLONE_NEWUTS | linux.CLONE_NEWIPC",
        "linux.CLONE_NEWUTS & linux.CLONE_NEWIPC",
        "message queue of the host is invisible",
        "CLONE_NEWIPC",
    ),
    Mistake(
        "01_uts",
        "args, flags=NAMESPACES)",
        "args)",
        "host name of its own",
        "CLONE_NEWUTS",
    ),
    Mistake(
        "01_uts",
        START,
        '    linux.sethostname(args.hostname or "container")\n' + START,
        "host name of its own",
        "child must call it, not parent",
    ),
    Mistake(
        "01_uts",
        'linux.sethostname(args.hostname or "container")',
        "linux.sethostname(args.hostname)",
        "host name of its own",
        "args.hostname is None",
    ),
    Mistake(
        "01_uts",
        '(args.hostname or "container")',
        '(args.hostname or "box")',
        "host name of its own",
        None,  # expected 'container', happened 'box'
    ),
    Mistake(
        "01_uts",
        '(args.hostname or "container")',
        '("container")',
        "option hostname sets",
        "your container is called container",
    ),
    Mistake(
        "01_uts",
        'USAGE = "run [--hostname NAME] COMMAND..."',
        'USAGE = "run COMMAND..."',
        "option hostname sets",
        "USAGE lacks --hostname NAME, and process.main reads",
    ),
    Mistake(
        "01_uts",
        '    linux.sethostname(args.hostname or "container")\n',
        "",
        "host name of its own",
        "Does child call linux.sethostname",
    ),
    # 02_pid
    Mistake(
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID",
        "",
        "command is pid 1",
        "CLONE_NEWPID",
    ),
    Mistake(
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID",
        "NAMESPACES = linux.CLONE_NEWPID",
        "host name of its own",
        r"`=` in place of `\|=`",
    ),
    Mistake(
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID",
        "NAMESPACES &= linux.CLONE_NEWPID",
        "command is pid 1",
        "CLONE_NEWPID",
    ),
    Mistake(
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID",
        "NAMESPACES |= linux.CLONE_NEWNS",
        "one process has two pids",
        "CLONE_NEWPID",
    ),
    Mistake(
        "02_pid",
        "args, flags=NAMESPACES)",
        "args, flags=linux.CLONE_NEWPID)",
        "message queue of the host is invisible",
        "CLONE_NEWIPC",
    ),
    Mistake(
        "02_pid",
        "args, flags=NAMESPACES)",
        "args, NAMESPACES)",
        "command is pid 1",
        r"process.start\(child, args, flags",
    ),
    Mistake(
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID",
        "NAMESPACES = NAMESPACES or linux.CLONE_NEWPID",
        "killing every visible process",
        "CLONE_NEWPID",
    ),
    Mistake(
        "02_pid",
        "    process.execute(args.command)",
        "    if pid := os.fork():\n        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
        "    process.execute(args.command)",
        "command is pid 1",
        "must not fork",
    ),
    # 03_mnt
    Mistake(
        "03_mnt",
        BIND,
        CHDIR + BIND,
        "image can be given as a path",
        "relative path",
    ),
    Mistake(
        "03_mnt",
        BIND,
        CHDIR + BIND,
        "image can be given as a path",
        "relative path",
        second=('OPTIONS.get(p, "nosuid")', 'OPTIONS.get(p, "")'),
    ),
    Mistake(
        "03_mnt",
        "        process.attach(tree, path)\n",
        "        os.makedirs(path, exist_ok=True)\n        linux.move_mount(tree, path)\n",
        "root is the image (busybox)",
        "process.attach",
        second=('OPTIONS.get(p, "nosuid")', 'OPTIONS.get(p, "")'),
    ),
    Mistake(
        "03_mnt",
        'DEVICES = "full", "null", ',
        'DEVICES = "null", ',
        "dev has the usual devices",
        "/dev/full inside is not a device",
        second=('OPTIONS.get(p, "nosuid")', 'OPTIONS.get(p, "")'),
    ),
    Mistake(
        "03_mnt",
        '        os.symlink(target, f"/dev/{name}")\n',
        '        os.symlink(target, f"/dev/{name}") if name != "stdin" else None\n',
        "links in dev lead",
        "link /dev/stdin is missing",
        second=('OPTIONS.get(p, "nosuid")', 'OPTIONS.get(p, "")'),
    ),
    Mistake(
        "03_mnt",
        'OPTIONS.get(p, "nosuid")',
        'OPTIONS.get(p, "")',
        "set user id bits",
        "without the option nosuid",
    ),
    Mistake(
        "03_mnt",
        "linux.MS_REC | linux.MS_PRIVATE",
        "linux.MS_PRIVATE",
        "root is the image (busybox)",
        "MS_REC",
    ),
    Mistake("03_mnt", PRIVATE, "", "root is the image (busybox)", "MS_REC as well"),
    Mistake(
        "03_mnt",
        PRIVATE,
        '    linux.mount("tmpfs", "/srv", "tmpfs")\n' + PRIVATE,
        "root is the image (busybox)",
        "host also has the mount on /srv.*MS_REC",
    ),
    Mistake(
        "03_mnt", CHDIR, "", "working directory is the new root", r'os.chdir\("/"\)'
    ),
    Mistake("03_mnt", UMOUNT, "", "mount table has", "old root is still mounted"),
    Mistake(
        "03_mnt",
        UMOUNT + CHDIR + ATTACH,
        ATTACH + UMOUNT + CHDIR,
        "link in an image never leads to the host (/)",
        "before the umount",
    ),
    Mistake(
        "03_mnt",
        "        process.attach(tree, path)\n",
        "        os.makedirs(path, exist_ok=True)\n        linux.move_mount(tree, path)\n",
        "root is the image (busybox)",
        "process.attach",
    ),
    Mistake(
        "03_mnt",
        BIND + '    enter_root("/mnt")',
        "    enter_root(args.image)",
        "root is the image (busybox)",
        "mount the image on /mnt",
    ),
    Mistake(
        "03_mnt",
        '    args.image = args.image if "/" in args.image else f"{IMAGES}/{args.image}"\n',
        "",
        "root is the image (busybox)",
        "a directory in /var/lib/workshop/rootfs",
    ),
    Mistake(
        "03_mnt",
        '"/dev": "tmpfs", "/dev/pts": "devpts"}',
        '"/dev/pts": "devpts", "/dev": "tmpfs"}',
        "its own pseudo terminals",
        "/dev was attached after /dev/pts, and covers it",
    ),
    Mistake(
        "03_mnt",
        '"/dev": "tmpfs", "/dev/pts": "devpts"}',
        '"/dev/pts": "devpts"}',
        "dev has the usual devices",
        "/dev was attached after /dev/pts, /dev/shm and /dev/mqueue, and covers them",
        second=('"/proc": "proc"}', '"/proc": "proc", "/dev": "tmpfs"}'),
    ),
    Mistake(
        "03_mnt",
        'os.symlink(target, f"/dev/{name}")',
        'os.symlink(f"/dev/{name}", target)',
        "root is the image (busybox)",
        "os.symlink takes first where the link leads",
    ),
    Mistake(
        "03_mnt",
        FILES,
        "",
        "root is the image (busybox)",
        "can be reached only before linux.pivot_root",
        second=(CHDIR, CHDIR + FILES),
    ),
    Mistake("03_mnt", '{"/sys": "ro", ', "{", "sys is read only", "option ro"),
    Mistake(
        "03_mnt",
        '"/dev": "nosuid,mode=755"',
        '"/dev": "nosuid"',
        "cannot create files in dev",
        "mode=755",
    ),
    Mistake(
        "03_mnt",
        '"nosuid,ptmxmode=666"',
        '"nosuid"',
        "can open a terminal",
        "ptmxmode=666",
    ),
    Mistake("03_mnt", '"/proc": "proc"}', "}", "proc shows only", "on /proc inside"),
    Mistake(
        "03_mnt",
        '"random", "tty", ',
        '"random", ',
        "dev has the usual devices",
        "/dev/tty inside is not a device",
    ),
    Mistake(
        "03_mnt",
        'LINKS |= {"ptmx": "pts/ptmx"}\n',
        "",
        "dev has the usual devices",
        "link /dev/ptmx is missing",
    ),
    # 04_net
    Mistake(
        "04_net",
        "NAMESPACES |= linux.CLONE_NEWNET",
        "",
        "network namespace is new",
        "CLONE_NEWNET",
    ),
    Mistake(
        "04_net",
        '    linux.link_up("lo")\n',
        "",
        "has loopback only",
        "loopback device",
    ),
    Mistake(
        "04_net",
        "        connect(container.pid)\n",
        "        pass\n",
        "address is derived from the pid",
        "no eth0",
    ),
    Mistake(
        "04_net",
        "    process.await_parent()\n",
        "",
        "command waits until its network",
        r"process.await_parent\(\)",
    ),
    Mistake(
        "04_net",
        '        process.attach(dns, "/etc/resolv.conf")\n',
        "        pass\n",
        "any resolv conf gets the name servers (no file)",
        "/run/workshop/dns",
    ),
    Mistake(
        "04_net",
        'linux.open_tree("/run/workshop/dns")',
        'linux.open_tree("/etc/resolv.conf")',
        "resolv conf inside does not change",
        "/run/workshop/dns",
    ),
    Mistake(
        "04_net",
        ', hint="as root after sudo steps/network.sh on")',
        ")",
        "missing bridge says what to type",
        "hint=",
    ),
    Mistake(
        "04_net",
        '    address = f"{a}.{int(b) + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}/10"',
        '    address = "100.64.0.2/10"',
        "address is derived from the pid",
        r"eth0 has 100\.64\.0\.2/10, but .* is 100\.64\.0\.0 plus the pid",
    ),
    Mistake(
        "04_net",
        'input=setup + f"{a}.{b}.0.1"',
        'input=setup.rpartition("\\n")[0]',
        "default network is the bridge",
        "no default route",
    ),
    Mistake(
        "04_net",
        '"link set eth0 up\\naddress add {address} dev eth0\\nroute add default via "',
        '"link set eth0 up\\nroute add default via "',
        "default network is the bridge",
        "only when eth0 is up and has its address",
    ),
    Mistake(
        "04_net",
        '"link set eth0 up\\naddress add',
        '"address add',
        "loopback is out of reach (bridge)",
        "only when eth0 is up and has its address",
    ),
    Mistake(
        "04_net",
        "        connect(container.pid)\n",
        "        pass\n",
        "loopback is out of reach (bridge)",
        "parent must run it, not child",
        second=(
            '    linux.link_up("lo")\n',
            '    linux.link_up("lo")\n    if args.net != "none":\n        connect(os.getpid())\n',
        ),
    ),
    Mistake(
        "04_net",
        'process.read("/run/workshop/pool").split(".")',
        '"100.64.0.0/10".split(".")',
        "address is in the pool",
        "/run/workshop/pool",
    ),
    Mistake(
        "04_net",
        '    if args.net != "none":\n        connect',
        "    if True:\n        connect",
        "has loopback only",
        "--net none",
    ),
    Mistake(
        "04_net",
        "[--net bridge|none]",
        "[--net KIND]",
        "unknown kind of network",
        r"USAGE lacks --net bridge\|none",
    ),
    Mistake(
        "04_net",
        "        connect(container.pid)\n",
        "        connect(container)\n",
        "address is derived from the pid",
        None,  # ip says that the name of the cable is not valid
    ),
    Mistake(
        "04_net",
        '    linux.link_up("lo")\n',
        "",
        "has loopback only",
        "loopback device",
        second=("        connect(container.pid)\n", "        connect(container)\n"),
    ),
    # 05_user
    Mistake(
        "05_user",
        "NAMESPACES |= linux.CLONE_NEWUSER",
        "",
        "root inside is user 100000",
        "CLONE_NEWUSER",
    ),
    Mistake(
        "05_user",
        FILESYSTEMS,
        "    trees = {}\n",
        "root inside is user 100000",
        "linux.fsmount before it",
        second=(CHDIR, CHDIR + FILESYSTEMS.replace("=", "|=", 1)),
    ),
    Mistake(
        "05_user",
        "    map_users(container.pid)\n",
        "",
        "root inside is user 100000",
        "uid_map",
    ),
    Mistake(
        "05_user",
        "    os.setuid(0)\n",
        "",
        "root inside is user 100000",
        r"os.setuid\(0\)",
    ),
    Mistake(
        "05_user",
        "    os.setgid(0)\n",
        "",
        "root inside is user 100000",
        r"os.setgid\(0\)",
    ),
    Mistake(
        "05_user",
        "os.setuid(0)",
        "os.setuid(100000)",
        "root inside is user 100000",
        "ids are those inside",
    ),
    Mistake(
        "05_user", "os.setgroups([])", "pass", "groups of the caller", "os.setgroups"
    ),
    Mistake(
        "05_user",
        "    if BY_ROOT:\n        os.setgroups",
        "    if True:\n        os.setgroups",
        "ordinary user is root inside",
        "only if BY_ROOT",
    ),
    Mistake(
        "05_user",
        "[linux.idmapped(args.image, container.pid)]",
        "[linux.open_tree(args.image)]",
        "files of the image belong",
        "linux.idmapped",
    ),
    Mistake(
        "05_user",
        'linux.move_mount(trees[0], "/mnt")',
        'linux.mount(args.image, "/mnt", None, linux.MS_BIND)',
        "files of the image belong",
        "parent opens the image",
    ),
    Mistake(
        "05_user",
        'args.net or ("bridge" if BY_ROOT else "none")',
        'args.net or "bridge"',
        "ordinary user has loopback only",
        "an ordinary user cannot connect a cable",
    ),
    Mistake(
        "05_user",
        '    process.write(f"/proc/{pid}/setgroups", "allow" if BY_ROOT else "deny")\n',
        "",
        "ordinary user has loopback only",
        "writing deny to /proc/PID/setgroups",
    ),
    Mistake(
        "05_user",
        '"0 100000 65536" if',
        '"0 0 65536" if',
        "root inside is user 100000",
        "must be 0 100000 65536",
    ),
    Mistake(
        "05_user",
        "process.wait(container, trees)",
        "process.wait(container)",
        "files of the image belong",
        "process.wait.*trees",
    ),
    Mistake(
        "05_user",
        "    trees = process.await_parent() or [linux.open_tree(args.image)]\n" + ROOT,
        ROOT + "    trees = process.await_parent() or [linux.open_tree(args.image)]\n",
        "command waits until its ids are mapped",
        "until its map is written",
    ),
    # 06_cgroup
    Mistake(
        "06_cgroup",
        ", cgroup=cgroup)",
        ")",
        "born in its cgroup",
        "does process.start get it as cgroup=",
    ),
    Mistake(
        "06_cgroup",
        '    process.write(f"{CGROUPS}/cgroup.subtree_control", controllers)\n',
        "",
        "born in its cgroup",
        "workshop/cgroup.subtree_control",
    ),
    Mistake(
        "06_cgroup",
        ", flags=NAMESPACES, cgroup=cgroup)",
        ", flags=NAMESPACES)\n"
        '    if cgroup:\n        process.write(f"{cgroup}/cgroup.procs", str(container.pid))',
        "sees its cgroup as the root",
        "born in the cgroup",
    ),
    Mistake(
        "06_cgroup",
        "    cgroup = limit(args) if args.memory or args.pids or args.cpus else None\n",
        "    cgroup = limit(args)\n",
        "without limits gets no cgroup",
        "only if one of the limits is given",
    ),
    Mistake(
        "06_cgroup",
        "killed by the kernel: out of memory, limit {args.memory}",
        "the container was killed",
        "memory hog is killed",
        None,  # expected and happened say it
    ),
    Mistake(
        "06_cgroup",
        '        process.complain(f"killed by the kernel: out of memory, limit {args.memory}")\n',
        "        pass\n",
        "memory hog is killed",
        "process.complain",
    ),
    Mistake(
        "06_cgroup",
        ', "memory.swap.max": args.memory and "0"',
        "",
        "sees its cgroup as the root",
        "memory.swap.max",
    ),
    Mistake(
        "06_cgroup",
        '"pids.max": args.pids, ',
        "",
        "process beyond the pids limit",
        "pids.max",
    ),
    Mistake(
        "06_cgroup",
        "or 0) * 100000:.0f",
        "or 0) * 200000:.0f",
        "half a cpu",
        "cpu.max",
    ),
    Mistake(
        "06_cgroup",
        "NAMESPACES |= linux.CLONE_NEWCGROUP",
        "",
        "sees its cgroup as the root",
        "CLONE_NEWCGROUP",
    ),
    Mistake(
        "06_cgroup",
        'MOUNTS |= {"/sys/fs/cgroup": "cgroup2"}\n',
        "",
        "sees its cgroup as the root",
        "/sys/fs/cgroup inside",
    ),
    Mistake(
        "06_cgroup",
        "process.temporary_directory(CGROUPS, os.rmdir, mode=0o755)",
        'f"{CGROUPS}/{os.getpid()}"\n    os.makedirs(cgroup)',
        "cgroup is removed with the container",
        "process.temporary_directory",
    ),
    Mistake(
        "06_cgroup",
        'value or "max")',
        "value)",
        "born in its cgroup",
        "write max",
    ),
    Mistake(
        "06_cgroup",
        "[--memory SIZE] [--pids COUNT] [--cpus CPUS]",
        "[--memory SIZE] [--pids COUNT]",
        "half a cpu",
        "USAGE lacks --cpus",
    ),
    # 07_overlay
    Mistake(
        "07_overlay",
        ' if BY_ROOT else os.path.expanduser("~/.workshop")',
        "",
        "ordinary user can use layers",
        "~/.workshop",
    ),
    Mistake(
        "07_overlay",
        "    trees = [linux.idmapped(p, container.pid) for p in args.paths if BY_ROOT]\n",
        "    trees = [linux.idmapped(p, container.pid) for p in args.paths[1:] if BY_ROOT]\n"
        "    trees[:0] = [linux.open_tree(args.paths[0])]\n",
        "root is an overlay",
        "linux.idmapped for .*own directory",
    ),
    Mistake(
        "07_overlay",
        "    trees = [linux.idmapped(p, container.pid) for p in args.paths if BY_ROOT]\n",
        "    trees = [linux.idmapped(p, container.pid) for p in args.paths[:1] if BY_ROOT]\n"
        "    trees += [linux.open_tree(p) for p in args.paths[1:]]\n",
        "files of every layer keep",
        "linux.idmapped",
    ),
    Mistake(
        "07_overlay",
        'f"{options},userxattr")',
        "options)",
        "whiteouts and opaque directories",
        "userxattr",
    ),
    Mistake(
        "07_overlay",
        ",upperdir={box}/upper,workdir={box}/work",
        "",
        "root is an overlay",
        "needs upperdir= and workdir=",
    ),
    Mistake(
        "07_overlay",
        ", most=228)",
        ", most=228)[:1]",
        "app finds its interpreter",
        "every layer",
    ),
    Mistake(
        "07_overlay",
        ", most=228)",
        ", most=228)[::-1]",
        "top one wins",
        "top layer first",
    ),
    Mistake(
        "07_overlay",
        'process.temporary_directory(f"{STATE}/containers", process.remove_tree)',
        'process.temporary_directory(f"{STATE}/containers", os.rmdir)',
        "thin layer is removed",
        "process.remove_tree",
    ),
    Mistake(
        "07_overlay",
        'process.temporary_directory(f"{STATE}/containers", process.remove_tree)',
        'f"{STATE}/containers/{os.getpid()}"\n    os.makedirs(box)',
        "thin layer is removed",
        "process.temporary_directory",
    ),
    Mistake(
        "07_overlay",
        "    stack(trees)\n",
        '    linux.move_mount(trees[1], "/mnt")\n',
        "root is an overlay",
        "not overlay",
    ),
    Mistake(
        "07_overlay",
        '    os.mkdir(f"{box}/work")\n',
        "",
        "root is an overlay",
        "upper and work",
    ),
    Mistake(
        "07_overlay",
        "args.paths = [box, *layers]",
        "args.paths = [*layers, box]",
        "root is an overlay",
        "own directory",
    ),
    Mistake(
        "07_overlay",
        '    if "/" not in args.image:\n',
        "    if True:\n",
        "writes vanish with the container",
        "the path of an image of one layer",
    ),
    # 08_image
    Mistake(
        "08_image",
        "IMAGE [COMMAND...]",
        "IMAGE COMMAND...",
        "command is that of the image",
        r"\[COMMAND\.\.\.\] in USAGE",
    ),
    Mistake(
        "08_image",
        '(args.config.get("Entrypoint") or [])',
        'args.config.get("Entrypoint", [])',
        "command is that of the image",
        "missing or None",
    ),
    Mistake(
        "08_image",
        '(args.config.get("Entrypoint") or []) + args.command',
        'args.command + (args.config.get("Entrypoint") or [])',
        "command is that of the image",
        None,
    ),
    Mistake(
        "08_image",
        """    if "/" in image or not os.path.exists(f"{STATE}/origins/{image}"):
        return {}
""",
        "",
        "image without a config",
        "no file in origins",
    ),
    Mistake(
        "08_image",
        'os.path.realpath(args.config.get("WorkingDir") or "/")',
        '(args.config.get("WorkingDir") or "/")',
        "open descriptor",
        "os.path.realpath",
    ),
    Mistake(
        "08_image",
        "    os.makedirs(directory, exist_ok=True)\n",
        "",
        "working directory is that of the image",
        "os.makedirs",
    ),
    Mistake(
        "08_image",
        """    if BY_ROOT:
        os.setgroups(user.groups)
    os.setgid(user.gid)
    os.setuid(user.uid)
""",
        """    os.setuid(user.uid)
    os.setgid(user.gid)
    os.setgroups(user.groups)
""",
        "user is that of the image",
        "the user last",
    ),
    Mistake(
        "08_image",
        "    os.setuid(user.uid)\n",
        "",
        "user of the image has no capabilities",
        r"os\.setuid",
    ),
    Mistake(
        "08_image",
        '    user = process.find_user(args.config.get("User") or "0")\n',
        "",
        "user is that of the image",
        "after enter_root",
        (
            '    enter_root("/mnt")\n',
            '    user = process.find_user(args.config.get("User") or "0")\n'
            '    enter_root("/mnt")\n',
        ),
    ),
    Mistake(
        "08_image",
        "        os.setgroups(user.groups)\n",
        "        pass\n",
        "user is that of the image",
        None,
    ),
    Mistake(
        "08_image",
        '    variables = {"HOME": user.home}\n',
        "    variables = {}\n",
        "home is that of the user",
        None,
    ),
]
