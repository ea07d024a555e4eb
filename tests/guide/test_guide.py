"""`workshop`, the guide: what a learner types and reads, and that nothing of theirs and nothing on
the machine is lost, whatever their runtime does."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

import pytest
from runtime import FINISHED, PROJECT, STEPS, Terminal, host_state
from webpage import whole_by_itself

from workshop import diagnose, sandbox
from workshop.namespaces import KINDS
from workshop.project import STEPS as WORKSHOP_STEPS
from workshop.project import find_step
from workshop.sandbox import CGROUP_PREFIX, Ending
from workshop.staging import SCRATCH

NAMES = [step.parent.name for step in STEPS]
NEEDS_LIMITS = pytest.mark.needs("cgroup2")
STEP_00 = STEPS[0].read_text()


class Learner:
    """A learner with their own my/, and what they type."""

    def __init__(self, folder):
        self.my, self.path = folder, folder / "container.py"

    def environment(self):
        path = os.pathsep.join([str(PROJECT), str(PROJECT / "steps")])
        new = {"WORKSHOP_MY": str(self.my), "PYTHONPATH": path}
        return os.environ | new | {"COLUMNS": "80"}

    def type(self, words, seconds=400, stdin=""):
        """Runs `workshop WORDS`. Returns its CompletedProcess."""
        command = [sys.executable, "-m", "workshop", *words.split()]
        return subprocess.run(
            command,
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            cwd="/",
        )

    def has(self, source):
        """Writes the learner's runtime."""
        self.my.mkdir(exist_ok=True)
        self.path.write_text(source)
        self.path.chmod(0o755)

    def progress(self):
        return json.loads((self.my / ".workshop/progress.json").read_text())

    def snapshots(self):
        found = sorted((self.my / ".workshop/snapshots").glob("*.py"))
        return [path.read_text() for path in found]


@pytest.fixture
def learner():
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Learner(pathlib.Path(name) / "my")


@pytest.fixture
def host():
    """Asserts after the test that the host is as before, and that no sandbox is left."""
    own = f"{os.getpid()}-*"

    def state():
        cgroups = pathlib.Path("/sys/fs/cgroup").glob(f"{CGROUP_PREFIX}*")
        left = [*SCRATCH.glob(own), *cgroups]
        return host_state(), [str(path) for path in left]

    before = state()
    yield
    assert state() == before


def one_line(done, pattern):
    """Returns whether a command failed with one line on stderr that matches a pattern."""
    lines = done.stderr.splitlines()
    return done.returncode == 1 and len(lines) == 1 and re.search(pattern, lines[0])


# ---- the way through


@pytest.mark.quick
def test_subcommands_work_one_after_the_other_in_processes_of_their_own(learner):
    """tests/unit has what each of them does, all in one process."""
    assert "Next: `workshop start` creates" in learner.type("").stdout
    assert learner.type("start").returncode == 0
    assert learner.path.read_text() == STEP_00 and os.access(learner.path, os.X_OK)
    assert "then `workshop check`" in " ".join(learner.type("").stdout.split())
    for number in 1, 2:
        assert learner.type("hint 1").stdout.startswith(f"Hint {number} of ")
    assert "+    linux.sethostname(args.hostname" in learner.type("diff 1").stdout
    assert learner.type("solve 1").returncode == 1
    assert learner.type("solve 1 --write").returncode == 0
    assert learner.path.read_text() == STEPS[1].read_text()
    assert learner.type("undo").returncode == 0
    assert learner.path.read_text() == STEP_00
    assert one_line(learner.type("undo"), "oldest snapshot")
    assert learner.type("nonsense").returncode == 2


ONE_FACT = "check 0 --only command"
WORDS = [ONE_FACT, "breakout 1", "hint 1", "solve 1", "clean", "doctor"]
WORDS += [
    "image layers busybox --files",
    "reset",
    "undo",
    "inspect 1",
    "grade --upto 0",
]
WORDS += ["demo --outline"]


