"""How `workshop inspect` finds a container, and how it draws one: without any container."""

import pytest

from workshop import cgroups, containers, procfs, resources
from workshop.containers import Container
from workshop.errors import Failure
from workshop.inspection import Picture
from workshop.rows import Row, bar, shortened, size
from workshop.terminal import count
from workshop.views.notebook import Page

BOXES = [
    Container(10, 11, ("x",)),
    Container(20, 21, ("x",)),
    Container(30, 31, ()),
]
NAMES = {11: "one", 21: "two", 31: "two"}


@pytest.fixture
def boxes(monkeypatch):
    monkeypatch.setattr(containers, "running", lambda: BOXES)
    monkeypatch.setattr(containers, "host_name", lambda box: NAMES[box.pid])


def test_without_containers_there_is_nothing_to_show(monkeypatch):
    monkeypatch.setattr(containers, "running", list)
    with pytest.raises(Failure, match="no container is running"):
        containers.only()


def test_only_container_needs_no_name(monkeypatch):
    monkeypatch.setattr(containers, "running", lambda: BOXES[:1])
    assert containers.only() == BOXES[0]


def test_container_is_found_by_its_host_name_unless_two_have_it(boxes):
    assert containers.only() is None
    assert containers.find("one") == BOXES[0]
    unknown = "no running container has the host name nowhere"
    with pytest.raises(Failure, match=unknown):
        containers.find("nowhere")
    with pytest.raises(Failure, match="several .* two: use a pid, 21, 31"):
        containers.find("two")
    with pytest.raises(Failure, match="no process has the pid 4194305"):
        containers.find("4194305")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python3 -S my/container.py run true", True),
        ("/opt/workshop/bin/python3.13 /work/steps/07_overlay/container.py run", True),
        ("python3 -S -c import_something my/mine.py run busybox sh", True),
        ("python3 -S my/container.py --help", False),
        ("sudo my/container.py run true", False),
        ("vi my/container.py run", False),
        ("python3 -m workshop inspect run", False),
        ("run", False),
        ("", False),
    ],
)
def test_runtime_is_python_with_a_script_and_run(monkeypatch, line, expected):
    monkeypatch.setattr(procfs, "words", lambda pid: line.split())
    assert containers.is_runtime(1) == expected


def test_title_is_the_command_line_without_the_interpreter():
    command = ("python3", "-S", "my/container.py", "run", "echo", "a b")
    assert Container(1, 2, command).title() == "my/container.py run echo 'a b'"
    assert Container(1, 2, ("%%box", "guest")).title() == "%%box guest"


def test_notebook_escapes_and_cuts_what_the_container_chose():
    row = Row("mnt", True, ["<i>"], ["\x1b[31m", "x" * 70])
    page = Page(Picture("<b>\n", [row]))._repr_html_()
    assert "&lt;i&gt;" in page and "&lt;b&gt;\\n" in page
    assert r"\x1b[31m" in page and "\x1b" not in page
    assert "x" * 63 + "…" in page and "x" * 64 not in page


def test_quantities_are_short_texts():
    assert (count(1, "process"), count(2, "process")) == ("1 process", "2 processes")
    assert [size(0), size(8192), size(3 << 20), size(64 << 20)] == (
        ["0K", "8K", "3.0M", "64M"]
    )
    assert [bar(0, 8), bar(4, 8), bar(9, 8), bar(4, None)] == (
        ["░" * 10, "█████░░░░░", "█" * 10, " " * 10]
    )
    assert shortened(["a", "b", "c"], 2) == ["a", "b", "… 1 more"]


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """A tree of cgroups made of ordinary files. Returns a function that writes one."""

    def write(path, **files):
        folder = tmp_path / path
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("_", ".", 1)).write_text(text)

    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    write("a")
    write("a/b")
    return write


def test_tightest_limit_from_a_cgroup_up_to_the_root_counts(cgroup):
    assert cgroups.use("/a/b", "memory") is None
    cgroup("a", memory_max="4096\n", memory_current="2048\n", memory_events="max 3\n")
    cgroup("a/b", memory_max="8192\n", memory_current="1024\n")
    assert cgroups.use("/a/b", "memory") == cgroups.Use(2048, 4096, {"max": 3})
    cgroup("a", memory_max="max\n")
    assert cgroups.use("/a/b", "memory") == cgroups.Use(1024, 8192, {})
    cgroup("a/b", memory_max="max\n")
    assert cgroups.use("/a/b", "memory") == cgroups.Use(1024, None, {})


def test_cpu_time_is_the_cgroups_own_under_the_tightest_quota(cgroup):
    assert cgroups.cpu_time("/a/b") is None
    cgroup(
        "a/b", cpu_stat="usage_usec 1500000\nnr_throttled 2\n", cpu_max="max 100000\n"
    )
    assert cgroups.cpu_time("/a/b") == cgroups.CpuTime(None, 1.5, 2)
    cgroup("a", cpu_max="50000 100000\n")
    assert cgroups.cpu_time("/a/b") == cgroups.CpuTime(0.5, 1.5, 2)


def test_limits_are_shown_with_what_is_used(cgroup, monkeypatch):
    monkeypatch.setattr(procfs, "cgroup", {1: "/a", 2: "/a/b"}.get)
    cgroup("a/b", memory_max=f"{64 << 20}", memory_current=f"{16 << 20}")
    cgroup("a/b", memory_events="oom_kill 1\n", pids_max="max\n", pids_current="3\n")
    cgroup(
        "a/b", cpu_stat="usage_usec 200000\nnr_throttled 4\n", cpu_max="50000 100000"
    )
    row = resources.limits(Container(1, 2, ()))
    assert row.own and row.host[0] == "/a"
    assert row.inside == [
        "/a/b",
        "██░░░░░░░░ 16M of 64M memory, 1 killed",
        f"{' ' * 10} 3 of any number of processes",
        "0.5 CPUs, 0.2 s used, throttled 4 times",
    ]
    assert resources.limits(Container(1, 1, ())).inside == ["shared with the host"]


def test_container_is_shown_even_if_its_image_was_removed(store, monkeypatch):
    upper = store / "containers/1/upper"
    upper.mkdir(parents=True)
    monkeypatch.setattr(Container, "upper", lambda _: upper)
    monkeypatch.setattr(containers, "image_of", lambda _: "removed")
    row = resources.layers(Container(1, 2, ()))
    unknown = "layers that no image lists any more"
    assert row.own and row.inside == ["0 files (0K) of its own, on top of", unknown]
