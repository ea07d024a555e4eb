#!/usr/bin/env python3
"""How fast, and for how many: our containers beside other runtimes, on one root filesystem.

    sudo bench/bench.py [--runs 40] [--alive 1,10,100,500] [--out FOLDER] [start growth …]

Whatever is compared takes its turns in random order, so that whatever else the machine does
hits all alike: the ratios count, not the times. What is missing here or does not run is named
with its complaint. FOLDER gets bench.json with every single time, bench.md and bench.svg; the
tables are printed as well. `./lab bench` runs it in a VM of its own.
"""

import argparse
import collections
import contextlib
import datetime
import gc
import json
import os
import pathlib
import platform
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

PROJECT = pathlib.Path(__file__).resolve().parent.parent
STEPS = PROJECT / "steps"
STATE = "/var/lib/workshop"  # where there is room, on the file system of the images
ROOTFS = f"{STATE}/rootfs/busybox"
OURS = str(STEPS / "07_overlay/container.py")
NETWORK = str(STEPS / "network.sh")
LIMITS = ["--memory", "64M", "--pids", "32", "--cpus", "0.5"]
NONE = ["run", "--net", "none"]
TRUE = ["busybox", "/bin/true"]
OCI_LIMITS = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20},
    "pids": {"limit": 32},
    "cpu": {"quota": 50000, "period": 100000},
}
# (ours, theirs, at most so much of it)
TO_BEAT = [
    ("07", "runc", 0.8),
    ("07, limits", "crun, limits", 1.2),
    ("07, warm", "crun", 0.6),
    ("07, network", "podman, bridge", 0.3),
]
SIZES = [10, 100, 1000]  # MB, of images
MB = 1 << 20


# ---- start to exit


def contenders(scratch):
    """{name: command, or a function like that of warm()}. "ID" in a command becomes a
    name that no container has. The others get a root of their own: some leave directories."""
    root = f"{scratch}/busybox"
    subprocess.run(["cp", "-a", ROOTFS, root], check=True)
    found = {
        "plain exec": ["/bin/true"],
        "Python alone": ["/usr/bin/python3", "-S", "-c", "import ctypes"],
        "unshare": ["unshare", "-muipnC", "--fork", "--root", root, "/bin/true"],
        "bwrap": ["bwrap", "--unshare-all", "--bind", root, "/", "--proc", "/proc"]
        + ["--dev", "/dev", "/bin/true"],
        "nspawn": ["env", "SYSTEMD_NSPAWN_CHECK_OS_RELEASE=0", "systemd-nspawn"]
        + ["--quiet", "--register=no", "--keep-unit", "--private-network"]
        + ["--directory", root, "/bin/true"],
        "podman": ["podman", "run", "--rm", "--network", "none", "--rootfs"]
        + [root, "/bin/true"],
        "podman, bridge": ["podman", "run", "--rm", "--network", "bridge", "--rootfs"]
        + [root, "/bin/true"],
        "01": [str(STEPS / "01_uts/container.py"), "run", "/bin/true"],
        "03": [str(STEPS / "03_mnt/container.py"), "run", *TRUE],
        "05": [str(STEPS / "05_user/container.py"), *NONE, *TRUE],
        "07": [OURS, *NONE, *TRUE],
        "07, limits": [OURS, *NONE, *LIMITS, *TRUE],
        "07, network": [OURS, "run", *TRUE],
        "07, warm": warm([OURS, *NONE, *TRUE]),
    }
    for tool in "crun", "runc":
        for name, limits in ((tool, None), (f"{tool}, limits", OCI_LIMITS)):
            if shutil.which(tool):
                folder = pathlib.Path(scratch) / name.replace(", ", "-")
                bundle(folder, tool, root, limits)
                found[name] = [tool, "run", "--bundle", str(folder), "ID"]
    return found


