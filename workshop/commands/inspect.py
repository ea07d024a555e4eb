"""`workshop inspect [CONTAINER]`: host and container side by side, as the kernel has them.

CONTAINER is the pid of a runtime or of a process in its container, or the container's host
name; without it, the only one that runs. It looks at whatever a container.py runs, of any
step, finished or not, and at any other process whose pid it is given. In a terminal the
picture is live; --once, or a pipe, gets one. In a notebook, `%inspect PID or NAME-OF-A-BOX`.

Everything is read from outside: /proc/PID, the cgroup's files, and what the host's own tools
say after nsenter(1) has put them into a namespace. Nothing of the container's is run, no path
is followed through its root, and a name that it chose is shown with its control characters
escaped.
"""

import contextlib
import html
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import textwrap
from collections import namedtuple
from itertools import zip_longest
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from workshop import containers, images, procfs
from workshop.command_line import Parser
from workshop.errors import Failure
from workshop.terminal import keys_one_by_one, printable

KINDS = ["uts", "ipc", "pid", "mnt", "net", "user", "cgroup", "time"]  # of namespaces
CGROUPS = "/sys/fs/cgroup"
COLUMNS = 7, 36, 52  # what it is, on the host, in the container
WIDTH = 100  # of all that, with what is between
MOST = 8  # lines of any list
REFRESH = 1.0  # seconds from one live picture to the next

# Asked in a namespace and outside. The host name comes last: it can be anything.
QUESTIONS = """
wc -l </proc/sysvipc/msg; echo --
ip -brief address show; echo --
ip route show; echo --
cat /proc/sys/kernel/hostname
"""

# runtime: the pid of a container.py, or of whatever else is the parent; pid: the container's
# first process, as the host counts; command: the words of the runtime's command line.
Container = namedtuple("Container", "runtime pid command")

# inside: its pid in the innermost pid namespace; uid: as the host has it; both of the host
# are ours, see pid_namespaces(7) and user_namespaces(7).
Process = namedtuple("Process", "pid parent inside uid command")

# What the picture is made of: name of a row, whether the container has this for its own, and
# the lines of the host's side and of the container's.
Group = namedtuple("Group", "name own host inside")
Picture = namedtuple("Picture", "title groups")


def main(arguments):
    """Shows the picture. Returns the exit status."""
    parser = Parser(prog="workshop inspect")
    parser.add_argument("--once", action="store_true", help="one picture, not live")
    parser.add_argument("container", nargs="?", help="a pid, or a host name")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        raise Failure(
            "it looks at the processes of others, and that needs root: try sudo"
        )
    container = find(options.container)
    # `!workshop inspect` in a notebook's cell has a terminal, but nobody is at it.
    live = sys.stdin.isatty() and sys.stdout.isatty()
    live = live and "JPY_PARENT_PID" not in os.environ
    console = Console(highlight=False, width=None if live else WIDTH)
    live = live and not console.is_dumb_terminal
    if container is None:
        console.print(listing())
    elif live and not options.once:
        watch(container, console)
    else:
        console.print(drawing(look(container)))
    return 0


def watch(container, console):
    """Shows the picture anew every second, until the container ends or somebody types q."""
    hint = " (q leaves)"
    picture = drawing(look(container), hint)
    try:
        with (
            keys_one_by_one(),
            Live(picture, console=console, auto_refresh=False) as live,
        ):
            while _key(REFRESH) not in "qQ\x04":
                live.update(drawing(look(container), hint), refresh=True)
    except KeyboardInterrupt:
        pass
    except Ended as error:
        console.print(Text(f"{error}. This was the last picture."))


def _key(seconds):
    """The key that is typed within so many seconds, q when the terminal is gone, or none."""
    if select.select([0], [], [], seconds)[0]:
        return os.read(0, 1).decode(errors="replace") or "q"
    return "none"


class Ended(Failure):
    """There is no such container any more."""

    def __init__(self, pid):
        super().__init__(f"the container with the pid {pid} has ended")


# ---- which one


