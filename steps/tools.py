"""Uses the host's tools and the kernel's files, as a shell script does with ip, cat, echo."""

import errno
import os

TYPE_CHECKING = False  # importing typing would take 8 ms
if TYPE_CHECKING:
    from typing import Any

_IN_CONTAINER = "as in a container: use the lab's VM"
# What to do if the kernel refuses to write to one of its files, by name and error.
_HINTS = {
    "cgroup.subtree_control": {
        errno.EACCES: f"this root may not change cgroups, {_IN_CONTAINER}",
        errno.EBUSY: "a cgroup that has processes itself cannot limit others, and this one "
        "has (cgroups(7), no internal processes): use the lab's VM",
        errno.EINVAL: "limits need cgroup v2 with the controllers cpu, memory and pids",
        errno.ENOENT: "limits need cgroup v2 with the controllers cpu, memory and pids",
        errno.EROFS: f"cgroups are read-only here, {_IN_CONTAINER}",
    },
    "uid_map": {errno.EPERM: f"this root may not map users, {_IN_CONTAINER}"},
}
if os.geteuid():
    _HINTS["cgroup.subtree_control"][errno.EACCES] = (
        "limits need root: try again with sudo"
    )
    _HINTS["uid_map"][errno.EPERM] = (
        "this machine restricts user namespaces of ordinary users: try again with sudo"
    )


def run(command: str, *arguments: object, input: str = "", hint: str = "") -> str:
    """Runs a tool and waits for it. Returns its stdout.

    command: its words, separated by spaces; arguments: further words, which may have spaces;
    input: its stdin. SystemExit: the tool failed; the line has its first complaint and the
    hint, which says what to do.
    """
    words = [*command.split(), *map(str, arguments)]
    streams = [os.memfd_create(words[0]) for _ in range(3)]
    os.write(streams[0], input.encode())
    os.lseek(streams[0], 0, os.SEEK_SET)
    actions = [(os.POSIX_SPAWN_DUP2, stream, n) for n, stream in enumerate(streams)]
    pid = os.posix_spawnp(words[0], words, os.environ, file_actions=actions)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    texts = []
    for stream in streams:
        os.lseek(stream, 0, os.SEEK_SET)
        with open(stream, errors="replace") as file:
            texts.append(file.read())
    if status:
        first = (texts[2].strip() or f"exit status {status}").splitlines()[0]
        line = f"{' '.join(words[:3])}: {first}"
        raise SystemExit(f"{line}; {hint}" if hint else line)
    return texts[1]


def read(path: str | os.PathLike[str]) -> str:
    """Returns the text of a file. os.fsdecode keeps bytes that are not text."""
    with open(path, "rb", buffering=0) as file:
        return os.fsdecode(file.read())


def read_lines(path: str, most: int) -> list[str]:
    """Returns the lines of a list in a file. SystemExit: the list is empty, or has a blank
    line, or a line twice, or more than `most` lines."""
    text = read(path)
    lines = text.removesuffix("\n").split("\n")
    if not text.strip():
        raise SystemExit(f"{path} is empty")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise SystemExit(f"{path}: line {number} is blank")
        if line in lines[: number - 1]:
            raise SystemExit(
                f"{path}: line {number} repeats line {lines.index(line) + 1}"
            )
    if len(lines) > most:
        raise SystemExit(f"{path} has {len(lines)} lines, but {most} are the most here")
    return lines


def read_json(path: str) -> "Any":
    """Returns the contents of a JSON file. ValueError: it is not JSON."""
    import json  # takes 5 ms, and only images from outside need it

    return json.loads(read(path))


def read_counts(path: str) -> dict[str, int]:
    """Returns a file that has a name and a number on each line, such as memory.events."""
    pairs = [line.split() for line in read(path).splitlines()]
    return {name: int(number) for name, number in pairs}


def write(path: str, text: str, hint: str = "") -> None:
    """Writes text to an existing file of the kernel in a single write(2), as such files want
    it. OSError: the kernel refuses it; the error has path, text, and what to do about it,
    which is the hint if this module knows nothing better."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        refused = OSError(error.errno, error.strerror, path, None, text)
        hint = _HINTS.get(os.path.basename(path), {}).get(error.errno or 0, hint)
        if hint:
            refused.add_note(hint)
        raise refused from None
