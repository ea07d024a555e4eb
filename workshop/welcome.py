"""`workshop welcome [--port PORT]`: the lab's last screen.

Runs the same few commands on the host and in a container, and shows the answers
side by side. With --port, the port where your machine forwards JupyterLab, its
address follows.
"""

import argparse
import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

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


def table(step, host, inside):
    grid = Table(
        title=f"One kernel, two views: steps/{step.parent.name}", title_justify="left"
    )
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


def main(arguments):
    parser = argparse.ArgumentParser(prog="workshop welcome")
    parser.add_argument("--port", type=int, help="where the host forwards JupyterLab")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)

    failed = False
    step = newest_step()
    if step is None:
        console.print("No step is finished yet: there is no container to show.")
    else:
        host, why = ask([])
        if host:
            inside, why = ask(container(step))
        if why:
            console.print(
                f"steps/{step.parent.name} made no container:", style="bold red"
            )
            console.print(Text(why))
            failed = True
        else:
            console.print(table(step, host, inside))

    if options.port:
        if not wait_for_jupyter(90):
            console.print("JupyterLab does not answer.", style="bold red")
            console.print("Why: ./lab ssh -- sudo journalctl -u jupyter")
            return 1
        path = f"lab/tree/{FIRST}" if (PROJECT / FIRST).exists() else "lab"
        url = (
            f"http://127.0.0.1:{options.port}/{path}?token={TOKEN.read_text().strip()}"
        )
        console.print("\n[bold]JupyterLab[/bold], in your browser:")
        console.print(Text("  " + url, style="cyan"), soft_wrap=True)
    console.print("\n[bold]Next[/bold]")
    console.print("  open that page: the first lesson is there")
    console.print("  ./lab ssh     a shell in the VM")
    console.print("  ./lab test    the whole suite")
    console.print("  ./lab down    when you are done for today")
    return int(failed)
