"""Whatever stands on a command line or in a file: it is read, or refused in one line. Nothing
raises, and no file appears outside its place. The inputs are hypothesis's, the same ones in
every run."""

import contextlib
import io
import json
import os
import pathlib
import stat
import string
import subprocess
import sys
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from runtime import FULL, LIMIT, PROJECT, STEPS, Runtime

sys.path[:0] = [str(PROJECT), str(PROJECT / "steps")]
import linux
import process

from workshop import __main__ as guide
from workshop import (
    commit,
    containers,
    images,
    learner,
    proc,
)
from workshop.command import Failure, printable

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
# Names of files, with what trips programs up: blanks, line ends, dashes, leading dots.
NAME = st.one_of(
    st.sampled_from(
        ["a", "b", "c", "..a", "-rf", " ", "a b", "line\nend", ".wh.a", "\\"]
    ),
    st.text(
        st.characters(exclude_characters="\0/", codec="utf-8"), min_size=1, max_size=8
    ),
).filter(lambda name: name not in (".", "..") and len(name.encode()) < 200)


@contextlib.contextmanager
def told():
    """What is printed in the block: stdout and stderr, each a StringIO."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield out, err


def tree(path):
    """All that is below a directory: {path: kind, mode, owner, content or target}."""
    found = {}
    for directory, directories, files in os.walk(path):
        for name in [*directories, *files]:
            place = os.path.join(directory, name)
            if not os.path.lexists(place):  # overlayfs lists a whiteout of nothing, too
                continue
            status = os.lstat(place)
            about = [status.st_mode, status.st_uid, status.st_rdev]
            if stat.S_ISLNK(status.st_mode):
                about.append(os.readlink(place))
            elif stat.S_ISREG(status.st_mode):
                about += [pathlib.Path(place).read_bytes(), status.st_nlink]
            if not stat.S_ISLNK(status.st_mode):
                about += [
                    (x, os.getxattr(place, x)) for x in sorted(os.listxattr(place))
                ]
            found[os.path.relpath(place, path)] = about
    return found


# ---- the runtime's command line


USAGE = Runtime(STEPS[-1]).usage.partition("container.py ")[2].strip()
OPTIONS = ["--hostname", "--net", "--memory", "--pids", "--cpus"]


@MANY
@given(
    st.lists(st.one_of(st.sampled_from(["run", "--", "-h", "-\n", *OPTIONS]), NUMBER))
)
def test_command_line_is_read_or_refused_in_one_line(words):
    with told() as (out, err):
        try:
            args = process.parse(words, USAGE)
        except SystemExit as error:
            status = process._report(error)
            lines = (out if status == 0 else err).getvalue().splitlines()
            assert status in (0, process.OWN_ERROR) and len(lines) == 1, lines
            return
    assert (
        words[0] == "run" and args.command and all(words.count(w) for w in args.command)
    )
    assert args.net in (None, "bridge", "none")


@MANY
@given(st.sampled_from(["--memory", "--pids", "--cpus"]), NUMBER)
def test_limit_is_a_number_that_the_machine_can_hold_or_is_refused(option, value):
    try:
        args = process.parse(["run", f"{option}={value}", "image", "true"], USAGE)
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
@given(st.one_of(st.binary(max_size=80), WORD.map(str.encode)))
def test_list_of_layers_is_read_as_step_07_reads_it(content):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "IMAGES", pathlib.Path(folder))
        path = pathlib.Path(folder, "image")
        path.write_bytes(content)
        layers = images.layers_of("image")
        assert [os.fspath(p) for p in layers] == [
            os.fspath(pathlib.Path(line)) for line in process.read(path).splitlines()
        ]
        with told() as (out, _), contextlib.suppress(Failure):
            guide.main(["image", "ls"])
            images.check_layers(layers)
        assert "\x1b" not in out.getvalue()


@MANY
@given(WORD)
def test_name_of_an_image_never_leads_out_of_its_folder(name):
    try:
        images.check_name(name)
    except Failure as error:
        assert len(printable(str(error)).splitlines()) == 1
        return
    assert name.isascii() and pathlib.Path("/images", name).parent.name == "images"
    assert not {*string.whitespace, ":", ","} & {
        *name
    }  # what an overlay's options mean


# A layer: {path: kind}. A path's parents are directories, unless they are something else.
LAYER = st.dictionaries(
    st.lists(NAME, min_size=1, max_size=3).map("/".join),
    st.sampled_from(
        ["file", "directory", "opaque", "link", "whiteout", "fifo", "setuid"]
    ),
    max_size=6,
)


def lay(layer, folder):
    """Make a layer's files in a folder."""
    os.mkdir(folder)
    for path, kind in layer.items():
        place = pathlib.Path(folder, path)
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind in ("directory", "opaque"):
                place.mkdir()
            elif kind == "link":
                place.symlink_to("/etc/passwd" if len(path) % 2 else "..")
            elif kind == "whiteout":
                os.mknod(place, stat.S_IFCHR, 0)
            elif kind == "fifo":
                os.mkfifo(place)
            else:
                with open(place, "x") as file:
                    file.write(path)
                place.chmod(0o4755 if kind == "setuid" else 0o640)
            if kind == "opaque":
                os.setxattr(place, "user.overlay.opaque", b"y")


