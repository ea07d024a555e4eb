#!/usr/bin/env python3
"""Measures our containers and compares them with other runtimes, on one root filesystem.

    sudo bench/bench.py [--runs 40] [--alive 1,10,100,500] [--out FOLDER] [start growth …]

The runtimes take turns in random order, so that anything else that the machine does slows all
of them alike: the ratios count, not the times. The tables name each runtime that is not
installed or does not run, with its error. The tables are printed, and FOLDER gets bench.json
with every single time, bench.md and bench.svg. `./lab bench` runs this in a VM of its own.
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
sys.path += [str(PROJECT), str(PROJECT / "tests"), str(STEPS)]
import registry

STATE = "/var/lib/workshop"  # has room, and is on the filesystem of the images
ROOTFS = f"{STATE}/rootfs/busybox"
RUNTIME = str(STEPS / "07_overlay/container.py")
NETWORK = str(STEPS / "network.sh")
LIMITS = ["--memory", "64M", "--pids", "32", "--cpus", "0.5"]
NO_NETWORK = ["run", "--net", "none"]
TRUE = ["busybox", "/bin/true"]
OCI_LIMITS = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20},
    "pids": {"limit": 32},
    "cpu": {"quota": 50000, "period": 100000},
}
# (our runtime, the one to compare it with, the highest ratio of the two times)
TARGETS = [
    ("07", "runc", 0.8),
    ("07, limits", "crun, limits", 1.2),
    ("07, warm", "crun", 0.6),
    ("07, network", "podman, bridge", 0.3),
]
SIZES = [10, 100, 1000]  # MB, of images
PULLED = [100, 1000]  # MB, of images in the registry
MB = 1 << 20


# ---- from start to exit


def commands_to_compare(scratch):
    """Returns {name: command, or a function that warm_start() returns}. In a command, "ID"
    stands for a name that no container has yet. The other runtimes share a copy of the root
    filesystem, since some of them leave directories in it."""
    root = f"{scratch}/busybox"
    subprocess.run(["cp", "-a", ROOTFS, root], check=True)
    commands = {
        "plain exec": ["/bin/true"],
        "Python alone": ["/usr/bin/python3", "-S", "-c", "import _ctypes"],
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
        "05": [str(STEPS / "05_user/container.py"), *NO_NETWORK, *TRUE],
        "07": [RUNTIME, *NO_NETWORK, *TRUE],
        "07, limits": [RUNTIME, *NO_NETWORK, *LIMITS, *TRUE],
        "07, network": [RUNTIME, "run", *TRUE],
        "10": [str(STEPS / "10_seccomp/container.py"), *NO_NETWORK, *TRUE],
        "07, warm": warm_start([RUNTIME, *NO_NETWORK, *TRUE]),
    }
    for tool in "crun", "runc":
        for name, limits in ((tool, None), (f"{tool}, limits", OCI_LIMITS)):
            if shutil.which(tool):
                folder = pathlib.Path(scratch) / name.replace(", ", "-")
                make_bundle(folder, tool, root, limits)
                commands[name] = [tool, "run", "--bundle", str(folder), "ID"]
    return commands


def make_bundle(folder, tool, root, limits):
    """Makes an OCI bundle for crun or runc: the tool's own default configuration, with our root
    filesystem and command."""
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


def warm_start(words):
    """Returns a function that prepares a warm start: it makes a process that has Python and
    the modules loaded already, like the kernel behind a notebook. It returns another function,
    which lets that process run container.py and waits until it ends.

    The process is a fork of this one, because container.py's main() ends the process that it
    runs in. It is forked before the clock starts, and gc.collect() writes to its pages, so by
    then it has its own copies of them, as a notebook's kernel has."""
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
            ours.close()  # the signal to start
            if os.waitpid(pid, 0)[1]:
                raise subprocess.CalledProcessError(
                    1, words, b"", b"the warm start failed"
                )

        return run

    return prepare