def bundle(folder, tool, root, limits):
    """Make an OCI bundle for crun or runc: the tool's own default, with our root and command."""
    folder.mkdir()
    subprocess.run([tool, "spec"], cwd=folder, check=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["root"] = {"path": root, "readonly": False}
    config["process"]["args"] = ["/bin/true"]
    config["process"]["terminal"] = False
    if limits:
        config["linux"].setdefault("resources", {}).update(limits)
    path.write_text(json.dumps(config))


def warm(words):
    """A function that makes a process with Python and the modules loaded, as a notebook's
    kernel is one, and returns a function that has it run container.py and waits for its end.
    It is a fork of this one, made before time counts: main() ends the process it is in. Its
    pages are its own by then, as that kernel's are: gc.collect() has written to them."""
    path = words[0]
    code = compile(pathlib.Path(path).read_text(), path, "exec")
    sys.path[:0] = [str(STEPS)]
    import linux  # noqa: F401
    import process  # noqa: F401

    def prepare():
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                null = os.open("/dev/null", os.O_RDWR)
                for number in 0, 1, 2:
                    os.dup2(null, number)
                sys.argv = words
                ours.close()
                gc.collect()
                theirs.send(b"ready")
                theirs.recv(1)
                exec(code, {"__name__": "__main__"})
            except SystemExit as end:
                status = end.code or 0
            finally:
                os._exit(status)
        theirs.close()
        ours.recv(5)

        def run():
            ours.close()  # the word to go
            if os.waitpid(pid, 0)[1]:
                raise subprocess.CalledProcessError(
                    1, words, b"", b"a warm start fails"
                )

        return run

    return prepare


def once(command):
    """Run it. Returns the milliseconds from start to exit. CalledProcessError: it failed."""
    if callable(command):
        run = command()
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1000
    words = [f"bench-{random.getrandbits(48):x}" if w == "ID" else w for w in command]
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def interleaved(commands, runs):
    """Returns ({name: [milliseconds]}, {name: why it does not run}, {name: [why a run of it
    failed]})."""
    times, refused, failed = {}, {}, {}
    for name, command in commands.items():
        try:
            once(command)  # warm, and a try
            times[name] = []
        except FileNotFoundError as error:
            refused[name] = f"{error.filename} is not installed"
        except subprocess.CalledProcessError as error:
            refused[name] = complaint(error)
    turns = [name for name in times for _ in range(runs)]
    random.shuffle(turns)
    for number, name in enumerate(turns):
        if number % (len(turns) // 10 or 1) == 0:
            print(f"  {number} of {len(turns)}", file=sys.stderr, flush=True)
        try:
            times[name].append(once(commands[name]))
        except subprocess.CalledProcessError as error:
            failed.setdefault(name, []).append(complaint(error))
    return times, refused, failed


def complaint(error):
    """The last line of what a command said that failed, or its status."""
    said = error.stderr.decode(errors="replace").strip().splitlines()
    return said[-1][:200] if said else f"status {error.returncode}"


def start(options):
    with tempfile.TemporaryDirectory(dir=STATE) as scratch, cpusets_in_use():
        times, refused, failed = interleaved(contenders(scratch), options.runs)
    return {"times": times, "refused": refused, "failed": failed}


@contextlib.contextmanager
def cpusets_in_use():
    """Keep a cgroup with the controller cpuset, which crun, runc and podman give to theirs. The
    kernel rewrites its own code when the first such cgroup comes and when the last one goes:
    time that is none of a runtime's, and QEMU's emulation of two processors does not always
    survive it (the kernel meets its own breakpoint, and panics)."""
    top, held = pathlib.Path("/sys/fs/cgroup"), "bench-cpuset"
    if not (top / "cgroup.subtree_control").exists():  # no cgroup v2 here
        yield
        return
    # Two floors: from one, systemd takes a controller away that none of its units wants.
    for folder in top, top / held:
        (top / held).mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("+cpuset")
    (top / held / "below").mkdir()
    try:
        yield
    finally:
        (top / held / "below").rmdir()
        (top / held).rmdir()


# ---- how it grows


def growth(options):
    """{containers alive: {"next": [milliseconds], "memory": bytes for each}}. Between two
    rounds all have ended, and the machine has come to rest."""
    command, found = [OURS, *NONE, *TRUE], {}
    sleeper = [OURS, *NONE, "busybox", "sleep", "3600"]
    for alive in [0, *options.alive]:
        settle(command)
        free = available()
        with contextlib.ExitStack() as stack:
            for _ in range(alive):
                process = subprocess.Popen(sleeper, stdin=subprocess.DEVNULL)
                stack.callback(process.wait)
                stack.callback(process.kill)  # PID 1 would not heed SIGTERM
            settle(command)
            memory = (free - available()) / alive if alive else 0
            times = [once(command) for _ in range(options.runs)]
        found[alive] = {"next": times, "memory": memory}
    settle(command)
    return found


def settle(command):
    """Wait until a start of command takes no longer than the one before: all that was started,
    or ended, is through with it. At most 60 s."""
    before, end = float("inf"), time.monotonic() + 60
    while time.monotonic() < end:
        now = statistics.median(once(command) for _ in range(3))
        if now > before * 0.95:
            return
        before = now


def available():
    """Bytes of memory that can be had: MemAvailable of proc_meminfo(5)."""
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) << 10


def images(options):
    """{MB of an image: {"copy"|"overlay": [seconds], "copy disk"|"overlay disk": bytes}}."""
    found = {}
    with tempfile.TemporaryDirectory(dir=STATE) as scratch:
        os.chmod(scratch, 0o755)
        image, copy = f"{scratch}/image", f"{scratch}/copy"
        subprocess.run(["cp", "-a", ROOTFS, image], check=True)
        made = 0
        for size in SIZES:
            if shutil.disk_usage(scratch).free < 3 * size * MB:
                found[size] = {"refused": "there is not enough disk"}
                continue
            for number in range(made, size):
                with open(f"{image}/{number}", "wb") as file:
                    file.write(os.urandom(MB))
            made, times, disk = size, {"copy": [], "overlay": []}, {}
            for kind in random.sample(["copy", "overlay"] * 3, 6):
                os.sync()
                free = shutil.disk_usage(scratch).free
                begin = time.perf_counter()
                if kind == "copy":
                    subprocess.run(["cp", "-a", image, copy], check=True)
                    times[kind].append(time.perf_counter() - begin)
                    os.sync()
                    disk[kind] = free - shutil.disk_usage(scratch).free
                    shutil.rmtree(copy)
                else:
                    once([OURS, *NONE, image, "/bin/true"])
                    times[kind].append(time.perf_counter() - begin)
                    disk[kind] = written_by_a_start(image)
            found[size] = times | {f"{kind} disk": n for kind, n in disk.items()}
    return found


def written_by_a_start(image):
    """Bytes that are on disk for a container that has written nothing."""
    command = [OURS, *NONE, image, "sleep", "3600"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        upper = pathlib.Path(f"/var/lib/workshop/containers/{process.pid}/upper")
        while not upper.exists():
            time.sleep(0.05)
        time.sleep(1)
        return sum(path.lstat().st_blocks * 512 for path in upper.rglob("*"))
    finally:
        process.kill()
        process.wait()


# ---- a learner's time


def checks(options):
    """{step: {"first": seconds to the first tick, "all": to the end}} of `workshop check`."""
    found = {}
    for step in sorted(STEPS.glob("[0-9]*")):
        with tempfile.TemporaryDirectory() as my:
            os.chmod(my, 0o755)
            shutil.copy(step / "container.py", my)
            environment = os.environ | {"WORKSHOP_MY": my, "PYTHONPATH": str(PROJECT)}
            command = [sys.executable, "-P", "-m", "workshop", "check", step.name[:2]]
            begin, first = time.perf_counter(), None
            with subprocess.Popen(
                [*command, "--alone"],
                stdout=subprocess.PIPE,
                env=environment | {"PYTHONUNBUFFERED": "1"},
                text=True,
            ) as process:
                for line in process.stdout:
                    if first is None and ("✓" in line or "✗" in line):
                        first = time.perf_counter() - begin
                    last = line
        whole = time.perf_counter() - begin
        found[step.name] = {"first": first, "all": whole, "said": last.strip()}
    return found


def lessons(options):
    """{lesson: seconds that its cells take, one after the other; None: it did not end well}."""
    with tempfile.TemporaryDirectory() as scratch:
        report = f"{scratch}/report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["tests/test_notebooks.py", "-k", "executes", f"--junitxml={report}"]
        subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    found = {}
    for case in cases:
        held = case.find("failure") is None and case.find("error") is None
        name = case.get("name").partition("[")[2].rstrip("]")
        found[name] = float(case.get("time")) if held else None
    return found


# ---- what is told


def median(times):
    return statistics.median(times) if times else float("nan")


def p95(times):
    return statistics.quantiles(times, n=20)[-1] if len(times) > 1 else median(times)


def row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def table(*names):
    return [row(*names), row(*["---"] + ["--:"] * (len(names) - 1))]


def page(found):
    """The measurements as lines of Markdown."""
    days = collections.defaultdict(list)
    for part, day in found["when"].items():
        days[day].append(part)
    when = "; ".join(f"{day} ({', '.join(parts)})" for day, parts in days.items())
    lines = [
        f"Measured on {when}: Linux {found['kernel']}, Python {found['python']}, "
        f"{found['cpus']} CPUs, {found['machine']}. The ratios count, not the times.",
        "",
    ]
    for part, function in PAGES.items():
        if part in found:
            lines += [*function(found[part]), ""]
    return lines


def start_page(part):
    medians = {name: median(times) for name, times in part["times"].items()}
    crun, runc = (medians.get(tool, float("nan")) for tool in ("crun", "runc"))
    lines = ["### Start to exit of `/bin/true`", ""]
    lines += table("runtime", "median ms", "p95 ms", "to crun", "to runc")
    for name, time_ in sorted(medians.items(), key=lambda item: item[1]):
        ours = f"**step {name}**" if name[0] == "0" else name
        ratios = f"{time_ / crun:.2f}", f"{time_ / runc:.2f}"
        lines.append(
            row(ours, f"{time_:.1f}", f"{p95(part['times'][name]):.1f}", *ratios)
        )
    lines += [""] + table("to beat", "ratio", "at most", "")
    for ours, theirs, most in TO_BEAT:
        if ours in medians and theirs in medians:
            ratio = medians[ours] / medians[theirs]
            verdict = "yes" if ratio <= most else "no"
            lines.append(row(f"{ours} / {theirs}", f"{ratio:.2f}", most, verdict))
    if {"Python alone", "07"} <= medians.keys():
        python, ours = medians["Python alone"], medians["07"]
        lines.append(
            f"\nOf step 07's {ours:.0f} ms, {python:.0f} are Python's: to start, and to import "
            f"ctypes. That is {python / crun:.2f} of what crun takes from start to exit. crun, "
            "runc and podman start a plain directory here, as root on both sides of the wall; "
            "step 07 has layers and a user namespace as well. Warm: a process that has Python and "
            "the modules loaded already, as the one behind a notebook."
        )
    lines += [f"\nNot measured: {n}: {why}" for n, why in part["refused"].items()]
    for name, told in part["failed"].items():
        lines.append(f"\nFailed {len(told)} times: {name}: {told[0]}")
    return lines


def growth_page(part):
    lines = ["### With so many containers alive", ""]
    lines += table("alive", "the next start, median ms", "to the first", "memory each")
    first = median(part["0"]["next"])
    for alive, about in part.items():
        time_, memory = median(about["next"]), about["memory"] / MB
        memory = f"{memory:.1f} MB" if memory else ""
        lines.append(row(alive, f"{time_:.1f}", f"{time_ / first:.2f}", memory))
    return lines


def images_page(part):
    lines = ["### From an image of so many MB", ""]
    lines += table("MB", "copy s", "its disk MB", "overlay s", "its disk MB", "ratio")
    for size, about in part.items():
        if "refused" in about:
            lines.append(row(size, about["refused"], "", "", "", ""))
            continue
        copy, overlay = median(about["copy"]), median(about["overlay"])
        disks = [about[f"{kind} disk"] / MB for kind in ("copy", "overlay")]
        cells = f"{copy:.2f}", f"{disks[0]:.0f}", f"{overlay:.2f}", f"{disks[1]:.0f}"
        lines.append(row(size, *cells, f"{copy / overlay:.0f}"))
    return lines


def checks_page(part):
    lines = ["### `workshop check N --alone`, a finished step", ""]
    lines += table("step", "first tick s", "all s", "it says")
    for step, t in part.items():
        first = "" if t["first"] is None else f"{t['first']:.1f}"
        lines.append(row(step, first, f"{t['all']:.1f}", t["said"]))
    return lines


def lessons_page(part):
    lines = ["### All cells of a lesson", "", *table("lesson", "s")]
    for name, seconds in part.items():
        lines.append(row(name, f"{seconds:.0f}" if seconds else "it failed"))
    return [*lines, row("**all**", f"{sum(filter(None, part.values())):.0f}")]


def ups_page(part):
    lines = ["### `./lab up`", "", *table("", "s")]
    return lines + [
        row(name, f"{float(seconds):.0f}") for name, seconds in part.items()
    ]


PARTS = {
    "start": start,
    "growth": growth,
    "images": images,
    "checks": checks,
    "lessons": lessons,
}
PAGES = {
    "start": start_page,
    "growth": growth_page,
    "images": images_page,
    "ups": ups_page,
    "checks": checks_page,
    "lessons": lessons_page,
}


def picture(part):
    """The medians as a bar chart, in SVG: bytes."""
    import pygal

    ordered = sorted(part["times"].items(), key=lambda item: -median(item[1]))
    style = pygal.style.CleanStyle(
        font_family="sans-serif", background="white", plot_background="white"
    )
    chart = pygal.HorizontalBar(
        style=style,
        title="Start to exit of /bin/true, median milliseconds",
        show_legend=False,
        print_values=True,
        value_formatter=lambda value: f"{value:.1f}",
        height=600,
        js=[],  # a picture by itself: it loads nothing
    )
    chart.x_labels = [f"step {n}" if n[0] == "0" else n for n, _ in ordered]
    chart.add(
        "",
        [
            {
                "value": median(times),
                "color": "#c2410c" if name[0] == "0" else "#64748b",
            }
            for name, times in ordered
        ],
    )
    return chart.render()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    numbers = {"type": lambda text: [int(word) for word in text.split(",")]}
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--runs", type=int, default=40, help="of each runtime (40)")
    parser.add_argument("--alive", default=[1, 10, 100, 500], **numbers)
    parser.add_argument("--ups", action="append", default=[], metavar="WHAT=SECONDS")
    parser.add_argument("--out", type=pathlib.Path, metavar="FOLDER")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"there is no part {unknown.pop()}; there are {', '.join(PARTS)}")
    if os.geteuid() != 0:
        sys.exit("bench.py starts containers: it needs root, try sudo")
    found = {
        "when": {},
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }
    if options.parts and options.out and (options.out / "bench.json").exists():
        known = json.loads((options.out / "bench.json").read_text())
        # Other parts stay, if it was the same machine.
        if all(known[what] == found[what] for what in found if what != "when"):
            found = known
    if options.ups:
        found["when"]["ups"] = datetime.date.today().isoformat()
        found["ups"] = dict(word.split("=") for word in options.ups)
    subprocess.run([NETWORK, "on"], check=True)
    try:
        for part in options.parts or PARTS:
            print(f"measuring: {part}", file=sys.stderr, flush=True)
            found[part] = PARTS[part](options)
            found["when"][part] = datetime.date.today().isoformat()
            found = json.loads(json.dumps(found))  # as it is read again
            if options.out:
                write(found, options.out)
    finally:
        subprocess.run([NETWORK, "off"], check=True)
    print("\n".join(page(found)))


def write(found, folder):
    """After each part: what fails later takes nothing away."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(found))
    (folder / "bench.md").write_text("\n".join(page(found)))
    if "start" in found:
        (folder / "bench.svg").write_bytes(picture(found["start"]))


if __name__ == "__main__":
    main()
