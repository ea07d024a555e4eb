"""What is known of a container: a file, and what the kernel says of its first process."""

import json
import os
import types

import cgroups
import errors
import process
from spec import VERSION


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
    if not box.pid:
        return "creating"
    if born(box.pid) != box.born:
        return "stopped"
    if os.path.exists(f"{box.place}/start"):
        return "created"
    return "paused" if box.cgroup and cgroups.frozen(box.cgroup) else "running"


def described(box, word):
    """Returns a container's state as `state` prints it and as hooks read it."""
    text = {"ociVersion": VERSION, "id": box.name, "status": word, "bundle": box.bundle}
    if box.pid and word != "stopped":
        text["pid"] = box.pid
    text["rootfs"] = os.path.join(box.bundle, box.config["root"]["path"])
    text["created"] = box.created
    if box.manager == "systemd" and box.cgroup:
        text["systemd-scope"] = os.path.basename(box.cgroup)
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
