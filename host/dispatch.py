"""The command line: which subcommands exist, and how each one runs."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from host import settings, streams
from host.errors import LabError, UsageError
from host.guest import become
from host.lab import Lab
from host.processes import quote
from host.progress import JsonProgress, Progress
from host.providers import choose

# The file in host/commands, and its line of help.
COMMANDS = {
    "up": "start the lab (the first time, build it) and show a container",
    "ssh": "open a shell in the VM, or run one command: ./lab ssh [-- COMMAND]",
    "doctor": "check this machine, and say what to type if something is missing",
    "status": "show what exists, what is running, and where JupyterLab is",
    "test": "run the tests in a VM that is thrown away (--all runs everything)",
    "down": "stop the VM; its disk stays",
    "kernel": "use the VM as a kernel in your own Jupyter or VS Code",
    "destroy": "remove the VM (--all: its image too); my/ always stays",
}
FOR_OTHERS = {
    "slides": "write the lessons as slides, with their output; they need no network",
    "site": "write the lessons, the code and the docs as a web site",
    "rehearse": "play the whole talk (20, 45 or 90 minutes), the evening before",
    "grade": "grade a class's container.py files, each in a VM of its own",
    "pack": "put the lab on a USB stick, for machines without a network",
    "box": "make a Vagrant box (for libvirt) from the VM's image",
    "classroom": "run JupyterHub on this server, with a VM for each student",
    "bench": "compare the runtime with others, in a VM that is thrown away",
    "proof": "measure every figure in docs/PROOF.md again (three hours if emulated)",
}
# Other parts of the lab start these.
INTERNAL = {"seat": "a student's VM", "local-root": "the part of LAB=local for root"}
# The guide's own subcommands; if a name is in both lists, the host's runs.
GUIDE = """
    progress start check watch hint diff solve reset undo breakout report class demo
    welcome image commit clean inspect
""".split()


class Parser(argparse.ArgumentParser):
    """argparse's parser, with errors as this program prints them."""

    def error(self, message: str) -> NoReturn:
        usage = " ".join(self.format_usage().split()).replace("usage:", "Usage:")
        raise UsageError(f"{self.prog.partition(' ')[2]}: {message}", usage)


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Runs a command line. Returns the exit status."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        record(arguments, environment)
        status = run(arguments, environment)
    except SystemExit as end:  # of argparse, after --help, or of a signal
        status = end.code if isinstance(end.code, int) else 0
    except LabError as error:
        return report(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader, such as head, has seen enough
        streams.flush()
        return 141
    except subprocess.CalledProcessError as error:
        return report(LabError(f"this command failed: {quote(words(error.cmd))}"))
    except OSError as error:
        parts = (error.filename, error.strerror or error)
        return report(LabError(": ".join(str(part) for part in parts if part)))
    lost = streams.flush()
    if isinstance(lost, BrokenPipeError):
        return 141
    return report(unwritten(lost)) if lost else status


def record(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Appends the command line to the file that LAB_COMMANDS names, if it is set:
    tests/documented.py reads that file."""
    if environment.get("LAB_COMMANDS"):
        way = f"LAB={environment['LAB']} " if environment.get("LAB") else ""
        with open(environment["LAB_COMMANDS"], "a") as file:
            file.write(f"{way}./lab {' '.join(arguments)}\n")


def words(command: object) -> list[str]:
    return list(map(str, command)) if isinstance(command, list) else [str(command)]


def report(error: LabError) -> int:
    """Prints what went wrong and what to do. Returns the exit status."""
    lost = streams.flush()  # what was printed comes before the error
    if lost and not isinstance(lost, BrokenPipeError):
        error = unwritten(lost)
    advice = [f"     {line}" for line in error.advice]
    streams.complain(f"lab: {error.sentence}", *advice)
    return error.status


def unwritten(error: OSError) -> LabError:
    return LabError(f"the output cannot be written: {error.strerror}")


def run(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    name, *rest = arguments or ["help"]
    if name in ("help", "-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"lab {version()}")
        return 0
    if name in GUIDE:
        return guide(Lab(settings.read(environment), Progress()), name, rest)
    if name not in {**COMMANDS, **FOR_OTHERS, **INTERNAL}:
        raise unknown(name)
    module = importlib.import_module(f"host.commands.{name.replace('-', '_')}")
    parser = Parser(
        prog=f"./lab {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    own, others = split(rest, getattr(module, "OWN_OPTIONS", None))
    options = parser.parse_args(own)
    options.arguments = others
    progress = JsonProgress() if name == "seat" else Progress()
    status: int = module.run(Lab(settings.read(environment), progress), options)
    return status


def split(
    words: Sequence[str], own: Mapping[str, bool] | None
) -> tuple[list[str], list[str]]:
    """Splits off a subcommand's own options from the words that it passes on unchanged.
    `own` says for each option whether it takes a value; None means that all words are
    the subcommand's own."""
    if own is None:
        return list(words), []
    end = 0
    while end < len(words) and words[end].partition("=")[0] in own:
        takes_value = own[words[end].partition("=")[0]] and "=" not in words[end]
        end += 2 if takes_value else 1
    return list(words[:end]), list(words[end:])


def guide(lab: Lab, name: str, rest: Sequence[str]) -> int:
    """Runs a subcommand of the guide, in the lab."""
    provider = choose.provider(lab)
    provider.need_running()
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return become(provider.argv(f"workshop {quote([name, *rest])}", terminal))


def unknown(name: str) -> UsageError:
    known = [*COMMANDS, *FOR_OTHERS, *GUIDE]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UsageError(
        f"unknown subcommand {name!r}.{hint}", "./lab help lists all subcommands."
    )


def version() -> str:
    """Returns the project's version, which is that of the guide."""
    text = (settings.PROJECT / "workshop/__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]*)"', text, re.M)
    return found[1] if found else "unknown"


def usage() -> str:
    """Returns the help page."""
    lines = ["usage: ./lab SUBCOMMAND [ARGUMENTS]", ""]
    for title, commands in ("", COMMANDS), ("For others", FOR_OTHERS):
        lines += ["", title] if title else []
        lines += [f"  {name:10} {about}" for name, about in commands.items()]
    lines += ["", "In the VM, as `workshop SUBCOMMAND`", f"  {' '.join(GUIDE[:9])}"]
    lines += [f"  {' '.join(GUIDE[9:])}", ""]
    lines += ["./lab SUBCOMMAND --help explains one of them; ./lab --version prints"]
    lines += ["the version. Settings are environment variables:"]
    lines += [f"  {name:24} {about}" for name, about in SETTINGS.items()]
    return "\n".join(lines)


SETTINGS = {
    "LAB=qemu|vagrant|local": "how to get the VM; local works without one",
    "LAB_DIR=DIRECTORY": "where to keep the image, disk and keys (.lab)",
    "LAB_MEMORY=MB": "the VM's memory (2048)",
    "LAB_CPUS=NUMBER": "its processors (2, or 1 if emulated)",
    "LAB_MIRROR=URL": "another mirror to take Debian's packages from",
    "LAB_ARCH=amd64|arm64": "a processor other than this machine's, for the tests",
    "LAB_SUITE=CODENAME": "a Debian release other than trixie, for the tests",
}
