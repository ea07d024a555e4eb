"""Any text on a command line or in a file is either read, or refused in one line. It causes no
traceback, and no file appears outside its place. The inputs are hypothesis's, the same ones in
every run. tests/test_against_kernel.py has the tests that need the kernel."""

import contextlib
import io
import json
import os
import pathlib
import re
import stat
import string
import subprocess
import tempfile

import command_line
import errors
import pytest
import tools
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_layers import KINDS, NAMES, lay, tree
from people import learner_with
from runtime import FINISHED, FULL, LAST, PROJECT, STEPS, Runtime

from workshop import __main__ as guide
from workshop import commits, containers, diagnose, images, procfs, sandbox
from workshop import layers as library
from workshop.diagnose import Isolation
from workshop.errors import Failure
from workshop.layers import Layer
from workshop.project import find_step
from workshop.terminal import printable

MANY = settings(
    max_examples=400 if FULL else 50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
FEW = settings(
    MANY, max_examples=100 if FULL else 20
)  # where each takes system calls, or a tool

WORD = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=12)
NUMBER = st.one_of(
    st.from_regex(r"-?[0-9]{1,4}(\.[0-9]{1,3})?[KMGkmgT]?", fullmatch=True),
    st.sampled_from(
        ["", "²", "١", "nan", "inf", "1e3", "0x10", "9" * 5000, "0" * 5000]
    ),
    WORD,
)
# Names of files.
NAME = st.one_of(
    st.sampled_from(NAMES),
    st.text(
        st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=8
    ),
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@contextlib.contextmanager
def printed():
    """Yields what the block prints: stdout and stderr, each a StringIO."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


# ---- the runtime's command line


USAGE = Runtime(LAST).usage.partition("container.py ")[2].strip()
OPTIONS = ["--hostname", "--net", "--memory", "--pids", "--cpus"]


@MANY
@given(
    st.lists(st.one_of(st.sampled_from(["run", "--", "-h", "-\n", *OPTIONS]), NUMBER))
)
def test_command_line_is_read_or_refused_in_one_line(words):
    with printed() as (out, err):
        try:
            args = command_line.parse(words, USAGE)
        except SystemExit as error:
            status = errors.report(error)
            lines = (out if status == 0 else err).getvalue().splitlines()
            assert status in (0, errors.OWN_ERROR) and len(lines) == 1, lines
            return
    assert words[0] == "run" and all(words.count(word) for word in args.command)
    assert args.command or "[COMMAND...]" in USAGE
    assert args.net in (None, "bridge", "none")


@MANY
@given(st.sampled_from(["--memory", "--pids", "--cpus"]), NUMBER)
def test_limit_is_a_number_that_the_machine_can_hold_or_is_refused(option, value):
    try:
        args = command_line.parse(["run", f"{option}={value}", "image", "true"], USAGE)
    except SystemExit as error:
        assert str(error.code).startswith(option), error
        return
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    taken = vars(args)[option[2:]]
    number = float(taken.rstrip("KMGkmg")) * units.get(taken[-1].upper(), 1)
    most = {
        "--memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "--pids": int(pathlib.Path("/proc/sys/kernel/pid_max").read_text()),
        "--cpus": os.cpu_count(),
    }
    assert 0 < number <= most[option]


# ---- images and layers


@MANY
@given(
    st.one_of(
        st.binary(max_size=80),
        WORD.map(str.encode),
        st.lists(WORD.map(lambda word: f"/{word}\n".encode())).map(b"".join),
    )
)
def test_list_of_layers_is_read_as_step_07_reads_it(content):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "IMAGES", pathlib.Path(folder))
        path = pathlib.Path(folder, "image")
        path.write_bytes(content)
        text = tools.read(path)
        lines = text.removesuffix("\n").split("\n")
        try:
            layers = images.layers_of("image")
        except Failure:
            assert any(x[:1] != "/" or x != x.rstrip() for x in lines)
            return
        assert [os.fspath(layer.path) for layer in layers] == [
            os.fspath(pathlib.Path(line)) for line in lines
        ]
        with printed() as (out, _), contextlib.suppress(Failure):
            guide.main(["image", "ls"])
            images.check_layers(layers)
        assert "\x1b" not in out.getvalue()


@MANY
@given(WORD)
def test_name_of_an_image_never_leads_out_of_its_directory(name):
    try:
        images.check_name(name)
    except Failure as error:
        assert len(printable(str(error)).splitlines()) == 1
        return
    assert name.isascii() and pathlib.Path("/images", name).parent.name == "images"
    assert not {*string.whitespace, ":", ","} & {
        *name
    }  # what an overlay's options mean


# A layer, as layers.lay() makes it.
LAYER = st.dictionaries(
    st.lists(NAME, min_size=1, max_size=3).map("/".join),
    st.sampled_from(KINDS),
    max_size=6,
)


def merged(folders, prefix=""):
    """Yields the files that a stack of directories shows, the top one first: as
    filesystems/overlayfs describes it, directory by directory from the root down."""
    names = {}
    for folder in folders:
        for item in os.scandir(folder):
            names.setdefault(item.name, []).append(item)
    for name, items in names.items():
        below = []
        for item in items:
            if not item.is_dir(follow_symlinks=False):
                break
            below.append(item.path)
            if "user.overlay.opaque" in os.listxattr(item.path):
                break
        status = items[0].stat(follow_symlinks=False)
        if below:
            yield from merged(below, f"{prefix}/{name}")
        elif not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0):
            yield f"{prefix}/{name}"


# Of few names, so that layers hide what is below; and some others.
FEW_NAMES = st.sampled_from("aaabbc")
DENSE = st.dictionaries(
    st.lists(st.one_of(FEW_NAMES, FEW_NAMES, NAME), min_size=1, max_size=3).map(
        "/".join
    ),
    st.sampled_from(KINDS),
    max_size=8,
)


@MANY
@given(st.lists(DENSE, min_size=1, max_size=3))
def test_stack_of_layers_is_read_as_overlayfs_merges_it(layers):
    with tempfile.TemporaryDirectory() as folder:
        stack = [f"{folder}/{n}" for n in range(len(layers))]
        for layer, path in zip(layers, stack, strict=True):
            lay(layer, path)
        found = list(library.entries([Layer(pathlib.Path(path)) for path in stack]))
        seen = [entry.path for entry in found if entry.is_seen]
        assert len(seen) == len({*seen}) and {*seen} == {*merged(stack)}
        assert all(e.hidden_by is None or e.hidden_by < e.layer for e in found)


@FEW
@given(LAYER)
def test_commit_copies_everything_in_a_layer_and_nothing_else(layer):
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        source, outside = f"{folder}/upper", f"{folder}/outside"
        os.mkdir(outside)
        lay(layer, source)
        for path in pathlib.Path(source).rglob("*"):
            if path.is_file() and not path.is_symlink():
                os.link(
                    path,
                    f"{source}/second-name-of-{len(str(path))}-{path.stat().st_ino}",
                )
        pathlib.Path(source, "out").symlink_to(outside)
        before = tree(source)
        commits._copy(pathlib.Path(source), pathlib.Path(folder, "layer"))
        assert tree(f"{folder}/layer") == tree(source) == before
        assert not os.listdir(outside)
        assert sorted(os.listdir(folder)) == ["layer", "outside", "upper"]


# ---- what the guide saves


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), WORD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(WORD, inner, max_size=3)
    ),
    max_leaves=6,
)
NOW = "2026-01-02T03:04:05+00:00"
FACT_THAT_HOLDS = {"step": "00", "name": "x", "holds": True, "why": ""}
HELD = {"when": NOW, "step": "00", "facts": [FACT_THAT_HOLDS], "sha256": ""}
STEP = st.one_of(st.sampled_from([path.parent.name[:2] for path in STEPS]), WORD)
WHEN = st.one_of(st.just(NOW), JSON)
PASSED = st.fixed_dictionaries({}, optional={"when": WHEN, "facts": JSON})
PROGRESS = st.fixed_dictionaries(
    {"version": st.one_of(st.just(1), JSON)},
    optional={
        "passed": st.one_of(
            st.dictionaries(STEP, st.one_of(PASSED, JSON), max_size=3), JSON
        ),
        "hints": st.one_of(st.dictionaries(STEP, JSON, max_size=3), JSON),
        "asked": JSON,
        "at": st.one_of(st.sampled_from(["0001.py", "../../container.py"]), JSON),
        "name": JSON,
    },
)
FACT = st.fixed_dictionaries(
    {}, optional={"step": STEP, "name": JSON, "holds": JSON, "why": JSON}
)
LAST_FACTS = st.lists(FACT, max_size=3)
LAST_CHECK = st.fixed_dictionaries(
    {},
    optional={
        "when": WHEN,
        "step": STEP,
        "facts": st.one_of(LAST_FACTS, JSON),
        "sha256": JSON,
    },
)


@contextlib.contextmanager
def learner_in(folder):
    """Puts the my/ of a learner who has a runtime into a directory. Yields my/."""
    my = pathlib.Path(folder, "my")
    (my / ".workshop").mkdir(parents=True)
    with learner_with(my), pytest.MonkeyPatch.context() as patch:
        # A sandbox needs root. The command line before it is read all the same.
        patch.setattr(sandbox, "Sandbox", no_sandbox)
        patch.setattr(sandbox, "staged", contextlib.nullcontext)
        patch.setattr(diagnose, "isolation", lambda *_: [Isolation("uts", 1, 2)])
        (my / "container.py").write_bytes(STEPS[0].read_bytes())
        (my / ".workshop/passed-07.py").write_bytes(FINISHED.read_bytes())
        (my / ".workshop/last.xml").write_text("<testsuites/>")
        yield my


def no_sandbox(*_):
    raise Failure("there are no sandboxes here")


def run(words):
    """Runs a subcommand of the guide, which must succeed or say in one line why not, and never
    raises. Returns its exit status."""
    with printed() as (_, err):
        try:
            status = guide.main(words)
        except SystemExit as end:
            status = end.code
    lines = [
        line
        for line in err.getvalue().splitlines()
        if "your progress starts from the beginning" not in line
    ]
    assert status in (0, 1, 2) and len(lines) <= 1, (words, status, lines)
    return status


def as_text(data):
    return data if isinstance(data, bytes) else json.dumps(data).encode()


@MANY
@given(st.one_of(PROGRESS, PROGRESS, JSON, st.binary(max_size=40)).map(as_text))
def test_progress_with_any_contents_is_read_or_moved_aside_and_never_lost(data):
    with tempfile.TemporaryDirectory() as folder, learner_in(folder) as my:
        (my / ".workshop/progress.json").write_bytes(data)
        (my / ".workshop/last.json").write_text(json.dumps(HELD))
        for words in "progress", "hint", "undo", "solve 3", "reset", "report --name x":
            run(words.split())
        kept = [path.read_bytes() for path in (my / ".workshop").glob("progress-unr*")]
        assert kept in ([], [data])
        assert sorted(os.listdir(folder)) == ["my"]
        made = {path.name for path in my.iterdir()}
        assert made <= {"container.py", ".workshop", "report", "certificate.html"}


@FEW
@given(st.one_of(LAST_CHECK, LAST_CHECK, JSON, st.binary(max_size=40)).map(as_text))
def test_check_with_any_contents_is_reported_or_refused(data):
    with tempfile.TemporaryDirectory() as folder, learner_in(folder) as my:
        (my / ".workshop/last.json").write_bytes(data)
        assert (run(["report"]) == 0) == (my / "report/report.html").exists()
        assert sorted(os.listdir(folder)) == ["my"]


STEP_REPORT = st.fixed_dictionaries({"facts": st.one_of(LAST_FACTS, JSON)})
REPORT = st.fixed_dictionaries(
    {"steps": st.one_of(st.lists(STEP_REPORT, max_size=2), JSON)},
    optional={
        "name": st.one_of(NAME, JSON),
        "passed": st.one_of(st.lists(STEP, max_size=3), JSON),
        "hints": JSON,
        "lines": JSON,
        "when": WHEN,
        "step": STEP,
        "sha256": st.one_of(WORD, JSON),
    },
)


@FEW
@given(st.one_of(REPORT, REPORT, JSON, st.binary(max_size=40)).map(as_text))
def test_report_with_any_contents_is_a_row_or_left_out(data):
    """`workshop class`: a teacher's machine reads what 300 people have sent."""
    with tempfile.TemporaryDirectory() as folder, learner_in(folder):
        report = pathlib.Path(folder, "report.json")
        report.write_bytes(data)
        with printed() as (out, err):
            status = guide.main(["class", folder, "--out", f"{folder}/all"])
        assert (status == 0) == os.path.exists(f"{folder}/all/class.csv")
        assert status == 0 or "left out" in err.getvalue()


# ---- the guide's command line


# Without those that take long, or look at the whole machine.
LONG = ("check", "watch", "welcome", "clean", "doctor", "slides", "grade")
SUBCOMMANDS = [name for name in guide.SUBCOMMANDS if name not in LONG]


@MANY
@given(st.sampled_from(SUBCOMMANDS), st.lists(st.one_of(NUMBER, NAME), max_size=3))
def test_subcommands_of_the_guide_take_any_arguments(name, more):
    with tempfile.TemporaryDirectory() as folder, learner_in(folder):
        # Relative paths in the arguments lead into this directory.
        before, _ = os.getcwd(), os.chdir(folder)
        try:
            run([name, *(text for text in more if not text.startswith("/"))])
        finally:
            os.chdir(before)


@MANY
@given(NUMBER)
def test_number_of_a_step_or_a_process_is_accepted_or_refused(text):
    with contextlib.suppress(Failure):
        assert find_step(text).number == f"{int(text):02}"
    with contextlib.suppress(Failure):
        assert containers.find(text).pid


# ---- what the kernel and the host say


FIELD = st.one_of(
    NAME, st.text(st.sampled_from(" \n\t\\#/aä\x85\u2028-"), min_size=1, max_size=6)
)


def escaped(word):
    """Returns a word as the kernel writes it into mountinfo: proc_pid_mountinfo(5)."""
    return re.sub(r"[ \t\n\\#]", lambda found: f"\\{ord(found[0]):03o}", word)


MOUNT = st.tuples(
    *(FIELD,) * 5,
    st.lists(st.sampled_from(["shared:1", "master:2", "unbindable"]), max_size=2),
)


@MANY
@given(st.lists(MOUNT, max_size=3))
def test_table_of_mounts_is_read_as_the_kernel_writes_it(mounts):
    lines = []
    for root, target, kind, source, data, tags in mounts:
        root, target, kind, source, data = map(
            escaped, (root, f"/{target}", kind, source, data)
        )
        front = ["21", "1", "0:5", root, target, "rw,nosuid", *tags]
        lines.append(f"{' '.join(front)} - {kind} {source} {data}\n")
    found = procfs.table("".join(lines))
    assert [(m.root, m.target, m.kind, m.source, m.data, m.tags) for m in found] == [
        (root, f"/{target}", *rest, tuple(tags)) for root, target, *rest, tags in mounts
    ]
    assert {(m.device, m.options) for m in found} <= {("0:5", "rw,nosuid")}


ADDRESS = st.sampled_from(
    ["127.0.0.53", "127.0.0.1", "::1", "192.0.2.1", "2001:db8::1"]
)
LINE = st.one_of(
    st.tuples(st.sampled_from([" ", "\t", "  "]), ADDRESS).map(
        lambda p: "nameserver" + "".join(p)
    ),
    st.sampled_from(
        ["", "# nameserver 192.0.2.9", "search example.org", "options edns0"]
    ),
    WORD.map(lambda text: text.replace("\n", " ").replace("\r", " ")),
)

# Of network.sh, which needs root for all the rest.
FILTER = "; ".join(
    line.strip()
    for line in (PROJECT / "steps/network.sh").read_text().splitlines()
    if "unreachable=" in line or "grep -av" in line
)


@FEW
@given(st.lists(LINE, max_size=4))
def test_name_servers_on_the_loopback_or_with_ipv6_are_left_out(lines):
    """resolv.conf(5): spaces or tabs separate the keyword and the address."""
    with tempfile.TemporaryDirectory() as folder:
        servers = pathlib.Path(folder, "servers")
        servers.write_bytes("".join(f"{line}\n" for line in lines).encode())
        script = f"servers=$1/servers state=$1; {FILTER}"
        subprocess.run(["sh", "-euc", script, "sh", folder], check=True)
        told = pathlib.Path(folder, "new").read_bytes().decode()
    kept = [
        line
        for line in lines
        if line.split()[:1] != ["nameserver"]
        or not line.split()[1:2]
        or not (line.split()[1].startswith("127.") or ":" in line.split()[1])
    ]
    assert told.split("\n")[:-1] == kept