def run_once(command):
    """Runs a command once. Returns the milliseconds from start to exit. Raises
    CalledProcessError if the command fails."""
    if callable(command):
        run = command()
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) * 1000
    words = [f"bench-{random.getrandbits(48):x}" if w == "ID" else w for w in command]
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def run_in_random_order(commands, runs):
    """Runs each command `runs` times, in random order. Returns ({name: [milliseconds]},
    {name: why it does not run at all}, {name: [why a single run failed]})."""
    times, refused, failed = {}, {}, {}
    for name, command in commands.items():
        try:
            run_once(command)  # shows whether it runs, and fills the caches
            times[name] = []
        except FileNotFoundError as error:
            refused[name] = f"{error.filename} is not installed"
        except subprocess.CalledProcessError as error:
            refused[name] = error_text(error)
    turns = [name for name in times for _ in range(runs)]
    random.shuffle(turns)
    for number, name in enumerate(turns):
        if number % (len(turns) // 10 or 1) == 0:
            print(f"  {number} of {len(turns)}", file=sys.stderr, flush=True)
        try:
            times[name].append(run_once(commands[name]))
        except subprocess.CalledProcessError as error:
            failed.setdefault(name, []).append(error_text(error))
    return times, refused, failed


def error_text(error):
    """Returns the last line of a failed command's stderr, or its exit status."""
    said = error.stderr.decode(errors="replace").strip().splitlines()
    return said[-1][:200] if said else f"status {error.returncode}"


def measure_start(options):
    """Times each runtime from start to exit. Returns what run_in_random_order() returns, as
    a dict."""
    with tempfile.TemporaryDirectory(dir=STATE) as scratch, cpusets_in_use():
        times, refused, failed = run_in_random_order(
            commands_to_compare(scratch), options.runs
        )
    return {"times": times, "refused": refused, "failed": failed}


@contextlib.contextmanager
def cpusets_in_use():
    """Keeps a cgroup with the cpuset controller while the block runs. crun, runc and podman
    enable this controller for their containers, and the kernel patches its own code when the
    first such cgroup appears and when the last one goes. That time must not count as the runtime's.
    Besides, an emulated VM with two processors does not always survive the patch: the kernel
    runs into its own breakpoint, and panics."""
    top, name = pathlib.Path("/sys/fs/cgroup"), "bench-cpuset"
    if not (top / "cgroup.subtree_control").exists():  # no cgroup v2 here
        yield
        return
    # Two levels: from the first, systemd removes a controller that none of its units uses.
    for folder in top, top / name:
        (top / name).mkdir(exist_ok=True)
        (folder / "cgroup.subtree_control").write_text("+cpuset")
    (top / name / "below").mkdir()
    try:
        yield
    finally:
        (top / name / "below").rmdir()
        (top / name).rmdir()


# ---- how it grows


def measure_growth(options):
    """Measures a start while other containers are alive. Returns {containers alive: {"next":
    [milliseconds of the next start], "memory": bytes for each}}. Between two rounds all
    containers end, and the machine settles."""
    command, results = [RUNTIME, *NO_NETWORK, *TRUE], {}
    sleeper = [RUNTIME, *NO_NETWORK, "busybox", "sleep", "3600"]
    for alive in [0, *options.alive]:
        settle(command)
        free = available_memory()
        with contextlib.ExitStack() as stack:
            for _ in range(alive):
                process = subprocess.Popen(sleeper, stdin=subprocess.DEVNULL)
                stack.callback(process.wait)
                stack.callback(process.kill)  # the container's PID 1 ignores SIGTERM
            settle(command)
            memory = (free - available_memory()) / alive if alive else 0
            times = [run_once(command) for _ in range(options.runs)]
        results[alive] = {"next": times, "memory": memory}
    settle(command)
    return results


def settle(command):
    """Waits, at most 60 s, until starts of the command no longer get faster: by then everything
    that was started or ended before has finished doing so."""
    before, end = float("inf"), time.monotonic() + 60
    while time.monotonic() < end:
        now = statistics.median(run_once(command) for _ in range(3))
        if now > before * 0.95:
            return
        before = now


def available_memory():
    """Returns the bytes of memory that are available: MemAvailable in proc_meminfo(5)."""
    text = pathlib.Path("/proc/meminfo").read_text()
    return int(re.search(r"MemAvailable:\s+(\d+)", text)[1]) << 10


def measure_images(options):
    """Compares a start that copies the image with one that mounts it as a layer. Returns {MB of
    an image: {"copy"|"overlay": [seconds], "copy disk"|"overlay disk": bytes}}."""
    results = {}
    with tempfile.TemporaryDirectory(dir=STATE) as scratch:
        os.chmod(scratch, 0o755)
        image, copy = f"{scratch}/image", f"{scratch}/copy"
        subprocess.run(["cp", "-a", ROOTFS, image], check=True)
        made = 0
        for size in SIZES:
            if shutil.disk_usage(scratch).free < 3 * size * MB:
                results[size] = {"refused": "not enough disk space"}
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
                    run_once([RUNTIME, *NO_NETWORK, image, "/bin/true"])
                    times[kind].append(time.perf_counter() - begin)
                    disk[kind] = written_by_a_start(image)
            results[size] = times | {f"{kind} disk": n for kind, n in disk.items()}
    return results


def written_by_a_start(image):
    """Returns the bytes on disk that a container takes before it writes anything itself."""
    command = [RUNTIME, *NO_NETWORK, image, "sleep", "3600"]
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


# ---- images from a registry


def measure_pulls(options):
    """Pulls images from a registry on this machine with the guide, with podman and with skopeo,
    and starts a container. Returns {MB of an image: {what: [seconds]}}."""
    results = {}
    with tempfile.TemporaryDirectory(dir=STATE) as scratch:
        folder = pathlib.Path(scratch)
        with registry.serve(folder) as server:
            podman = registry.Podman(folder / "podman")
            try:
                for size in PULLED:
                    if shutil.disk_usage(scratch).free < 6 * size * MB:
                        results[size] = {"refused": "not enough disk space"}
                        continue
                    reference = server.reference(f"pulled:{size}")
                    with tempfile.TemporaryDirectory(dir=STATE) as files:
                        push_image(size, reference, podman, pathlib.Path(files))
                    results[size] = time_pulls(reference, podman)
            finally:
                podman.close()
    return results


def push_image(size, reference, podman, folder):
    """Pushes an image of busybox and three more layers. These have this many MB in all, in files
    of 20 kB whose second halves are compressible."""
    lines = ["FROM scratch", "COPY busybox /"]
    subprocess.run(["cp", "-a", ROOTFS, folder / "busybox"], check=True)
    for layer in "abc":
        lines.append(f"COPY {layer} /{layer}")
        for number in range(size * MB // 3 // 20000):
            place = folder / layer / str(number % 100)
            place.mkdir(parents=True, exist_ok=True)
            (place / str(number)).write_bytes(os.urandom(10000) + bytes(10000))
    (folder / "Containerfile").write_text("\n".join(lines))
    podman.run("build", "-q", "--layers", "-t", reference, str(folder))
    podman.run("push", "-q", "--tls-verify=false", reference)
    podman.run("rmi", "--all", "--force")


def time_pulls(reference, podman):
    """Returns the times of each way to pull an image, three of each, in random order."""
    name = f"bench-{os.getpid()}"
    environment = os.environ | {"PYTHONPATH": f"{PROJECT}:{STEPS}"}
    guide = [sys.executable, "-P", "-m", "workshop", "image"]
    ours = [*guide, "pull", reference, "--name", name]
    theirs = ["podman", *podman.options, "pull", "-q", "--tls-verify=false", reference]
    place = f"containers-storage:[overlay@{podman.folder}/root+{podman.folder}/run]"
    copy = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{reference}"]
    remove = ["podman", *podman.options, "rmi", "-f", reference]
    ways = {
        "ours": (ours, [*guide, "rm", name]),
        "podman": (theirs, remove),
        "skopeo": ([*copy, f"{place}{reference}"], remove),
    }
    times = collections.defaultdict(list)

    def timed(what, command):
        os.sync()
        begin = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        times[what].append(time.perf_counter() - begin)
        if done.returncode:
            raise RuntimeError(f"{what}: {done.stderr}")

    for way in random.sample([*ways] * 3, 9):
        pull, undo = ways[way]
        timed(way, pull)
        if way != "skopeo":
            timed(f"{way}, again", pull)
        if way == "ours":
            timed("start", [RUNTIME, *NO_NETWORK, name, "/bin/true"])
            # Otherwise the removal would be deferred, and counted with the next pull.
            subprocess.run([*guide[:-1], "clean"], env=environment, check=True)
        subprocess.run(undo, env=environment, check=True, capture_output=True)
    return times


# ---- how long a learner waits


def measure_checks(options):
    """Runs `workshop check` for each step. Returns {step: {"first": seconds to the first tick,
    "all": seconds to the end, "said": the last line}}."""
    results = {}
    for step in sorted(hints.parent for hints in STEPS.glob("[0-9]*/hints.md")):
        with tempfile.TemporaryDirectory() as my:
            os.chmod(my, 0o755)
            shutil.copy(step / "container.py", my)
            environment = os.environ | {"WORKSHOP_MY": my}
            environment["PYTHONPATH"] = f"{PROJECT}:{STEPS}"
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
        results[step.name] = {"first": first, "all": whole, "said": last.strip()}
    return results


def measure_lessons(options):
    """Executes the lessons. Returns {lesson: seconds that its cells take, one after the other,
    or None if a cell failed}."""
    with tempfile.TemporaryDirectory() as scratch:
        report = f"{scratch}/report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["tests/test_notebooks.py", "-k", "executes", f"--junitxml={report}"]
        subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
        cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    results = {}
    for case in cases:
        passed = case.find("failure") is None and case.find("error") is None
        name = case.get("name").partition("[")[2].rstrip("]")
        results[name] = float(case.get("time")) if passed else None
    return results


# ---- the page


def median(times):
    return statistics.median(times) if times else float("nan")


def p95(times):
    return statistics.quantiles(times, n=20)[-1] if len(times) > 1 else median(times)


def row(*cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def table(*names):
    return [row(*names), row(*["---"] + ["--:"] * (len(names) - 1))]


def page(results):
    """Returns the measurements as lines of Markdown."""
    days = collections.defaultdict(list)
    for part, day in results["when"].items():
        days[day].append(part)
    when = "; ".join(f"{day} ({', '.join(parts)})" for day, parts in days.items())
    lines = [
        f"Measured on {when}: Linux {results['kernel']}, Python {results['python']}, "
        f"{results['cpus']} CPUs, {results['machine']}. The ratios count, not the times.",
        "",
    ]
    for part, function in PAGES.items():
        if part in results:
            lines += [*function(results[part]), ""]
    return lines


def start_page(part):
    medians = {name: median(times) for name, times in part["times"].items()}
    crun, runc = (medians.get(tool, float("nan")) for tool in ("crun", "runc"))
    lines = ["### Start to exit of `/bin/true`", ""]
    lines += table("runtime", "median ms", "p95 ms", "ratio to crun", "ratio to runc")
    for name, milliseconds in sorted(medians.items(), key=lambda item: item[1]):
        ours = f"**step {name}**" if name[0].isdigit() else name
        ratios = f"{milliseconds / crun:.2f}", f"{milliseconds / runc:.2f}"
        lines.append(
            row(ours, f"{milliseconds:.1f}", f"{p95(part['times'][name]):.1f}", *ratios)
        )
    lines += [""] + table("target", "ratio", "at most", "reached")
    for ours, theirs, limit in TARGETS:
        if ours in medians and theirs in medians:
            ratio = medians[ours] / medians[theirs]
            verdict = "yes" if ratio <= limit else "no"
            lines.append(row(f"{ours} / {theirs}", f"{ratio:.2f}", limit, verdict))
    if {"Python alone", "07"} <= medians.keys():
        python, ours = medians["Python alone"], medians["07"]
        lines.append(
            f"\nOf step 07's {ours:.0f} ms, Python needs {python:.0f} to start and to import "
            f"_ctypes. That alone is {python / crun:.2f} of the time that crun takes from start to "
            "exit. In this comparison crun, runc and podman start a plain directory, and root "
            "inside is root outside; step 07 has layers and a user namespace as well. A warm "
            "start is one in a process that has Python and the modules loaded already, like the "
            "process behind a notebook."
        )
    lines += [
        f"\n{name} was not measured: {why}" for name, why in part["refused"].items()
    ]
    for name, errors in part["failed"].items():
        lines.append(f"\n{name} failed {len(errors)} times: {errors[0]}")
    return lines


def growth_page(part):
    lines = ["### One more start, with other containers alive", ""]
    lines += table(
        "alive", "next start, median ms", "ratio to the first", "memory each"
    )
    first = median(part["0"]["next"])
    for alive, measured in part.items():
        milliseconds, memory = median(measured["next"]), measured["memory"] / MB
        memory = f"{memory:.1f} MB" if memory else ""
        lines.append(
            row(alive, f"{milliseconds:.1f}", f"{milliseconds / first:.2f}", memory)
        )
    return lines


def images_page(part):
    lines = ["### Copying an image, and mounting it as a layer", ""]
    lines += table(
        "image MB", "copy s", "copy disk MB", "overlay s", "overlay disk MB", "ratio"
    )
    for size, measured in part.items():
        if "refused" in measured:
            lines.append(row(size, measured["refused"], "", "", "", ""))
            continue
        copy, overlay = median(measured["copy"]), median(measured["overlay"])
        disks = [measured[f"{kind} disk"] / MB for kind in ("copy", "overlay")]
        cells = f"{copy:.2f}", f"{disks[0]:.0f}", f"{overlay:.2f}", f"{disks[1]:.0f}"
        lines.append(row(size, *cells, f"{copy / overlay:.0f}"))
    return lines


def pulls_page(part):
    names = ["image MB", "ours s", "podman s", "skopeo s", "ours/podman"]
    names += ["ours/skopeo", "ours again s", "podman again s", "start s"]
    lines = ["### Pulling an image from a registry on this machine", "", *table(*names)]
    for size, times in part.items():
        if "refused" in times:
            lines.append(row(size, times["refused"], *[""] * 7))
            continue
        of = {what: median(measured) for what, measured in times.items()}
        cells = [f"{of[name]:.1f}" for name in ("ours", "podman", "skopeo")]
        cells += [f"{of['ours'] / of[other]:.2f}" for other in ("podman", "skopeo")]
        cells += [f"{of[f'{name}, again']:.2f}" for name in ("ours", "podman")]
        lines.append(row(size, *cells, f"{of['start']:.2f}"))
    return lines


def checks_page(part):
    lines = ["### `workshop check N --alone`, on the finished step", ""]
    lines += table("step", "first tick s", "all s", "last line of output")
    for step, t in part.items():
        first = "" if t["first"] is None else f"{t['first']:.1f}"
        lines.append(row(step, first, f"{t['all']:.1f}", t["said"]))
    return lines


def lessons_page(part):
    lines = ["### Executing all cells of a lesson", "", *table("lesson", "s")]
    for name, seconds in part.items():
        lines.append(row(name, f"{seconds:.0f}" if seconds else "failed"))
    return [*lines, row("**all**", f"{sum(filter(None, part.values())):.0f}")]


def ups_page(part):
    lines = ["### `./lab up`", "", *table("start", "s")]
    return lines + [
        row(name, f"{float(seconds):.0f}") for name, seconds in part.items()
    ]


PARTS = {
    "start": measure_start,
    "growth": measure_growth,
    "images": measure_images,
    "pulls": measure_pulls,
    "checks": measure_checks,
    "lessons": measure_lessons,
}
PAGES = {
    "start": start_page,
    "growth": growth_page,
    "images": images_page,
    "pulls": pulls_page,
    "ups": ups_page,
    "checks": checks_page,
    "lessons": lessons_page,
}


def bar_chart(part):
    """Returns the medians as a bar chart: an SVG file, as bytes."""
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
        js=[],  # the picture loads no script
    )
    chart.x_labels = [f"step {n}" if n[0].isdigit() else n for n, _ in ordered]
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
    parser.add_argument(
        "--runs", type=int, default=40, help="runs of each runtime (40)"
    )
    parser.add_argument(
        "--alive",
        default=[1, 10, 100, 500],
        metavar="N,N…",
        help="how many containers are alive when one more starts (1,10,100,500)",
        **numbers,
    )
    parser.add_argument(
        "--ups",
        action="append",
        default=[],
        metavar="WHAT=SECONDS",
        help="a time of ./lab up, measured elsewhere",
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        metavar="FOLDER",
        help="for bench.json, bench.md, bench.svg",
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"unknown part: {unknown.pop()}. The parts are {', '.join(PARTS)}")
    if os.geteuid() != 0:
        sys.exit("bench.py: starting containers needs root. Type: sudo bench/bench.py")
    results = {
        "when": {},
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }
    if options.parts and options.out and (options.out / "bench.json").exists():
        previous = json.loads((options.out / "bench.json").read_text())
        # The figures of the other parts stay, if they come from the same machine.
        if all(previous[what] == results[what] for what in results if what != "when"):
            results = previous
    if options.ups:
        results["when"]["ups"] = datetime.date.today().isoformat()
        results["ups"] = dict(word.split("=") for word in options.ups)
    subprocess.run([NETWORK, "on"], check=True)
    try:
        for part in options.parts or PARTS:
            print(f"measuring: {part}", file=sys.stderr, flush=True)
            results[part] = PARTS[part](options)
            results["when"][part] = datetime.date.today().isoformat()
            results = json.loads(json.dumps(results))  # numbers as keys become strings
            if options.out:
                write_results(results, options.out)
    finally:
        subprocess.run([NETWORK, "off"], check=True)
    print("\n".join(page(results)))


def write_results(results, folder):
    """Writes all results so far. It is called after each part, so that nothing is lost if a
    later part fails."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(results))
    (folder / "bench.md").write_text("\n".join(page(results)))
    if "start" in results:
        (folder / "bench.svg").write_bytes(bar_chart(results["start"]))


if __name__ == "__main__":
    main()
