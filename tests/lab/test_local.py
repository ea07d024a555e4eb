"""The lab without a VM, on this machine's own kernel: LAB=local.

The guide and the suite say what the kernel cannot do, so no fact is skipped or passes
unseen. Everything runs in namespaces with their own /var/lib/workshop, so only the
Debian packages remain.
"""

import os
import pathlib
import re
from collections.abc import Iterator, Sequence

import driver
import pytest

pytestmark = [pytest.mark.timeout(600), pytest.mark.in_order]


class Local:
    """The lab in its namespaces."""

    def __init__(self, inside: driver.Namespaces, place: pathlib.Path):
        self.inside, self.state = inside, place / "lab"

    def lab(self, *words: driver.Word, ok: Sequence[int] = (0,)) -> driver.Done:
        """Runs `./lab WORD…`. Returns its status and output."""
        env = {"LAB": "local", "LAB_DIR": self.state}
        return self.inside.run(
            driver.PROJECT / "lab", *words, env=env, ok=ok, timeout=280
        )


@pytest.fixture(scope="module")
def local(place: pathlib.Path) -> Iterator[Local]:
    # If this machine has its own, it stays as it is: the test only mounts over it.
    pathlib.Path("/var/lib/workshop").mkdir(exist_ok=True)
    (place / "state").mkdir()
    with driver.namespaces("mount", "pid") as inside:
        inside.run("mount", "--bind", place / "state", "/var/lib/workshop")
        yield Local(inside, place)


@pytest.fixture(scope="module")
def screen(local: Local) -> str:
    """What `./lab up` shows."""
    return local.lab("up").stdout


@pytest.fixture(scope="module")
def url(screen: str) -> str:
    return re.search(r"http://127\.0\.0\.1:[0-9]+/lab\?token=[0-9a-f]+", screen)[0]


@pytest.fixture(scope="module")
def server(local: Local) -> str:
    """The pid of JupyterLab in its namespace."""
    return (local.state / "local/pid").read_text().strip()


def test_warning_comes_first(screen: str) -> None:
    warning = "root makes containers on this machine's own kernel"
    assert warning in "\n".join(screen.splitlines()[:3])


def test_screen_shows_a_container_and_how_it_differs(screen: str) -> None:
    assert re.search("uts namespace.*differs", screen)


def test_jupyterlab_answers_to_its_token(local: Local, url: str) -> None:
    assert local.inside.status(url) == 200


def test_jupyterlab_refuses_without_token(local: Local, url: str) -> None:
    assert local.inside.status(url.partition("/lab?")[0] + "/api/contents") == 403


def test_jupyterlab_listens_on_loopback_only(local: Local, server: str) -> None:
    sockets = local.inside.run("ss", "-Hltnp").stdout.splitlines()
    ours = [line.split()[3] for line in sockets if f"pid={server}," in line]
    assert ours
    assert all(address.startswith("127.0.0.1:") for address in ours), ours


def test_token_is_readable_by_root_only(local: Local, url: str, server: str) -> None:
    line = local.inside.run("cat", f"/proc/{server}/cmdline").stdout
    assert "jupyterlab" in line
    assert url.partition("token=")[2] not in line
    for name in "token", "jupyter.log":
        assert not (local.state / "local" / name).stat().st_mode & 0o077, name


def test_suite_of_step_02_passes(local: Local) -> None:
    # Only on its own step, because this tests LAB=local, and other tests try the rest.
    words = ["-q", "tests/test_02_pid.py", "--runtime", "steps/02_pid/container.py"]
    output = local.lab("test", *words).stdout
    assert re.search(r"^\d+ passed", output, re.M), output


def test_limits_work_or_the_guide_and_the_suite_report_that_they_cannot(
    local: Local,
) -> None:
    doctor = local.lab("ssh", "--", "workshop doctor", ok=(0, 1))
    fact = "memory_hog_is_killed_at_its_limit"
    limits = local.lab("test", "-q", "tests/test_06_cgroup.py", "-k", fact, ok=(0, 1))
    assert not re.search(r"\bskipped\b", limits.stdout), limits.stdout
    if re.search("cannot run here.*06_cgroup", doctor.stdout):
        assert (doctor.returncode, limits.returncode) == (1, 1)
        assert "limits need cgroup v2" in limits.stdout
    else:
        assert limits.returncode == 0, limits.stdout


def test_nothing_runs_after_destroy(local: Local, server: str) -> None:
    local.lab("destroy")
    assert local.inside.run("test", "-e", f"/proc/{server}", ok=None).returncode == 1
    assert not os.path.exists(local.state / "local")