@FEW
@given(st.lists(LAYER, min_size=1, max_size=3))
def test_stack_of_layers_is_what_overlayfs_makes_of_it(layers):
    """filesystems/overlayfs: whiteouts, opaque directories, and what hides what."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        top = [f"{folder}/{name}" for name in ("upper", "work", "merged")]
        for path in top:
            os.mkdir(path)
        stack = [f"{folder}/{n}" for n in range(len(layers))]
        for layer, path in zip(layers, stack, strict=True):
            lay(layer, path)
        found = {
            e.path for e in images.entries(stack) if not e.whiteout and e.hidden is None
        }
        options = (
            f"lowerdir={':'.join(stack)},upperdir={top[0]},workdir={top[1]},userxattr"
        )
        linux.mount("overlay", top[2], "overlay", 0, options)
        try:
            shown = {
                f"/{path}"
                for path, about in tree(top[2]).items()
                if not stat.S_ISDIR(about[0])
            }
        finally:
            linux.umount(top[2])
    assert found == shown


@FEW
@given(LAYER)
def test_commit_copies_all_of_a_layer_and_nothing_else(layer):
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
        commit._copy(source, f"{folder}/layer")
        assert tree(f"{folder}/layer") == tree(source) == before
        assert not os.listdir(outside)
        assert sorted(os.listdir(folder)) == ["layer", "outside", "upper"]


# ---- what the guide remembers


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
LAST = st.fixed_dictionaries(
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
    """A learner whose my/ is in this folder, and who has a runtime."""
    my = pathlib.Path(folder, "my")
    (my / ".workshop").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "MY", my)
        patch.setattr(learner, "CONTAINER", my / "container.py")
        patch.setattr(learner, "STATE", my / ".workshop")
        patch.setattr(learner, "PROGRESS", my / ".workshop/progress.json")
        (my / "container.py").write_bytes(STEPS[0].read_bytes())
        (my / ".workshop/passed-07.py").write_bytes(STEPS[-1].read_bytes())
        (my / ".workshop/last.xml").write_text("<testsuites/>")
        yield my


def say(words):
    """A word of the guide's. It ends well, or says in one line why not, and never raises."""
    with told() as (_, err):
        try:
            status = guide.main(words)
        except SystemExit as end:
            status = end.code
    lines = [
        line
        for line in err.getvalue().splitlines()
        if "the progress begins anew" not in line
    ]
    assert status in (0, 1, 2) and len(lines) <= 1, (words, status, lines)
    return status


def as_text(data):
    return data if isinstance(data, bytes) else json.dumps(data).encode()


