"""Two students of a classroom's hub, each with their own browser.

`./lab classroom` opens a classroom of two. Both students log in, run a lesson's cells
at the same time, and try to reach each other and the hub. Then one leaves, and their
idle VM is stopped. The hub is killed and opened again, and the classroom is closed.
--screenshots DIR saves screenshots of the hub's pages."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import driver
import pytest
from driver import PROJECT, wait_until
from learner import PAGE, Learner
from playwright.sync_api import Browser

pytestmark = [pytest.mark.timeout(900), pytest.mark.in_order]
LESSON = "01_uts"
PORT = 8420
IDLE = 60  # seconds until an unused VM is stopped
START = 400  # seconds for two VMs with their servers, emulated, on a busy machine
ADDRESS = f"http://localhost:{PORT}"
CELLS = json.loads((PROJECT / f"notebooks/{LESSON}.ipynb").read_text())["cells"]

# A student, who is root in the VM, types this into a cell to find out what the VM can
# reach. It tries all addresses at the same time, because each one that does not answer
# takes three seconds.
REACHED = """
import concurrent.futures, os, socket, urllib.error, urllib.request
def reach(place):
    try:
        with socket.create_connection(place, 3) as s:
            s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            return bool(s.recv(1))
    except OSError:
        return False
def ask(path):
    token = {"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"]}
    request = urllib.request.Request(os.environ["JUPYTERHUB_API_URL"] + path, headers=token)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code
places = [(h, p) for h in HOSTS for p in PORTS]
with concurrent.futures.ThreadPoolExecutor(len(places)) as pool:
    answers = list(pool.map(reach, places))
print("tried", len(answers), "reached", [p for p, yes in zip(places, answers) if yes])
print("hub", [ask(path) for path in PATHS])
"""


class Classroom:
    """A hub with its own state. close() closes the classroom and removes the state."""

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="classroom-", dir="/var/tmp"))
        self.lab = driver.Lab.spare(self.state, CLASSROOM_IDLE=str(IDLE))
        # The tests' environment has the hub's packages, too: see run.py.
        if (driver.STATE / "tests").exists():
            (self.state / "jupyter").symlink_to(driver.STATE / "tests")
        output = self.run("add", "alice", "bob")
        self.run("add", "--teacher", "margaret")
        self.passwords = dict(line.split("\t") for line in output.splitlines())

    def run(self, *words: driver.Word) -> str:
        return self.lab.run("classroom", *words, ok=(0, 3))  # 3: closed

    def folder_of(self, name: str) -> Path:
        return self.state / "classroom/students" / name

    def vms(self) -> dict[str, int]:
        """Returns {name: memory of the VM, in MB} of the students whose VM runs."""
        output = re.findall(r"^(\w+): (\d+) MB$", self.run("status"), re.M)
        return {name: int(size) for name, size in output}

    def processes(self) -> dict[int, str]:
        return driver.processes_with(self.state)

    def port_of(self, name: str) -> int:
        return int((self.folder_of(name) / "vm/ports").read_text().split()[1])

    def close(self) -> None:
        try:
            self.run("down")
        finally:
            shutil.rmtree(self.state)


class Student:
    """A student of the class, with a browser."""

    def __init__(self, classroom: Classroom, browser: Browser, name: str):
        self.name, self.classroom = name, classroom
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        self.page = context.new_page()
        self.page.set_default_timeout(PAGE * 1000)
        self.home = f"http://{name}.localhost:{PORT}/user/{name}"
        project = classroom.folder_of(name) / "project"
        self.learner = Learner(self.page, f"{self.home}/lab", project)

    def log_in(self, password: str) -> None:
        self.page.goto(ADDRESS)
        self.page.fill("#username_input", self.name)
        self.page.fill("#password_input", password)
        self.page.click("#login_submit")

    def wait_for_lab(self) -> None:
        self.page.wait_for_url(f"{self.home}/lab/**", timeout=START * 1000)
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=START * 1000)

    def run_code(self, code: str) -> str:
        """Returns what the student's kernel prints for some code, which the page runs
        from the first cell of a new notebook."""
        path = self.learner.project / "my/try.ipynb"
        cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": code}
        cell |= {"outputs": [], "execution_count": None}
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        notebook = {"cells": [cell], "metadata": kernel}
        notebook |= {"nbformat": 4, "nbformat_minor": 5}
        path.write_text(json.dumps(notebook))
        self.learner.open("my/try.ipynb")
        self.learner.run_all([cell])
        return self.learner.outputs(0)

    def status(self, url: str) -> int:
        """Returns the HTTP status that this student's browser gets."""
        page = self.page.context.new_page()
        answer = page.goto(url)
        page.close()
        assert answer
        return answer.status


Picture = Callable[[Student, str], None]


@pytest.fixture(scope="module")
def classroom() -> Iterator[Classroom]:
    classroom = Classroom()
    try:
        yield classroom
    finally:
        classroom.close()


@pytest.fixture(scope="module")
def alice(classroom: Classroom, chromium: Browser) -> Student:
    return Student(classroom, chromium, "alice")


@pytest.fixture(scope="module")
def bob(classroom: Classroom, chromium: Browser) -> Student:
    return Student(classroom, chromium, "bob")


@pytest.fixture(scope="module")
def picture(request: pytest.FixtureRequest) -> Picture:
    """Saves a screenshot of what a student sees, if --screenshots asks for it."""
    folder = request.config.getoption("--screenshots")

    def picture(student: Student, name: str) -> None:
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            student.page.screenshot(path=folder / f"{name}.png")

    return picture


def test_classroom_opens(classroom: Classroom) -> None:
    output = classroom.run("up", "--port", str(PORT))
    assert f"the classroom is open: {ADDRESS}" in output


