"""What step 06 does with three files, for all of config.json's resources: cgroups(7), version 2.

A cgroup is named by its path below /sys/fs/cgroup, such as "/machine.slice/box". None: this
machine has no cgroup v2, or podman was told --cgroups=disabled.
"""

import os
import time

import kernel
import process

TOP = "/sys/fs/cgroup"
# Every container may use these, whatever its rules say: config-linux.md, Default Devices.
DEFAULT_RULES = [{"allow": True, "type": kind, "access": "m"} for kind in "cb"] + [
    {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
    for major, minor in [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9)]
    + [(5, 0), (5, 1), (5, 2), (136, -1)]
]

SYSTEMD = "org.freedesktop.systemd1"
# What systemd calls the files that it writes, too: systemd.resource-control(5).
PROPERTIES = {"memory.min": "MemoryMin", "memory.low": "MemoryLow"}
PROPERTIES |= {"memory.high": "MemoryHigh", "memory.max": "MemoryMax"}
PROPERTIES |= {"memory.swap.max": "MemorySwapMax", "pids.max": "TasksMax"}
PROPERTIES |= {"cpu.weight": "CPUWeight", "io.weight": "IOWeight"}
PROPERTIES |= {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}


def available():
    """Returns whether cgroup v2 is where it should be."""
    return os.path.exists(f"{TOP}/cgroup.controllers")


def path_for(name, wanted, manager):
    """Returns the path of a new container's cgroup, or None. wanted: linux.cgroupsPath, a
    path, or for the manager "systemd" SLICE:PREFIX:NAME."""
    if manager == "disabled" or not available():
        return None
    if manager == "systemd":
        slice_, prefix, scope = (wanted or f":oci:{name}").split(":")
        parts = (slice_ or "system.slice").removesuffix(".slice").split("-")
        stems = ["-".join(parts[: n + 1]) for n in range(len(parts))]
        directory = "".join(
            f"/{stem}.slice" for stem in stems
        )  # a-b.slice is in a.slice
        return f"{directory}/{prefix}-{scope}.scope"
    return os.path.normpath("/" + (wanted or f"oci-{name}").lstrip("/"))


def make(cgroup, pid, manager):
    """Makes a cgroup and moves a process into it. The process's children are born there."""
    if manager == "systemd":
        unit, parent = (
            os.path.basename(cgroup),
            os.path.basename(os.path.dirname(cgroup)),
        )
        words = f"{unit} replace 4 PIDs au 1 {pid} Slice s {parent} Delegate b true "
        words += "CollectMode s inactive-or-failed 0"
        ask_systemd(f"StartTransientUnit ssa(sv)a(sa(sv)) {words}")
        for _ in range(500):  # systemd answers before it has done it
            if process.read(f"/proc/{pid}/cgroup").rstrip().endswith(cgroup):
                break
            time.sleep(0.01)
    os.makedirs(TOP + cgroup, exist_ok=True)
    delegate(os.path.dirname(cgroup))
    process.write(f"{TOP}{cgroup}/cgroup.procs", str(pid))


def ask_systemd(words):
    """Calls a method of systemd's manager, with its arguments as busctl(1) has them."""
    process.run(
        f"busctl call {SYSTEMD} /org/freedesktop/systemd1 {SYSTEMD}.Manager {words}"
    )


def delegate(parent):
    """Lets the children of a cgroup, and of all above it, have every controller there is. A
    controller that one of them refuses is missing below, where limits then say so."""
    parts = [part for part in parent.split("/") if part]
    for depth in range(len(parts) + 1):
        place = "/".join([TOP, *parts[:depth]])
        for controller in process.read(f"{place}/cgroup.controllers").split():
            try:
                process.write(f"{place}/cgroup.subtree_control", f"+{controller}")
            except OSError:
                pass