@MANY
@given(st.one_of(PROGRESS, PROGRESS, JSON, st.binary(max_size=40)).map(as_text))
def test_progress_of_any_content_is_taken_or_set_aside_and_never_lost(data):
    with tempfile.TemporaryDirectory() as folder, learner_in(folder) as my:
        learner.PROGRESS.write_bytes(data)
        (my / ".workshop/last.json").write_text(json.dumps(HELD))
        for words in "progress", "hint", "undo", "solve 3", "reset", "report --name x":
            say(words.split())
        kept = [path.read_bytes() for path in (my / ".workshop").glob("progress-unr*")]
        assert kept in ([], [data])
        assert sorted(os.listdir(folder)) == ["my"]
        made = {path.name for path in my.iterdir()}
        assert made <= {"container.py", ".workshop", "report", "certificate.html"}


@FEW
@given(st.one_of(LAST, LAST, JSON, st.binary(max_size=40)).map(as_text))
def test_report_of_a_check_of_any_content_is_written_or_refused(data):
    with tempfile.TemporaryDirectory() as folder, learner_in(folder) as my:
        (my / ".workshop/last.json").write_bytes(data)
        assert (say(["report"]) == 0) == (my / "report/report.html").exists()
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
def test_report_of_any_content_is_a_row_or_left_out(data):
    """`workshop class`: the teacher's machine reads what 300 people have sent."""
    with tempfile.TemporaryDirectory() as folder, learner_in(folder):
        report = pathlib.Path(folder, "report.json")
        report.write_bytes(data)
        with told() as (out, err):
            status = guide.main(["class", folder, "--out", f"{folder}/all"])
        assert (status == 0) == os.path.exists(f"{folder}/all/class.csv")
        assert status == 0 or "left out" in err.getvalue()


# ---- the guide's command line


# Not those that take long, or look at the whole machine.
LONG = ("check", "watch", "welcome", "clean", "doctor", "slides", "grade")
WORDS = [word for word in guide.WORDS if word not in LONG]


@MANY
@given(st.sampled_from(WORDS), st.lists(st.one_of(NUMBER, NAME), max_size=3))
def test_words_of_the_guide_take_anything(word, more):
    with tempfile.TemporaryDirectory() as folder, learner_in(folder):
        # What would be made where the words say, is made in here.
        before, _ = os.getcwd(), os.chdir(folder)
        try:
            say([word, *(text for text in more if not text.startswith("/"))])
        finally:
            os.chdir(before)


@MANY
@given(NUMBER)
def test_number_of_a_step_or_a_process_is_one_or_refused(text):
    with contextlib.suppress(Failure):
        assert learner.room(text).name[:2] == f"{int(text):02}"
    with contextlib.suppress(Failure):
        assert containers.find(text).pid


# ---- what the kernel and the host tell


@FEW
@given(NAME)
def test_mount_point_of_any_name_is_found(name):
    """proc_pid_mountinfo(5): blanks, line ends and backslashes are written in octal."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"{folder}/{name}"
        os.mkdir(place)
        linux.mount("tmpfs", place, "tmpfs")
        try:
            assert [m.kind for m in proc.mounts("self") if m.target == place] == [
                "tmpfs"
            ]
        finally:
            linux.umount(place)


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


@settings(MANY, max_examples=30 if FULL else 8)
@given(st.lists(LINE, max_size=4))
def test_name_servers_that_a_container_can_reach_are_kept(lines):
    """resolv.conf(5): between the keyword and the address are spaces or tabs."""
    script = 'mount --bind "$1" /etc/resolv.conf; mount -t tmpfs run /run; ip link set lo up;'
    script += f" {PROJECT}/steps/network.sh on && cat /run/workshop/dns"
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        command = ["unshare", "--mount", "--net", "sh", "-ec", script, "sh", file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    kept = [
        line
        for line in lines
        if line.split()[:1] != ["nameserver"]
        or not line.split()[1:2]
        or not line.split()[1].startswith(("127.", "::1"))
    ]
    assert (done.returncode, done.stdout.split("\n")[:-1]) == (0, kept), done
