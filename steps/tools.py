"""Uses the host's tools and the kernel's files, as a shell script does with ip, cat, echo."""

import os


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


def write(path: str, text: str, hint: str = "") -> None:
    """Writes text to an existing file of the kernel in a single write(2), as such files want
    it. OSError: the kernel refuses it; the error has path, text and the hint, which says
    what to do."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        refused = OSError(error.errno, error.strerror, path, None, text)
        if hint:
            refused.add_note(hint)
        raise refused from None