@pytest.mark.parametrize("words", WORDS, ids=lambda words: words.split()[0])
def test_full_output_is_an_error_of_one_line_for_a_subcommand(learner, words):
    learner.has(STEP_00)
    if words == "undo":
        learner.has("# mine")
        learner.type("reset")
    variables = {"PYTHONIOENCODING": "ascii", "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "workshop", *words.split()],
            env=learner.environment() | variables,
            input=STEP_00,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=400,
            cwd="/",
        )
    assert one_line(
        done, "^workshop: (the output cannot .*: )?No space left on device$"
    )


# (a step, one of its facts that does not hold before, what the step before lacks).
PATH = [
    (1, "option hostname sets the host name", "USAGE lacks --hostname NAME"),
    (2, "command is pid 1", "CLONE_NEWPID"),
    pytest.param(
        *(3, "swapping the image", "USAGE lacks IMAGE"), marks=pytest.mark.quick
    ),
    (4, "loopback only", "USAGE lacks --net bridge|none"),
    (5, "uid and gid maps are as specified", "CLONE_NEWUSER"),
    pytest.param(
        *(6, "born in its cgroup", "USAGE lacks --pids COUNT"), marks=NEEDS_LIMITS
    ),
    (7, "writes vanish", "not overlay"),
]


@pytest.mark.parametrize(("number", "fact", "lacks"), PATH)
def test_check_is_red_on_the_step_before_and_green_on_the_step(
    learner, host, number, fact, lacks
):
    learner.has(STEPS[number - 1].read_text())
    red = learner.type(f"check {number} --only {fact.replace(' ', '_')}")
    assert red.returncode == 1 and "✗" in red.stdout, red
    assert "0 of 1 fact holds." in red.stdout.splitlines()[-1], red
    flat = " ".join(red.stdout.split())
    assert lacks in flat and re.search(r"why \w+", flat), red.stdout
    learner.has(STEPS[number].read_text())
    green = learner.type(f"check {number} --only {fact.replace(' ', '_')}")
    assert green.returncode == 0 and "✓" in green.stdout, green
    assert green.stdout.splitlines()[-1] == "1 of 1 fact holds.", green


@pytest.mark.quick
def test_check_of_a_step_alone(learner, host):
    learner.has(STEPS[1].read_text())
    done = learner.type("check 1 --alone")
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0 and re.fullmatch(r"Step 01 holds: \d+ facts\.", last), (
        done
    )
    assert list(learner.progress()["passed"]) == ["01"]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=[NEEDS_LIMITS] if step.number == "06" else [])
        for step in WORKSHOP_STEPS
    ],
    ids=lambda step: step.number,
)
def test_every_fact_of_a_step_holds_in_a_check(learner, host, step):
    """A fact can hold in the suite, and still fail in the sandbox of a check, which has another
    /tmp, and no systemd: then no learner could pass the step."""
    learner.has(step.container.read_text())
    done = learner.type(f"check {step.number} --alone")
    # A fact may starve in an emulated VM, but not twice.
    if "took too long" in done.stdout:
        done = learner.type(f"check {step.number} --alone")
    assert done.returncode == 0, done.stdout


