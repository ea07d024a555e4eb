"""What config.json means, as tables and pure functions: runtime-spec, config.md, config-linux.md.

Nothing here changes anything on the machine, so tests/unit can try all of it.
"""

import os
import resource
import types

import kernel
import linux

VERSION = "1.2.0"  # of the specification

# By type: the name of the file in /proc/PID/ns, and the flag of clone(2).
NAMESPACES = {"user": ("user", linux.CLONE_NEWUSER), "pid": ("pid", linux.CLONE_NEWPID)}
NAMESPACES |= {
    "mount": ("mnt", linux.CLONE_NEWNS),
    "network": ("net", linux.CLONE_NEWNET),
}
NAMESPACES |= {"uts": ("uts", linux.CLONE_NEWUTS), "ipc": ("ipc", linux.CLONE_NEWIPC)}
NAMESPACES |= {"cgroup": ("cgroup", linux.CLONE_NEWCGROUP)}
NAMESPACES |= {"time": ("time", kernel.CLONE_NEWTIME)}

# Options of a mount that mount_setattr(2) sets: what to set, what to clear. With an r in
# front, as in "rro", they are for everything below, too.
_ATIME = 0x70  # a number, not flags: relatime is 0
ATTRIBUTES = {"ro": (0x1, 0), "rw": (0, 0x1), "nosuid": (0x2, 0), "suid": (0, 0x2)}
ATTRIBUTES |= {"nodev": (0x4, 0), "dev": (0, 0x4), "noexec": (0x8, 0), "exec": (0, 0x8)}
ATTRIBUTES |= {"noatime": (0x10, _ATIME), "atime": (0, _ATIME), "relatime": (0, _ATIME)}
ATTRIBUTES |= {"strictatime": (0x20, _ATIME), "norelatime": (0x20, _ATIME)}
ATTRIBUTES |= {
    "nostrictatime": (0, _ATIME),
    "nodiratime": (0x80, 0),
    "diratime": (0, 0x80),
}
ATTRIBUTES |= {"nosymfollow": (0x200000, 0), "symfollow": (0, 0x200000)}
PROPAGATION = {"private": linux.MS_PRIVATE, "shared": kernel.MS_SHARED}
PROPAGATION |= {"slave": kernel.MS_SLAVE, "unbindable": kernel.MS_UNBINDABLE}
# The runtime's own, or what is so anyway.
IGNORED = "bind rbind idmap ridmap tmpcopyup defaults async nodirsync nolazytime nomand"
IGNORED += " mand remount silent loud iversion noiversion copy-symlink"
# What a filesystem takes as a whole, for all of its mounts.
SUPERBLOCK = "sync dirsync lazytime"

# The namespace that a sysctl belongs to, by the beginning of its name: sysctl(2), ipc(5).
SYSCTLS = {
    "net.": "network",
    "fs.mqueue.": "ipc",
    "kernel.msg": "ipc",
    "kernel.sem": "ipc",
}
SYSCTLS |= {"kernel.shm": "ipc", "kernel.domainname": "uts"}

_DEFAULTS = {"namespaces": [], "uidMappings": [], "gidMappings": [], "sysctl": {}}
_DEFAULTS |= {"devices": [], "maskedPaths": [], "readonlyPaths": [], "resources": {}}
_DEFAULTS |= {
    "cgroupsPath": "",
    "rootfsPropagation": "",
    "timeOffsets": {},
    "seccomp": None,
}
HOOKS = "prestart createRuntime createContainer startContainer poststart poststop"


def checked(config):
    """Returns a config.json with everything in it that it may leave out.

    ValueError: it lacks what it must have, or contradicts itself.
    """
    if str(config.get("ociVersion")).split(".")[0] != "1":
        raise ValueError(f"ociVersion {config.get('ociVersion')!r} is not 1.x.y")
    # Only `start` needs a process: config.md, Process.
    root, wanted = config.get("root") or {}, config.get("process") or {"cwd": "/"}
    if not root.get("path"):
        raise ValueError("root.path is missing")
    if "process" in config and not wanted.get("args"):
        raise ValueError("process.args is missing")
    if not str(wanted.get("cwd")).startswith("/"):
        raise ValueError(f"process.cwd {wanted.get('cwd')!r} is not an absolute path")
    limits = [limit["type"] for limit in wanted.get("rlimits") or ()]
    for name in limits:
        if limits.count(name) > 1 or not hasattr(resource, name):
            raise ValueError(f"process.rlimits: {name} is unknown, or there twice")
    wanted = wanted | {"user": {"uid": 0, "gid": 0} | (wanted.get("user") or {})}
    own = {
        key: (config.get("linux") or {}).get(key) or _DEFAULTS[key] for key in _DEFAULTS
    }
    own["personality"] = (config.get("linux") or {}).get("personality")
    own["devices"] = list(own["devices"])
    kinds = [namespace["type"] for namespace in own["namespaces"]]
    for kind in kinds:
        if kind not in NAMESPACES or kinds.count(kind) > 1:
            raise ValueError(f"linux.namespaces: {kind} is unknown, or there twice")
    if "mount" not in kinds:
        raise ValueError(
            "linux.namespaces has no mount namespace, so / would be the host's"
        )
    for name in own["sysctl"]:
        sysctl_namespace(name)
    for kind in "uidMappings", "gidMappings":
        own[kind] = own[kind] or [
            {
                "containerID": 0,
                "hostID": 0,
                "size": 2**32 - 1,
            }  # of a new user namespace
        ]
    mounts = [
        {"type": "", "source": ""}
        | {key: value for key, value in mount.items() if value is not None}
        | {"destination": os.path.normpath("/" + mount["destination"].lstrip("/"))}
        | {"options": mount.get("options") or []}
        for mount in config.get("mounts") or ()
    ]
    hooks = {
        kind: list_ for kind, list_ in (config.get("hooks") or {}).items() if list_
    }
    for hook in sum(hooks.values(), []):
        if not hook["path"].startswith("/"):
            raise ValueError(f"hook {hook['path']!r} is not an absolute path")
    full = {"root": {"readonly": False} | root, "process": wanted, "linux": own}
    full |= {"mounts": mounts, "hooks": hooks}
    return config | full | {"annotations": config.get("annotations") or {}}