def find(word=None):
    """The Container that is meant; None: word is None, and several could be. Failure: there
    is none, or there are several."""
    found = running()
    if word is None:
        if not found:
            raise Failure("no container runs; start one in another terminal")
        return found[0] if len(found) == 1 else None
    if word.isascii() and word.isdigit():
        return _with_pid(word, found)
    named = [container for container in found if host_name(container) == word]
    if len(named) == 1:
        return named[0]
    if named:
        these = ", ".join(str(container.pid) for container in named)
        raise Failure(f"several have the host name {word}: say which pid, {these}")
    raise Failure(f"no container that runs has the host name {word}")


def running():
    """The Containers of all container.py that run."""
    found = []
    for runtime in sorted(_pids()):
        words = procfs.words(runtime)
        # A child that has not become its command yet has the words of its parent.
        if _is_runtime(words) and words != procfs.words(procfs.parent(runtime)):
            pid = _first_process(runtime)
            found += [Container(runtime, pid, words)] if pid else []
    return found


def _is_runtime(words):
    """Whether a command line is that of a container.py that runs a container."""
    scripts = [n for n, word in enumerate(words[:4]) if word.endswith("container.py")]
    return any(words[n + 1 : n + 2] == ["run"] for n in scripts)


def _first_process(runtime):
    """The pid of what a runtime has started; None: it has ended, or has not begun. If there
    is no new pid namespace to tell by, it is the first of its children: the others are tools
    that end soon."""
    if pid := containers.first_process(runtime):
        return pid
    return next(iter(procfs.children(runtime)), None)


def _with_pid(pid, found):
    """The one of found that a process belongs to; else just this process."""
    if not os.path.exists(f"/proc/{pid}"):
        raise Failure(f"no process has the pid {pid}")
    above = pid = int(pid)
    while above:  # the nearest one: a container can be inside another
        for container in found:
            if above == container.pid or pid == container.runtime:
                return container
        above = procfs.parent(above)
    return Container(procfs.parent(pid), pid, procfs.words(pid))


def host_name(container):
    """The container's host name; empty if it has just ended."""
    with contextlib.suppress(Failure):
        return _ask("cat /proc/sys/kernel/hostname", container.pid).removesuffix("\n")
    return ""


# ---- looking


def look(container):
    """The Picture of a container. Ended: there is no such any more."""
    try:
        guard = os.pidfd_open(container.pid)
    except ProcessLookupError:
        raise Ended(container.pid) from None
    try:
        found = _look(container)
        if select.select([guard], [], [], 0)[0]:  # then some of it was somebody else's
            raise Ended(container.pid)
        return found
    except (OSError, Failure):
        if select.select([guard], [], [], 1)[0]:  # no wonder
            raise Ended(container.pid) from None
        raise
    finally:
        os.close(guard)


def _look(container):
    pid = container.pid
    family, total = processes(pid)
    name, queues, network = surroundings(None)
    its_name, its_queues, its_network = surroundings(pid)
    sides = {
        "uts": ([name], [its_name]),
        "ipc": (
            [_count(queues, "message queue")],
            [_count(its_queues, "message queue")],
        ),
        "pid": (
            [f"{total} processes, of these:", *_listed(family, _outside)],
            [_count(len(family), "process"), *_listed(family, _inside(pid))],
        ),
        "mnt": ([_count(len(procfs.mounts("self")), "mount")], mounts_inside(pid)),
        "net": (_some(network), _some(its_network)),
        "user": (users(os.getpid()), users(pid)),
        "cgroup": ([], []),
        "time": (clocks(os.getpid()), clocks(pid)),
    }
    groups = []
    for kind, (host, inside) in sides.items():
        ours, theirs = procfs.namespace(kind), procfs.namespace(kind, pid)
        if ours == theirs:
            inside = ["shared with the host", *(inside[1:] if kind == "pid" else [])]
        host = [f"{ours:<11} {host[0] if host else ''}", *host[1:]]
        inside = [f"{theirs:<11} {inside[0] if inside else ''}", *inside[1:]]
        groups.append(Group(kind, ours != theirs, host, inside))
    groups[-1:-1] = [limits(container)]  # below cgroup
    groups.append(layers(container))
    title = f"{its_name} · pid {pid}, of {container.runtime} · {_told(container)}"
    return Picture(printable(title), groups)