def limits(resources):
    """Returns the files of a cgroup and what to write to each, in this order, for the
    resources of config.json: config-linux.md. Pure, so that it can be tested."""
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    files = []

    def add(file, value, text=None):
        if value is not None:
            files.append((file, str(text if text is not None else value)))

    def most(value):
        return "max" if value == -1 else value

    limit, swap = memory.get("limit"), memory.get("swap")
    add("memory.max", limit, most(limit))
    add("memory.low", memory.get("reservation"), most(memory.get("reservation")))
    if swap is not None:  # version 1 counts memory and swap together
        if swap > 0 and (limit is None or limit > swap):
            raise ValueError("memory.swap must not be smaller than memory.limit")
        add(
            "memory.swap.max",
            swap,
            "max" if swap == -1 else max(swap - (limit or 0), 0),
        )
    shares, quota = cpu.get("shares"), cpu.get("quota")
    if shares:  # 2 to 262144 becomes 1 to 10000
        add("cpu.weight", shares, 1 + (shares - 2) * 9999 // 262142)
    if quota or cpu.get("period"):
        value = quota if quota and quota > 0 else "max"
        add("cpu.max", value, f"{value} {cpu.get('period') or 100000}")
    add("cpu.max.burst", cpu.get("burst"))
    add("cpu.idle", cpu.get("idle"))
    add("cpuset.cpus", cpu.get("cpus") or None)
    add("cpuset.mems", cpu.get("mems") or None)
    pids = (resources.get("pids") or {}).get("limit")
    add("pids.max", pids or None, most(pids) if pids else None)
    block = resources.get("blockIO") or {}
    weight = block.get("weight") or None
    add("io.weight", weight, weight and f"default {1 + (weight - 10) * 9999 // 990}")
    for key, word in (
        ("ReadBps", "rbps"),
        ("WriteBps", "wbps"),
        ("ReadIOPS", "riops"),
        (
            "WriteIOPS",
            "wiops",
        ),
    ):
        for device in block.get(f"throttle{key}Device") or ():
            number = f"{device['major']}:{device['minor']}"
            add("io.max", device["rate"], f"{number} {word}={device['rate']}")
    for page in resources.get("hugepageLimits") or ():
        add(f"hugetlb.{page['pageSize']}.max", page["limit"])
    for device, most_of in (resources.get("rdma") or {}).items():
        pairs = ("hca_handle", "hcaHandles"), ("hca_object", "hcaObjects")
        words = [f"{word}={most_of[key]}" for word, key in pairs if key in most_of]
        add("rdma.max", device, " ".join([device, *words]))
    for file, value in (resources.get("unified") or {}).items():
        if "/" in file or "." not in file:
            raise ValueError(
                f"the specified key has not the form CONTROLLER.VALUE `{file}`"
            )
        add(file, value)
    return files


def properties(resources):
    """Returns the limits that systemd has names for, as busctl(1) wants them. Pure."""
    words = []
    for file, value in limits(resources):
        numbers = value.replace("max", str(2**64 - 1)).split()
        if file == "cpu.max" and len(numbers) == 2 and "".join(numbers).isdigit():
            quota, period = map(int, numbers)
            second = -(-quota * 10**6 // period) if "max" not in value else quota
            words.append(f"CPUQuotaPerSecUSec t {second}")
            words.append(f"CPUQuotaPeriodUSec t {period}")
        elif file.startswith("cpuset.") and file in PROPERTIES:
            pairs = [part.partition("-")[::2] for part in value.split(",")]
            if all((first + last).isdigit() for first, last in pairs):
                ranges = [range(int(a), int(b or a) + 1) for a, b in pairs]
                mask = sum(1 << number for number in set().union(*ranges))
                octets = mask.to_bytes(mask.bit_length() + 7 >> 3, "little")
                list_ = f"{len(octets)} {' '.join(map(str, octets))}"
                words.append(f"{PROPERTIES[file]} ay {list_}")
        elif file in PROPERTIES and numbers[-1].isdigit():
            words.append(f"{PROPERTIES[file]} t {numbers[-1]}")
    return words


def apply(cgroup, resources, manager):
    """Writes a container's limits. OSError: the kernel refuses one, or lacks its controller.

    The manager systemd must know them, because it writes the files of its units again
    whenever a property of one changes.
    """
    if manager == "systemd" and (known := properties(resources)):
        scope = os.path.basename(cgroup)
        words = f"{scope} true {len(known)} {' '.join(known)}"
        ask_systemd(f"SetUnitProperties sba(sv) {words}")
    there = process.read(f"{TOP}{cgroup}/cgroup.controllers").split()
    for file, value in limits(resources):
        controller = file.split(".")[0]
        if controller not in [*there, "cgroup"]:
            if value == "max":
                continue  # without its controller nothing is limited, either
            text = f"the requested cgroup controller `{controller}` is not available"
            raise SystemExit(text)
        try:
            process.write(f"{TOP}{cgroup}/{file}", value)
        except FileNotFoundError:
            if file != "memory.swap.max" or value not in ("0", "max"):
                raise SystemExit(f"{file}: no such file or directory") from None


def restrict_devices(cgroup, rules):
    """Lets a container open only the devices that its rules and the specification allow."""
    kernel.attach_devices(
        kernel.compile_devices([*rules, *DEFAULT_RULES]), TOP + cgroup
    )


def of(pid):
    """Returns the cgroup that a process is in, or None."""
    lines = process.read(f"/proc/{pid}/cgroup").splitlines()
    own = [line[3:] for line in lines if line.startswith("0::")]
    return own[0] if own and available() else None


def freeze(cgroup, yes):
    """Stops or continues all processes in a cgroup, and waits until it is so."""
    process.write(f"{TOP}{cgroup}/cgroup.freeze", str(int(yes)))
    for _ in range(500):
        if frozen(cgroup) == yes:
            return
        time.sleep(0.01)
    raise SystemExit(f"{cgroup} does not freeze")


def frozen(cgroup):
    """Returns whether the processes in a cgroup are stopped."""
    try:
        return process.read_counts(f"{TOP}{cgroup}/cgroup.events").get("frozen") == 1
    except FileNotFoundError:
        return False


def processes(cgroup):
    """Returns the pids of all processes in a cgroup and below it."""
    found = []
    for directory, _, _ in os.walk(TOP + cgroup):
        found += map(int, process.read(f"{directory}/cgroup.procs").split())
    return found


def remove(cgroup):
    """Kills what still runs in a cgroup, and removes it with everything below."""
    place = TOP + cgroup
    for _ in range(500):
        try:
            if "populated 1" in process.read(f"{place}/cgroup.events"):
                process.write(f"{place}/cgroup.kill", "1")
            for directory, _, _ in os.walk(place, topdown=False):
                os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError:  # EBUSY: a process has not ended yet
            time.sleep(0.01)
    raise SystemExit(f"{place} cannot be removed")