def mount_flags(options):
    """Returns what the options of a mount mean: attributes to set (on) and to clear (off),
    its propagation, the same for all below (all_...), and lists of words for the filesystem
    as a whole (superblock) and of its own (data)."""
    flags = dict.fromkeys(
        "on off propagation all_on all_off all_propagation".split(), 0
    )
    found = types.SimpleNamespace(**flags, superblock=[], data=[])
    for option in options:
        plain, deep = (
            option,
            option[:1] == "r" and option[1:] in {**ATTRIBUTES, **PROPAGATION},
        )
        if deep:
            plain = option[1:]
        prefix = "all_" if deep else ""
        if plain in ATTRIBUTES:
            on, off = ATTRIBUTES[plain]
            # The last of two that contradict each other counts.
            was_on, was_off = (
                getattr(found, prefix + "on"),
                getattr(found, prefix + "off"),
            )
            setattr(found, prefix + "on", was_on & ~off | on)
            setattr(found, prefix + "off", was_off & ~on | off)
        elif plain in PROPAGATION:
            setattr(found, prefix + "propagation", PROPAGATION[plain])
        elif option in SUPERBLOCK.split():
            found.superblock.append(option)
        elif option not in IGNORED.split():
            found.data.append(option)
    return found


def sysctl_namespace(name):
    """Returns the type of the namespace that a sysctl belongs to. ValueError: it belongs to
    none, so to set it would change the host."""
    for beginning, kind in SYSCTLS.items():
        if name.replace("/", ".").startswith(beginning):
            return kind
    raise ValueError(f"sysctl {name} is not allowed: it belongs to no namespace")


def map_lines(mappings):
    """Returns the lines for uid_map or gid_map: user_namespaces(7)."""
    keys = "containerID", "hostID", "size"
    return "\n".join(
        " ".join(str(mapping[key]) for key in keys) for mapping in mappings
    )


def host_id(number, mappings):
    """Returns what a number inside is outside. ValueError: it is nobody's."""
    for mapping in mappings:
        offset = number - mapping["containerID"]
        if 0 <= offset < mapping["size"]:
            return mapping["hostID"] + offset
    raise ValueError(f"the id {number} has no mapping")


def features():
    """Returns what this runtime can do: features.md."""
    words = [*ATTRIBUTES, *PROPAGATION]
    words += [f"r{word}" for word in words] + IGNORED.split() + SUPERBLOCK.split()
    actions = [f"SCMP_ACT_{name}" for name in kernel.ACTIONS]
    operators = [f"SCMP_CMP_{name}" for name in kernel.OPERATORS]
    seccomp = {"enabled": True, "actions": sorted(actions), "operators": operators}
    flags = [f"SECCOMP_FILTER_FLAG_{name}" for name in kernel.FLAGS]
    seccomp |= {"knownFlags": flags, "supportedFlags": flags}
    groups = {
        "v1": False,
        "v2": True,
        "systemd": True,
        "systemdUser": False,
        "rdma": True,
    }
    own = {"namespaces": sorted(NAMESPACES), "cgroup": groups, "seccomp": seccomp}
    own["capabilities"] = [f"CAP_{name}" for name in linux.CAP]
    own |= {"apparmor": {"enabled": True}, "selinux": {"enabled": True}}
    own |= {
        "intelRdt": {"enabled": False},
        "mountExtensions": {"idmap": {"enabled": True}},
    }
    versions = {"ociVersionMin": "1.0.0", "ociVersionMax": VERSION}
    return versions | {
        "hooks": HOOKS.split(),
        "mountOptions": sorted(words),
        "linux": own,
    }