def _told(container):
    """The command line of a runtime, without the interpreter."""
    words = container.command
    while _is_runtime(words[1:]):
        words = words[1:]
    return shlex.join(words)


def surroundings(pid):
    """What can only be asked for inside: (host name, number of message queues, lines about
    the network) of a process, or of ours if pid is None."""
    parts = re.split(r"^--\n", _ask(QUESTIONS, pid), maxsplit=3, flags=re.MULTILINE)
    queues, addresses, routes, name = parts
    network = []
    for line in addresses.split("\n")[:-1]:
        device, state, *words = filter(None, line.split(" "))
        device, _, peer = device.partition("@if")
        words = [w for w in words if not w.startswith("fe80:") and w != "::1/128"]
        words += ["is down"] if state == "DOWN" else []
        if peer.isdigit() and pid is not None:
            words += _other_end(int(peer))
        network.append(" ".join([device, *words]))
    network += [route.partition(" proto ")[0] for route in routes.split("\n")[:-1]]
    return name.removesuffix("\n"), int(queues) - 1, network


def _ask(script, pid=None):
    """What the host's tools print in a process's uts, ipc and net namespaces, or in ours."""
    enter = [] if pid is None else ["nsenter", f"--target={pid}", "-u", "-i", "-n"]
    done = subprocess.run(
        [*enter, "sh", "-ec", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        errors="replace",
        timeout=30,
    )
    if done.returncode:
        raise Failure((done.stderr.splitlines() or ["a tool gives no answer"])[0])
    return done.stdout


def _other_end(index):
    """Where the cable of a container's device leads, if it is one of ours with this number:
    words about a veth(4), and about the bridge that it is plugged into."""
    with contextlib.suppress(OSError):
        device = Path("/sys/class/net", socket.if_indextoname(index))
        if procfs.read(device / "iflink") != procfs.read(device / "ifindex"):
            bridge = device / "master"
            words = ["to", device.name]
            return words + (["in", bridge.readlink().name] if bridge.exists() else [])
    return []


def processes(first):
    """(the container's Processes, the number of all processes): those of the first process's
    family, and those that somebody has sent into its pid namespace."""
    known, all_pids = {}, sorted(_pids())
    for pid in all_pids:
        lines = procfs.read(f"/proc/{pid}/status").split("\n")
        status = {
            key: value.split() for key, _, value in (x.partition(":") for x in lines)
        }
        if "NSpid" in status:
            words = shlex.join(procfs.words(pid)) or f"[{' '.join(status['Name'])}]"
            inside, uid = int(status["NSpid"][-1]), int(status["Uid"][1])
            known[pid] = Process(pid, int(status["PPid"][0]), inside, uid, words)
    family = set()
    its_own = procfs.namespace("pid", first) != procfs.namespace("pid")
    for pid in known:
        above = pid
        while above in known and above != first and above not in family:
            above = known[above].parent
        if above in known or (its_own and _is_in(pid, procfs.namespace("pid", first))):
            family.add(pid)
    return [known[pid] for pid in sorted(family)], len(all_pids)


def _is_in(pid, pid_namespace):
    try:
        return procfs.namespace("pid", pid) == pid_namespace
    except OSError:
        return False


def _listed(family, line):
    """Lines about processes, made by the function line."""
    lines = [line(process) for process in family[:MOST]]
    return lines + ([f"… {len(family) - MOST} more"] if len(family) > MOST else [])


def _outside(process):
    return f"{process.pid:>7}  uid {process.uid}"


def _inside(pid):
    """A function that tells of a process as the container sees it."""
    ids = _map(f"/proc/{pid}/uid_map")

    def line(process):
        for inside, outside, count in ids:
            if outside <= process.uid < outside + count:
                uid = inside + process.uid - outside
                return f"{process.inside:>7}  uid {uid:<7} {process.command}"
        return f"{process.inside:>7}  nobody      {process.command}"

    return line


def mounts_inside(pid):
    """Lines about a container's mounts: how many, and those that the host does not have, by
    type of filesystem."""
    table, known = procfs.mounts(pid), {mount[:4] for mount in procfs.mounts("self")}
    its_own = [mount for mount in table if mount[:4] not in known]
    lines = [_count(len(table), "mount")]
    if os.readlink(f"/proc/{pid}/root") != "/":
        lines[0] += " in reach after chroot"
    elif len(its_own) < len(table):
        lines[0] += f", {len(table) - len(its_own)} of them as on the host"
    for kind in dict.fromkeys(mount.kind for mount in its_own):
        these = [m for m in its_own if m.kind == kind]
        names = [
            printable(m.target) + ":ro" * ("ro" in m.options.split(",")) for m in these
        ]
        folders = {os.path.dirname(name) for name in names}
        if len(names) > 2 and len(folders) == 1:  # /dev/{null,zero}
            folder = folders.pop().rstrip("/")
            names = [f"{folder}/{{{','.join(os.path.basename(n) for n in names)}}}"]
        lines += _wrapped(f"{kind:<8} ", _some(names))
    return _some(lines, 2 * MOST)


def users(pid):
    """Lines about the ids of a process: which of ours they are. user_namespaces(7)"""
    users, groups = (_map(f"/proc/{pid}/{file}") for file in ("uid_map", "gid_map"))
    if not users:
        return ["nobody: its uid_map is empty"]
    if users == groups == [(0, 0, 2**32 - 1)]:
        return ["root is root"]
    if users == groups:
        return [_mapped("id", line) for line in users[:MOST]]
    lines = [_mapped("user", line) for line in users[:MOST]]
    return lines + [_mapped("group", line) for line in groups[:MOST]]


def _mapped(name, line):
    inside, outside, count = line
    if count == 1:
        return f"{name} {inside} is {outside} outside"
    these = f"{inside}–{inside + count - 1}"
    return f"{name}s {these} are {outside}–{outside + count - 1} outside"


def _map(path):
    """The lines of a uid_map or gid_map: (id inside, id outside, how many)."""
    return [tuple(map(int, line.split())) for line in procfs.read(path).splitlines()]


def clocks(pid):
    """Lines about how a process's clocks are set apart. time_namespaces(7)"""
    words = procfs.read(f"/proc/{pid}/timens_offsets").split()
    clocks = zip(words[::3], words[1::3], strict=True)
    return [
        f"{clock} {int(seconds):+} s" for clock, seconds in clocks if seconds != "0"
    ]


# ---- limits, layers


def limits(container):
    """The Group about a container's cgroup: limits and use. cgroups(7)"""
    ours, theirs = procfs.cgroup(container.runtime), procfs.cgroup(container.pid)
    memory = dict(line.split()[:2] for line in procfs.read("/proc/meminfo").splitlines())
    total, free = (int(memory[f"Mem{word}:"]) << 10 for word in ("Total", "Available"))
    host = [ours, f"{_bytes(total - free)} of {_bytes(total)} memory"]
    cpus = os.cpu_count() or 1
    host += [f"{cpus} CPU{'s' if cpus > 1 else ''}"]
    if ours == theirs:
        return Group("limits", False, host, ["shared with the host"])
    inside = [theirs]
    use, limit, events = tightest(theirs, "memory")
    if use is not None:
        killed = events.get("oom_kill", "0")
        text = f"{_bar(use, limit)} {_bytes(use)} of {_bytes(limit)} memory"
        inside.append(text + (f", {killed} killed" if killed != "0" else ""))
    use, limit, events = tightest(theirs, "pids")
    if use is not None:
        refused = events.get("max", "0")
        text = f"{_bar(use, limit)} {use} of {limit or 'any number of'} processes"
        inside.append(text + (f", {refused} refused" if refused != "0" else ""))
    if cpu := processor_time(theirs):
        inside.append(cpu)
    return Group("limits", True, host, inside)


def tightest(path, what):
    """(use, limit, events) of memory or pids in a cgroup: of the one, from there up to the
    root, whose limit is the lowest. use is None where it is not counted, limit where there
    is none."""
    found = []
    for directory in _up(path):
        limit = procfs.read(directory / f"{what}.max").strip()
        if limit.isdigit():
            found.append((int(limit), directory))
    limit, directory = min(found, default=(None, Path(CGROUPS + path)))
    use = procfs.read(directory / f"{what}.current").strip()
    events = dict(
        line.split() for line in procfs.read(directory / f"{what}.events").splitlines()
    )
    return int(use) if use else None, limit, events


def processor_time(path):
    """A line about how much processor time a cgroup may use, and has used; "" where it is
    not counted."""
    words = dict(x.split() for x in procfs.read(f"{CGROUPS}{path}/cpu.stat").splitlines())
    if "usage_usec" not in words:
        return ""
    shares = []
    for directory in _up(path):
        quota, _, period = procfs.read(directory / "cpu.max").strip().partition(" ")
        if quota.isdigit():
            shares.append(int(quota) / int(period))
    allowed = f"{min(shares):g}" if shares else "all"
    text = f"{allowed} CPUs, {int(words['usage_usec']) / 1e6:.1f} s used"
    stopped = words.get("nr_throttled", "0")
    return text + (f", stopped {stopped} times" if stopped != "0" else "")


def _up(path):
    """The directories of a cgroup and of all above it."""
    directory = Path(CGROUPS + path)
    return [d for d in [directory, *directory.parents] if d.is_relative_to(CGROUPS)]


def layers(container):
    """The Group about what a container's files lie on."""
    ours = [mount for mount in procfs.mounts("self") if mount.target == "/"]
    host = [f"{mount.kind} on {mount.source}" for mount in ours[-1:]]
    pid = container.pid
    with contextlib.suppress(Failure):
        overlay = containers.find(str(pid))
        below = [images.label(layer) for layer in images.layers_of(overlay.image)]
        inside = [f"{changes(overlay.upper)} of its own, on top of", *_some(below)]
        return Group("layers", True, host, inside)
    directory = os.readlink(f"/proc/{pid}/root")  # read, and not followed
    if directory != "/":
        return Group("layers", True, host, [f"none: chroot to {directory}"])
    roots = [mount for mount in procfs.mounts(pid) if mount.target == "/"]
    is_shared = procfs.namespace("mnt", pid) == procfs.namespace("mnt")
    if is_shared or not roots or roots[-1].root == "/":
        return Group("layers", False, host, ["shared with the host"])
    mapped = "idmapped" in roots[-1].options.split(",")
    inside = ["none: what it writes is written to", _on_host(roots[-1])]
    inside += ["as if its root were the host's (idmapped)"] if mapped else []
    return Group("layers", True, host, inside)


def _on_host(mount):
    """Returns where the host shows what a mount shows, which can be on a disk of its own. If
    the host does not show it, this is its path in its filesystem."""
    same = [ours for ours in procfs.mounts("self") if ours.device == mount.device]
    for ours in sorted(same, key=lambda ours: len(ours.root), reverse=True):
        if Path(mount.root).is_relative_to(ours.root):
            below = Path(mount.root).relative_to(ours.root)
            return str(Path(ours.target, below))
    return mount.root


def changes(upper, most=2000):
    """How much is in a container's own layer, in words; counted up to so many files."""
    files = size = 0
    # By descriptors: the container could put a link in a directory's place meanwhile.
    for _, _, names, directory in os.fwalk(upper):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(name, dir_fd=directory).st_blocks * 512
            files += 1
            if files == most:
                return f"over {files} files"
    return f"{_count(files, 'file')} ({_bytes(size)})"


# ---- showing


def drawing(picture, hint=""):
    """The picture for a terminal. hint: a word on what to type."""
    grid = Table(
        title=Text(picture.title, no_wrap=True, overflow="ellipsis", style="bold"),
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    heads = "", "host", "container" + hint
    # Where the terminal is narrow, the container's side is cut.
    for head, width in zip(heads, COLUMNS, strict=True):
        grid.add_column(head, max_width=width, no_wrap=True, overflow="ellipsis")
    grid.columns[0].min_width, grid.columns[1].min_width = COLUMNS[:2]
    for group in picture.groups:
        style = "green" if group.own else "yellow"
        name = Text(group.name, style="bold " + style)
        for host, inside in zip_longest(group.host, group.inside, fillvalue=""):
            grid.add_row(name, Text(printable(host)), Text(printable(inside), style))
            name = ""
    return grid


# The colours are the theme's: JupyterLab has them as variables, light and dark, and in their
# absence the text has the colour of the text around it.
STYLE = """
<style>
.workshop-inspect { border-collapse: collapse; font: 12px/1.45 monospace; }
.workshop-inspect caption { text-align: left; font-weight: bold; padding: 4px 8px; }
.workshop-inspect :is(th, td) {
  text-align: left !important; vertical-align: top; white-space: pre; padding: 3px 8px; }
.workshop-inspect tr { border-top: 1px solid var(--jp-border-color2, #8886);
  background: none !important; }
.workshop-inspect .own { border-left: 4px solid var(--jp-success-color1, #3a3); }
.workshop-inspect .shared { border-left: 4px solid var(--jp-warn-color1, #e90);
  opacity: 0.75; }
</style>
"""


def _cut(line, most=64):
    """A line that a column of the notebook has room for."""
    return line if len(line) <= most else line[: most - 1] + "…"


class Page:
    """The picture for a notebook."""

    def __init__(self, picture):
        self.picture = picture

    def __repr__(self):
        console = Console(width=WIDTH, color_system=None, force_jupyter=False)
        with console.capture() as capture:
            console.print(drawing(self.picture))
        return capture.get()

    def _repr_html_(self):
        def cell(lines):
            return html.escape("\n".join(_cut(printable(line)) for line in lines))

        rows = "".join(
            f"<tr><th>{g.name}</th><td>{cell(g.host)}</td>"
            f'<td class="{"own" if g.own else "shared"}">{cell(g.inside)}</td></tr>'
            for g in self.picture.groups
        )
        return (
            f'{STYLE}<table class="workshop-inspect">'
            f"<caption>{html.escape(printable(self.picture.title))}</caption>"
            f"<tr><th></th><th>host</th><th>container</th></tr>{rows}</table>"
        )


def picture(container=None):
    """The picture for a notebook. container: a pid, a host name, a Container, or None for
    the only one. Failure: see find() and look()."""
    if not isinstance(container, Container):
        container = find(None if container is None else str(container))
    if container is None:
        these = ", ".join(str(c.pid) for c in running())
        raise Failure(f"several containers run: say which pid, {these}")
    return Page(look(container))


def listing():
    """A table of the containers that run."""
    grid = Table(box=SIMPLE_HEAD, title="Which one? workshop inspect PID")
    for column in ["pid", "host name", "what its runtime was told"]:
        grid.add_column(column)
    for container in running():
        told = Text(printable(_told(container)), no_wrap=True, overflow="ellipsis")
        grid.add_row(str(container.pid), printable(host_name(container)), told)
    return grid


# ---- small change


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _count(number, thing):
    plural = thing + ("es" if thing.endswith("s") else "s")
    return f"{number} {thing if number == 1 else plural}"


def _some(lines, most=MOST):
    """The first of a list, and how many more there are."""
    rest = len(lines) - most
    return [*lines[:most], f"… {rest} more"] if rest > 0 else list(lines)


def _wrapped(begin, words):
    """Lines of words that fit the container's column; all but the first are indented."""
    indent = " " * len(begin)
    text = begin + " ".join(words)
    return textwrap.wrap(
        text, COLUMNS[2], subsequent_indent=indent, break_on_hyphens=False
    )


def _bar(use, limit):
    """A bar ten characters long, or as much blank space where there is no limit."""
    full = min(10, round(10 * use / limit)) if limit else 0
    return "█" * full + ("░" if limit else " ") * (10 - full)


def _bytes(number):
    """A number of bytes, in the way of --memory."""
    if number is None:
        return "all"
    if number < 1 << 20:
        return f"{number / 1024:.0f}K"
    return f"{number / 2**20:.{1 if number < 10 << 20 else 0}f}M"
