"""`workshop welcome [--port PORT | --screen]`: shows a container, and where JupyterLab is.

It asks the host and a container the same questions, and shows the answers side by side. It is
the last thing that ./lab up prints, and the first on the screen of a VM that was started
without ./lab.
"""

import argparse
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from rich.box import HEAVY_HEAD, SQUARE
from rich.console import Console
from rich.text import Text

from workshop import comparison, facts, progress
from workshop.command_line import FAILED, Parser
from workshop.errors import Failure
from workshop.project import STORY, Step, lessons
from workshop.workspace import Workspace, shown

TOKEN = Path("/etc/workshop/token")  # that JupyterLab asks for
JUPYTER = "http://127.0.0.1:8888/login"
TIMEOUT = 180  # seconds that the start of JupyterLab may take


def main(arguments: list[str]) -> int:
    """Prints the welcome. Returns the exit status: FAILED if the container or JupyterLab did
    not start."""
    parser = Parser(prog="workshop welcome")
    text = "also print JupyterLab's address; PORT leads to it on your machine"
    parser.add_argument("--port", type=int, help=text)
    text = "also print JupyterLab's address, for the VM's own screen"
    parser.add_argument("--screen", action="store_true", help=text)
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    compared = compare(console, options.screen)
    if options.port or options.screen:
        if not jupyter_answers():
            console.print("JupyterLab does not answer.", style="bold red")
            prefix = "" if options.screen else "./lab ssh -- "
            console.print(f"Its log: {prefix}sudo journalctl -u jupyter")
            return FAILED
        console.print("\n[bold]JupyterLab[/bold], in your browser:")
        for line in addresses(options):
            console.print(Text("  " + line, style="cyan"), soft_wrap=True)
    console.print("\n[bold]Next[/bold]")
    console.print(f"  open JupyterLab: lesson {int(current_step().number)} is next")
    if options.screen:
        console.print("  workshop        the guide, in this terminal")
        console.print("  sudo poweroff   when you are done for today")
    else:
        console.print("  ./lab ssh     a shell in the VM")
        console.print("  ./lab test    the tests, in a VM of their own")
        console.print("  ./lab down    when you are done for today")
    return 0 if compared else FAILED


def current_step() -> Step:
    """Returns the step that the learner works on."""
    workspace = Workspace.current()
    return facts.current_step(workspace, progress.load(workspace))


def compare(console: Console, on_screen: bool) -> bool:
    """Prints what host and container answer, or why the container did not start. Returns
    whether it did."""
    step = STORY[-1]
    try:
        host, inside = comparison.ask([]), comparison.ask_container(step)
    except (Failure, OSError) as error:
        text = f"steps/{step.name} did not start a container:"
        console.print(text, style="bold red")
        console.print(Text(str(error)))
        return False
    title = f"One kernel, two views: steps/{step.name}"
    lines = SQUARE if on_screen else HEAVY_HEAD  # a VM's own screen has thin lines only
    console.print(comparison.table(title, host, inside, lines))
    return True


def jupyter_answers() -> bool:
    """Waits until JupyterLab answers. Returns False if it does not within TIMEOUT seconds."""
    end = time.monotonic() + TIMEOUT
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(JUPYTER, timeout=5).close()
            return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            time.sleep(0.3)
    return False


def addresses(options: argparse.Namespace) -> list[str]:
    """Returns the addresses of JupyterLab for the browser of your machine, one per line."""
    token = TOKEN.read_text().strip()
    if not options.screen:
        [lesson] = lessons([current_step().number])
        path = f"lab/tree/{shown(lesson)}"
        return [f"http://127.0.0.1:{options.port}/{path}?token={token}"]
    # Nothing can be copied from the VM's own screen, so these are short. VirtualBox forwards
    # a port; VMware's host reaches the VM's own address.
    lines = [f"http://127.0.0.1:8888/?token={token}"]
    hostname = ["hostname", "-I"]
    own = subprocess.run(hostname, capture_output=True, text=True).stdout.split()
    if own:
        lines.append(f"with VMware: http://{own[0]}:8888/?token={token}")
    return lines
