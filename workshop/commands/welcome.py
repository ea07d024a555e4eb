"""`workshop welcome [--port PORT | --screen]`: the lab's last screen.

Runs the same few commands on the host and in a container, and shows the answers
side by side. With --port, the port where your machine forwards JupyterLab, its
address follows. With --screen it follows too, for the VM's own screen, from which
nothing can be copied: as short as it can be.
"""

import argparse
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PROJECT = Path(__file__).resolve().parent.parent
TOKEN = Path("/etc/workshop/token")
FIRST = "notebooks/00_what_is_a_container.ipynb"
NAMESPACES = ["uts", "ipc", "pid", "mnt", "net", "user", "cgroup"]

# What is asked, of the host and of the container alike: a line for each answer.
QUESTIONS = """
cat /proc/sys/kernel/hostname
echo $$
echo $(ls /)
for name in {}; do readlink /proc/self/ns/$name; done
""".format(" ".join(NAMESPACES))


def newest_step():
    """The container.py of the highest step that is finished (can be executed), or None."""
    rooms = sorted(PROJECT.glob("steps/[0-9][0-9]_*"), reverse=True)
    for room in rooms:
        step = room / "container.py"
        if os.access(step, os.X_OK):
            return step
    return None


def ask(command):
    """The answers, with `command` as what runs the shell; None and why if it fails."""
    try:
        run = subprocess.run(
            [*command, "sh", "-c", QUESTIONS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, str(error)
    answers = run.stdout.splitlines()
    if run.returncode or len(answers) != 3 + len(NAMESPACES):
        return None, run.stderr.strip() or f"exit status {run.returncode}"
    return answers, ""


def container(step):
    """How this step is told to run a command: it grows an argument now and then."""
    usage = subprocess.run(
        [step, "run", "--help"],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    words = usage.stdout + usage.stderr
    command = [str(step), "run"]
    if "--hostname" in words:
        command += ["--hostname", "container"]
    if "--net" in words:
        command += ["--net", "none"]
    if "IMAGE" in words:
        command += ["debian"]
    return command


def table(step, host, inside, lines):
    title = f"One kernel, two views: steps/{step.parent.name}"
    grid = Table(title=title, title_justify="left", box=lines)
    grid.add_column("")
    grid.add_column("host")
    grid.add_column("container")
    grid.add_column("")
    names = ["hostname", "pid of the command", "ls /"]
    names += [f"{name} namespace" for name in NAMESPACES]
    for name, left, right in zip(names, host, inside, strict=True):
        if name.endswith("namespace"):  # "uts:[4026531838]": the number is the name
            left, right = left.partition(":")[2], right.partition(":")[2]
        # The shell's own number differs each time it runs: only 1 says something.
        differs = right == "1" if name.startswith("pid of") else left != right
        mark = Text("differs", "bold green") if differs else Text("the same", "dim")
        grid.add_row(name, Text(left), Text(right), mark)
    return grid


def wait_for_jupyter(seconds):
    """Whether JupyterLab answers within this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            urllib.request.urlopen("http://127.0.0.1:8888/login", timeout=5).close()
            return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            time.sleep(0.3)
    return False


def addresses(options):
    """Where your machine's browser finds JupyterLab: a line for each way."""
    token = TOKEN.read_text().strip()
    if not options.screen:
        path = f"lab/tree/{FIRST}" if (PROJECT / FIRST).exists() else "lab"
        return [f"http://127.0.0.1:{options.port}/{path}?token={token}"]
    # VirtualBox forwards a port; from VMware's host the VM's own address can be reached.
    lines = [f"http://127.0.0.1:8888/?token={token}"]
    own = subprocess.run(
        ["hostname", "-I"], capture_output=True, check=False, text=True
    ).stdout.split()
    if own:
        lines.append(f"with VMware: http://{own[0]}:8888/?token={token}")
    return lines


def main(arguments):
    parser = argparse.ArgumentParser(prog="workshop welcome")
    parser.add_argument("--port", type=int, help="where the host forwards JupyterLab")
    parser.add_argument("--screen", action="store_true", help="on the VM's own screen")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)

    failed = False
    step = newest_step()
    if step is None:
        console.print("No step is finished yet: there is no container to show.")
    else:
        host, why = ask([])
        inside = None
        if host:
            inside, why = ask(container(step))
        if why:
            console.print(
                f"steps/{step.parent.name} made no container:", style="bold red"
            )
            console.print(Text(why))
            failed = True
        else:
            # The letters of a VM's own screen have thin lines only.
            lines = box.SQUARE if options.screen else box.HEAVY_HEAD
            console.print(table(step, host, inside, lines))

    if options.port or options.screen:
        if not wait_for_jupyter(180):
            console.print("JupyterLab does not answer.", style="bold red")
            prefix = "" if options.screen else "./lab ssh -- "
            console.print(f"Why: {prefix}sudo journalctl -u jupyter")
            return 1
        console.print("\n[bold]JupyterLab[/bold], in your browser:")
        for line in addresses(options):
            console.print(Text("  " + line, style="cyan"), soft_wrap=True)
    console.print("\n[bold]Next[/bold]")
    console.print("  open that page: the first lesson is there")
    if options.screen:
        console.print("  workshop        the guide, in this terminal")
        console.print("  sudo poweroff   when you are done for today")
    else:
        console.print("  ./lab ssh     a shell in the VM")
        console.print("  ./lab test    the tests, in a VM of their own")
        console.print("  ./lab down    when you are done for today")
    return int(failed)