def test_check_of_a_whole_step(learner, host):
    """Red, then green: what it prints, what it saves, and what the report says."""
    assert one_line(learner.type("report"), "nothing has been checked")
    learner.has(STEPS[1].read_text().replace("    linux.sethostname(args", "    (args"))
    red = learner.type("check 1")
    last = red.stdout.splitlines()[-1]
    assert red.returncode == 1, red
    assert re.fullmatch(r"Step 01: \d of \d\d facts do(es)? not hold yet\.", last), red
    flat = " ".join(red.stdout.split())
    assert "expected 'container'" in flat and "uts_namespaces(7)" in flat, red.stdout
    assert "Does child call linux.sethostname, before process.execute?" in flat
    # Each fact that does not hold is followed by what was expected and what has happened.
    lines = red.stdout.partition("\n\n")[0].splitlines()
    wrong = [n for n, line in enumerate(lines) if line.startswith("  ✗")]
    assert len(wrong) > 3 and max(map(len, lines)) <= 80, red.stdout
    for number in wrong:
        assert re.match(" {6}(expected|happened)  .", lines[number + 1]), red.stdout
    assert not re.search("not True|assert|argv", "\n".join(lines)), red.stdout
    learner.has(STEPS[1].read_text())
    green = learner.type("check 1")
    last = green.stdout.splitlines()[-1]
    pattern = r"Step 01 holds: (\d+) facts, and (\d+) of the steps before it\."
    assert green.returncode == 0 and re.fullmatch(pattern, last), green
    count = sum(map(int, re.fullmatch(pattern, last).groups()))
    assert green.stdout.count("✓") == count and "✗" not in green.stdout
    assert set(learner.progress()["passed"]) == {"00", "01"}
    assert "02_pid" in [
        line.split()[1] for line in learner.type("").stdout.splitlines() if "▸" in line
    ]

    out = learner.my.parent / "out"
    done = learner.type(f"report --out {out}")
    assert done.returncode == 0, done
    results = json.loads((out / "report.json").read_text())
    assert results["held"] == results["facts"] == count and results["lines"] == 15
    cases = list(ElementTree.parse(out / "report.xml").iter("testcase"))
    assert len(cases) == count
    page = (out / "report.html").read_text()
    assert page.count("✓") == count and "Step 01 holds" in page
    assert whole_by_itself(page)
    learner.has("# changed\n")
    assert learner.type(f"report --out {out}").returncode == 0
    assert "changed since" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    "kinds",
    [
        [kind for kind in KINDS if kind != "cgroup"],
        pytest.param(["cgroup"], marks=NEEDS_LIMITS),
    ],
)
def test_last_step_ends_with_a_certificate(learner, host, kinds):
    """It is about the runtime that has passed, whatever the learner writes afterwards."""
    learner.has(FINISHED.read_text())
    script = """
from workshop import certificates, progress
from workshop.project import STEPS
from workshop.terminal import console
from workshop.workspace import Workspace
workspace = Workspace.current()
for step in STEPS:
    progress.record(workspace, step.number, {step.number: 20}, workspace.source())
console().print(certificates.congratulation(workspace))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=learner.environment(),
        capture_output=True,
        text=True,
    )
    assert "99 lines of Python" in done.stdout and not done.stderr, done
    assert "run --net none" in done.stdout  # the network of step 04 may be off
    page = (learner.my / "certificate.html").read_text()
    assert "<b>99</b>lines of Python" in page and whole_by_itself(page)
    for kind in kinds:
        row = rf"<code>{kind}</code>.*?>(\d+)<.*?>(\d+)<"
        inside, outside = re.search(row, page).groups()
        assert inside != outside, page
    assert f"<b>{8 * 20}</b>facts" in page
    learner.has(STEP_00)
    (learner.my / ".workshop/last.json").write_text(
        json.dumps({"when": "2026-01-01T00:00:00+00:00", "step": "00", "sha256": ""})
    )
    assert one_line(learner.type("report"), "could not be read")
    assert "<b>99</b>lines" in (learner.my / "certificate.html").read_text()


# ---- hints about a half-finished runtime: see also tests/test_hint_mutants.py


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=[NEEDS_LIMITS] if "06" in name else [], id=name)
        for step, name in zip(STEPS, NAMES, strict=True)
    ],
)
def test_finished_step_lacks_nothing(step, host):
    with sandbox.staged(step.read_bytes()) as staging:
        found = diagnose.findings(find_step(step.parent.name[:2]), staging, 30)
    assert found == []


PRIVATE = '    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)'
TMPFS = '"tmpfs", "/srv", "tmpfs"'


def test_check_reports_what_has_changed_on_the_host(learner, host):
    source = STEPS[3].read_text()
    assert source.count(PRIVATE) == 1
    learner.has(source.replace(PRIVATE, f"    linux.mount({TMPFS})\n{PRIVATE}"))
    done = learner.type("check 3 --only the_image_(busybox)")
    said = " ".join(done.stdout.split())
    assert "container.py run busybox ls" in said and "umount" not in said, done
    assert "the host is not as it was" in said and "/srv" in said, done


# ---- runtimes that misbehave


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("while True: pass", "does not end"),
        ("while True: print('x' * 1000)", "prints without end"),
        ("os.kill(os.getppid(), 9)", "killed everything around it"),
        ("os.write(1, bytes(range(256)))", "should print its usage"),
        ("1 / 0", "line .*ZeroDivisionError"),
    ],
)
def test_runtime_that_goes_wrong_at_once_is_reported_in_one_line(
    learner, host, line, pattern
):
    learner.has(STEP_00.replace("import sys\n", f"import sys\n{line}\n"))
    done = learner.type("check 0", 60)
    assert one_line(done, pattern), done
    assert len(done.stderr) < 1000 and done.stderr.strip().isprintable(), done.stderr


LEFTOVERS = """
    import subprocess, linux
    linux.mount("left", "/mnt", "tmpfs")
    linux.sethostname("left-behind")
    for path in "/left-behind", "/var/left-behind", "/var/lib/workshop/containers/1", \\
                "/sys/fs/cgroup/workshop/1":
        try:
            os.makedirs(path)
        except OSError:
            pass
    subprocess.run("ip link add left0 type veth peer name left1; ipcmk -Q; "
                   "touch /dev/shm/left /tmp/left /var/tmp/left", shell=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    subprocess.Popen("exec setsid sleep 98765 >/dev/null 2>&1", shell=True)
    linux.umount("/proc", linux.MNT_DETACH)
"""
AT_WORK = {  # {what parent does: (its lines, what the check says)}
    "leaves all kinds of things": (LEFTOVERS, ""),
    "never returns": ("    while True: pass\n", "nothing came back within"),
    "kills its parent": ("    os.kill(os.getppid(), 9)\n", "was killed by SIGKILL"),
    "floods": ("    while True: os.write(1, b'x' * 65536)\n", ""),
    "bombs": ("    while True: os.fork()\n", ""),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[NEEDS_LIMITS] if n == "bombs" else []) for n in AT_WORK],
)
def test_runtime_that_misbehaves_is_bounded_and_leaves_nothing(learner, host, name):
    line, text = AT_WORK[name]
    docstring = STEP_00.splitlines().index("def parent(args):") + 2
    lines = STEP_00.splitlines(keepends=True)
    learner.has("".join([*lines[:docstring], line, *lines[docstring:]]))
    done = learner.type("check 0 --only missing_command")
    assert done.returncode in (0, 1) and not done.stderr, done
    assert re.fullmatch(r"\d of 1 fact holds\.", last(done)), done
    assert text in " ".join(done.stdout.split()), done.stdout
    assert not re.search(r"[\x00-\x08\x0e-\x1f]", done.stdout)
    assert "98765" not in subprocess.check_output(["ps", "ax"], text=True)


def last(done):
    return done.stdout.splitlines()[-1]


def test_clean_removes_what_a_killed_check_has_left(learner, host):
    learner.has(
        STEP_00.replace("def parent(args):\n", "def parent(args):\n    while 1: 0\n")
    )
    command = [sys.executable, "-m", "workshop", "check", "0"]
    with subprocess.Popen(command, env=learner.environment(), cwd="/") as process:
        staging = SCRATCH / f"{process.pid}-staging"
        begin = time.monotonic()
        while not (staging / "log").exists():
            assert time.monotonic() < begin + 60
            time.sleep(0.1)
        process.kill()
    assert staging.exists()
    begin = time.monotonic()
    while staging.exists():  # pytest, an orphan, ends as soon as it can
        assert time.monotonic() < begin + 120
        learner.type("clean")
        time.sleep(0.5)
    while list(SCRATCH.glob("[0-9]*-[0-9]*")) and time.monotonic() < begin + 120:
        learner.type("clean")


def test_layers_of_an_image_are_out_of_reach(host):
    """The next lesson needs the host's images, whatever a runtime does to them."""
    layer = next(pathlib.Path("/var/lib/workshop/layers").iterdir())

    def spoil():
        try:
            (layer / "spoilt").touch()
        except OSError as error:
            return error.strerror
        return "written"

    with sandbox.staged(b"") as staging:
        ending = sandbox.run(spoil, staging, 20)
    assert ending == Ending("Read-only file system", late=False, status=0)
    assert not (layer / "spoilt").exists()


# ---- nothing is lost


def test_several_commands_at_once_keep_the_progress(learner):
    learner.type("start")
    command = [sys.executable, "-m", "workshop", "hint", "3"]
    options = {"env": learner.environment(), "cwd": "/", "stdout": subprocess.DEVNULL}
    crowd = [subprocess.Popen(command, **options) for _ in range(4)]
    assert [one.wait(60) for one in crowd] == [0] * 4
    assert learner.progress()["hints"] == {"03": 4}


def test_files_belong_to_the_owner_of_the_directory(learner):
    learner.my.mkdir()
    shutil.chown(learner.my, "nobody", "nogroup")
    learner.type("start")
    learner.type("hint 1")
    owner = learner.my.stat().st_uid
    found = [learner.my, *learner.my.rglob("*")]
    assert len(found) > 4 and {p.stat().st_uid for p in found} == {owner}, found


# ---- the rest


@pytest.mark.quick
def test_breakout_works_before_and_is_stopped_after(learner, host):
    learner.has(STEP_00)
    done = learner.type("breakout 1")
    assert done.returncode == 1 and done.stdout.count("BROKEN IN") == 4, done
    learner.has(STEPS[1].read_text())
    done = learner.type("breakout 1")
    assert done.returncode == 0 and "your container holds" in last(done), done
    assert "invalid id" in done.stdout and done.stdout.count("BROKEN IN") == 2, done


def test_grade_is_a_line_of_json(learner, host):
    """tests/unit has the facts that it checks once more; tests/lab has hostile runtimes."""
    old, new = "linux.sethostname(args.hostname", "str(args.hostname"
    source = STEPS[1].read_text()
    assert source.count(old) == 1
    done = learner.type("grade --upto 1", stdin=source.replace(old, new))
    grade = json.loads(done.stdout)
    assert done.returncode == 0 and done.stdout.count("\n") == 1, done
    (held, facts), (held_1, facts_1) = grade["steps"].values()
    assert grade["passed"] == ["00"] and held == facts > 30, grade
    assert held_1 < facts_1 and "host name" in grade["wrong"], grade


def test_watch_checks_again_on_save_and_on_enter(learner):
    learner.has("(\n")
    command = [
        "/usr/bin/env",
        f"WORKSHOP_MY={learner.my}",
        f"PYTHONPATH={PROJECT}:{PROJECT}/steps",
    ]
    terminal = Terminal([*command, sys.executable, "-m", "workshop", "watch", "0"])
    try:
        terminal.wait_for("line 1: .*never closed")
        terminal.wait_for("q to end")
        learner.has("\n\n)\n")
        terminal.wait_for("line 3: unmatched")
        terminal.wait_for("q to end")
        terminal.type("\n")
        terminal.wait_for("line 3: unmatched")
        terminal.wait_for("q to end")
        terminal.type("q")
        assert terminal.status() == 0
    finally:
        with contextlib.suppress(OSError):
            terminal.close()


@pytest.mark.quick
def test_only_that_matches_no_fact_is_wrong_usage(learner):
    learner.has(STEP_00)
    done = learner.type("check 0 --only no_such_fact")
    assert done.returncode == 2 and "no fact of step 00" in done.stderr, done
    assert len(done.stderr.splitlines()) <= 2 and done.stdout == "", done