def test_wrong_password_opens_nothing(
    classroom: Classroom, alice: Student, picture: Picture
) -> None:
    alice.log_in("something")
    alice.page.get_by_text("Invalid username or password").wait_for()
    picture(alice, "refused")
    assert not classroom.vms()


def test_each_student_gets_a_vm(
    classroom: Classroom, alice: Student, bob: Student, picture: Picture
) -> None:
    for student in alice, bob:
        student.log_in(classroom.passwords[student.name])
    alice.page.wait_for_selector("#progress-bar, .jp-Notebook")
    picture(alice, "starting")
    for student in alice, bob:
        student.wait_for_lab()
    picture(alice, "started")
    assert set(classroom.vms()) == {"alice", "bob"}


def test_both_run_all_cells_of_a_lesson_at_the_same_time(
    alice: Student, bob: Student
) -> None:
    for student in alice, bob:
        student.learner.open(f"notebooks/{LESSON}.ipynb")
    for student in alice, bob:
        student.learner.choose("Run", "Run All Cells")
    for student in alice, bob:
        student.learner.wait_for_all(CELLS)
        assert not student.learner.errors(CELLS), student.name


def test_browser_of_alice_reaches_her_own_server_but_not_bobs(
    alice: Student, bob: Student
) -> None:
    assert alice.status(f"{alice.home}/api/status") == 200
    for path in "api/status", "api/contents", "lab", "files/my/try.ipynb":
        assert alice.status(f"{bob.home}/{path}") == 403, path


@pytest.fixture(scope="module")
def reached(classroom: Classroom, alice: Student) -> str:
    """Returns what Alice, who is root in her VM, can reach."""
    ports = [
        PORT,
        PORT + 1,
        PORT + 81,
        classroom.port_of("alice"),
        classroom.port_of("bob"),
        22,
    ]
    names = {
        "HOSTS": ["10.0.2.2", "10.0.2.3", "192.0.2.1"],
        "PORTS": ports,
        "PATHS": ["/users/alice", "/users/bob", "/users", "/proxy", "/services"],
    }
    code = "".join(f"{name} = {value!r}\n" for name, value in names.items()) + REACHED
    return alice.run_code(code)


def test_vm_of_alice_reaches_nothing_but_the_hub(reached: str) -> None:
    assert "tried 18 reached []" in reached


def test_hub_answers_alice_only_about_herself(reached: str) -> None:
    asked = json.loads(re.search(r"^hub (\[.*\])", reached, re.M)[1])
    assert asked[0] == 200
    assert len(asked) == 5 and set(asked[1:]) <= {403, 404}


def test_bob_sees_his_own_files_and_not_those_of_alice(
    alice: Student, bob: Student
) -> None:
    (alice.learner.project / "my/secret").write_text("alice's\n")
    shown = bob.run_code(
        "import os; print(os.listdir('/workshop/my'), os.path.exists('/workshop/.lab'))"
    )
    assert "try.ipynb" in shown
    assert "secret" not in shown
    assert "False" in shown


def test_device_that_a_student_makes_is_a_plain_file_on_the_server(
    bob: Student, picture: Picture
) -> None:
    bob.run_code(
        "import os, shutil; os.chdir('/workshop/my')\n"
        "os.mknod('sda', 0o60666, os.makedev(8, 0)); os.chmod('sda', 0o4777)\n"
        "shutil.copy('../steps/00_run/container.py', '.')"
    )
    made = (bob.learner.project / "my/sda").lstat()
    assert made.st_mode & 0o177000 == 0o100000, oct(made.st_mode)
    picture(bob, "bob")


def test_vm_that_nobody_uses_is_stopped(
    classroom: Classroom, alice: Student, bob: Student, picture: Picture
) -> None:
    bob.page.context.close()
    deadline = time.monotonic() + 4 * IDLE + PAGE
    while "bob" in classroom.vms() and time.monotonic() < deadline:
        # Alice keeps working all the while.
        assert alice.status(f"{alice.home}/api/status") == 200
        assert "still at it" in alice.run_code("print('still', 'at', 'it')")
    assert set(classroom.vms()) == {"alice"}
    alice.page.goto(f"{ADDRESS}/hub/home")
    picture(alice, "home")
    alice.page.context.close()


def test_everything_that_the_hub_started_ends_when_it_is_killed(
    classroom: Classroom,
) -> None:
    assert classroom.processes()
    os.kill(int((classroom.state / "classroom/pid").read_text()), signal.SIGKILL)
    wait_until(lambda: not classroom.processes(), 30, "some processes still run")


def test_classroom_opens_again_without_any_vm(classroom: Classroom) -> None:
    classroom.run("up", "--port", str(PORT))
    assert classroom.processes()
    assert not classroom.vms()


def test_closed_classroom_leaves_no_process(classroom: Classroom) -> None:
    classroom.run("down")
    assert not classroom.processes()


def test_closed_classroom_leaves_no_disk_and_no_key(classroom: Classroom) -> None:
    folders = sorted(path.name for path in classroom.folder_of("alice").iterdir())
    assert folders == ["log", "project"]


def test_file_of_alice_is_kept(classroom: Classroom) -> None:
    assert (
        classroom.folder_of("alice") / "project/my/secret"
    ).read_text() == "alice's\n"


def test_work_of_bob_can_be_collected(classroom: Classroom) -> None:
    classroom.run("collect", classroom.state / "collected")
    begun = (PROJECT / "steps/00_run/container.py").read_text()
    assert (classroom.state / "collected/bob/container.py").read_text() == begun


def test_no_server_listens_any_more() -> None:
    curl = ["curl", "-s", "--max-time", "5", ADDRESS]
    assert driver.run(*curl, ok=None, stderr=subprocess.PIPE).returncode == 7
