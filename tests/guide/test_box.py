"""The magics, used through a Jupyter kernel as a notebook uses them: %%box, %boxes, %inspect
and %diff. Each test looks at a box from inside and from outside."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest
from jupyter_client.manager import KernelManager
from runtime import (
    PROJECT,
    children,
    eventually,
    namespace,
    nothing_left_behind,
    processes_with,
)

NOTEBOOKS = PROJECT / "notebooks"
LIMIT = 60  # seconds that a cell may take, also in an emulated VM
NAMESPACES = ["uts", "ipc", "pid", "mnt", "net", "user", "cgroup"]


class Output:
    """The output of a cell so far: stdout, stderr, displays, and its error."""

    def __init__(self):
        self.out, self.err, self.shown = "", "", []
        self.error = self.traceback = self.number = None

    def __repr__(self):
        return (
            f"\n  stdout: {self.out!r}\n  stderr: {self.err!r}\n  shown: {self.shown}\n"
            + (f"  error: {self.traceback}" if self.error else "")
        )


class Notebook:
    """A kernel, started as JupyterLab starts it."""

    def __init__(self, place=NOTEBOOKS):
        self.manager = KernelManager(kernel_name="python3")
        environment = dict(os.environ)
        environment.pop(
            "PYTHONPATH", None
        )  # the lab's Python finds the project without
        self.manager.start_kernel(cwd=str(place), env=environment)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=LIMIT)
        self.pid = self.manager.provisioner.pid
        loaded = self.cell("%load_ext workshop")
        assert not loaded.err and not loaded.error, loaded

    def start(self, source):
        return self.client.execute(source)

    def finish(self, message_id, until=None, limit=LIMIT):
        """Returns a cell's output, up to its end or until stdout has a text."""
        output, end = Output(), time.monotonic() + limit
        while time.monotonic() < end:
            message = self.client.get_iopub_msg(timeout=limit)
            if message["parent_header"].get("msg_id") != message_id:
                continue
            content, kind = message["content"], message["msg_type"]
            if kind == "execute_input":
                output.number = content["execution_count"]
            elif kind == "stream" and content["name"] == "stdout":
                output.out += content["text"]
            elif kind == "stream":
                output.err += content["text"]
            elif kind in ("display_data", "execute_result"):
                output.shown.append(content["data"])
            elif kind == "error":
                output.error = content["ename"]
                output.traceback = "\n".join([content["evalue"], *content["traceback"]])
            if kind == "status" and content["execution_state"] == "idle":
                return output
            if until and until in output.out:
                return output
        raise AssertionError(f"not finished after {limit} s: {output}")

    def cell(self, source):
        return self.finish(self.start(source))

    def value(self, expression):
        """Returns the value of an expression in the kernel itself, on the host."""
        output = self.cell(f"print({expression})")
        assert not output.error, output
        return output.out.strip()

    def box_pid(self, name="a"):
        return int(self.value(f"boxes[{name!r}].pid"))

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def kernel():
    notebook = Notebook()
    yield notebook
    notebook.close()


@pytest.fixture
def notebook(kernel):
    with nothing_left_behind():
        yield kernel
        assert not kernel.cell("%boxes end").error


def gone(pid):
    """Returns whether a process has ended, and another has waited for it."""
    return not os.path.exists(f"/proc/{pid}")


def test_extension_changes_to_the_directory_of_the_project(notebook):
    assert notebook.value("__import__('os').getcwd()") == str(NOTEBOOKS.parent)


@pytest.mark.parametrize("place", ["/", "elsewhere", "my"])
def test_notebook_in_any_directory_finds_the_guide_and_the_system_calls(
    tmp_path, place
):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "my").mkdir()
    (tmp_path / "my/container.py").write_text("raise Exception('not this one')")
    notebook = Notebook(tmp_path / place)
    try:
        modules = "workshop", "linux", "process"
        loaded = notebook.cell(f"import {', '.join(modules)}")
        assert not loaded.error and not loaded.err, loaded
        files = {notebook.value(f"{name}.__file__") for name in modules}
        assert files == {
            str(PROJECT / name)
            for name in ("workshop/__init__.py", "steps/linux.py", "steps/process.py")
        }
        inside = notebook.cell(
            "%%box a --ns uts\nimport os\nprint(os.uname().nodename)"
        )
        assert inside.out and not inside.error, inside
        assert notebook.cell("!workshop --version").out.startswith("workshop ")
    finally:
        notebook.close()


def test_box_is_not_the_process_of_the_kernel(notebook):
    inside = notebook.cell("%%box a --ns none\nimport os\nprint(os.getpid())")
    assert int(inside.out) == notebook.box_pid() != notebook.pid, inside


def test_box_has_one_thread(notebook):
    inside = notebook.cell(
        "%%box a --ns none\nimport os\nlen(os.listdir('/proc/self/task'))"
    )
    assert inside.shown[0]["text/plain"] == "1", inside
    assert int(notebook.value("len(__import__('os').listdir('/proc/self/task'))")) > 1


@pytest.mark.parametrize("kind", NAMESPACES)
def test_box_has_a_new_namespace_of_the_kind_asked_for_and_shares_the_others(
    notebook, kind
):
    output = notebook.cell(f"%%box a --ns {kind}\npass")
    assert not output.error, output
    pid = notebook.box_pid()
    different = {name for name in NAMESPACES if namespace(name, pid) != namespace(name)}
    assert different == {kind}


@pytest.mark.quick
def test_hostname_set_in_a_box_stays_there(notebook):
    host = os.uname().nodename
    output = notebook.cell(
        "%%box a --ns uts\nimport socket, os\nsocket.sethostname('inside')\nos.uname().nodename"
    )
    assert output.shown[0]["text/plain"] == "'inside'", output
    assert (
        notebook.value("__import__('os').uname().nodename")
        == os.uname().nodename
        == host
    )


def test_box_in_a_pid_namespace_is_pid_1(notebook):
    inside = notebook.cell(
        "%%box a --ns pid\nimport os\nprint(os.getpid(), os.getppid())"
    )
    assert inside.out == "1 0\n", inside
    assert notebook.box_pid() > 1


def test_pid_is_known_even_if_the_box_is_ready_before_its_keeper_reports_it(notebook):
    notebook.cell(
        "import linux, time\nclone = linux.clone\ndef slow(flags):\n"
        "    if pid := clone(flags): time.sleep(1)\n    return pid\nlinux.clone = slow"
    )
    notebook.cell("%%box a --ns none\n1")
    notebook.cell("linux.clone = clone")
    assert os.path.exists(f"/proc/{notebook.box_pid()}")


def test_box_that_fails_to_start_is_an_error_and_no_box(notebook):
    notebook.cell(
        "from workshop.cell_runner import CellRunner\nserve = CellRunner.serve\n"
        "CellRunner.serve = lambda self, parent: os._exit(3)\nimport os"
    )
    output = notebook.cell("%%box a --ns none\n1")
    notebook.cell("CellRunner.serve = serve")
    assert "box a could not be started" in output.traceback, output
    assert notebook.cell("%boxes").out == "No box is alive.\n"


def test_box_in_a_user_namespace_has_the_overflow_uid_until_it_is_mapped(notebook):
    inside = notebook.cell("%%box a --ns user\nimport os\nprint(os.getuid())")
    assert inside.out == "65534\n", inside
    for file in "uid_map", "gid_map":
        pathlib.Path(f"/proc/{notebook.box_pid()}/{file}").write_text("0 100000 10")
    inside = notebook.cell("%%box a\nos.setgid(0); os.setuid(0); print(os.getuid())")
    assert inside.out == "0\n", inside
    assert os.stat(f"/proc/{notebook.box_pid()}").st_uid == 100000


def test_several_namespaces_at_once(notebook):
    notebook.cell(f"%%box a --ns {','.join(NAMESPACES)}\npass")
    pid = notebook.box_pid()
    assert all(namespace(name, pid) != namespace(name) for name in NAMESPACES)


def test_box_lives_on_between_cells(notebook):
    notebook.cell("%%box a --ns none\nimport os\nkept = os.getpid()")
    pid = notebook.box_pid()
    assert notebook.cell("%%box a\nprint(kept)").out == f"{pid}\n"


def test_box_starts_with_a_copy_of_the_notebooks_variables(notebook):
    notebook.cell("number = 1")
    inside = notebook.cell("%%box a --ns none\nnumber += 1\nprint(number)")
    assert inside.out == "2\n", inside
    assert notebook.value("number") == "1"


def test_two_boxes_share_neither_variables_nor_namespaces(notebook):
    notebook.cell("%%box a --ns uts\nmine = 'a'")
    notebook.cell("%%box b --ns uts\nmine = 'b'")
    assert notebook.cell("%%box a\nprint(mine)").out == "a\n"
    assert namespace("uts", notebook.box_pid("a")) != namespace(
        "uts", notebook.box_pid("b")
    )


def test_the_cell_that_starts_a_box_can_be_run_again(notebook):
    notebook.cell("%%box a --ns uts,ipc\nonce = 1")
    pid = notebook.box_pid()
    again = notebook.cell("%%box a --ns ipc,uts\nprint(once)")
    assert again.out == "1\n" and notebook.box_pid() == pid, again


def test_once_ends_the_box_after_the_cell(notebook):
    output = notebook.cell("%%box a --ns none --once\nimport os\nprint(os.getpid())")
    assert gone(int(output.out)), output
    assert notebook.cell("%boxes").out == "No box is alive.\n"


def test_output_appears_while_the_cell_runs(notebook):
    cell = notebook.start(
        "%%box a --ns none\nimport time\nprint('first')\ntime.sleep(3)\nprint('last')"
    )
    begin = time.monotonic()
    assert "last" not in notebook.finish(cell, until="first").out
    assert time.monotonic() - begin < 2.5
    assert notebook.finish(cell).out == "last\n"


def test_stdout_stderr_and_shell_commands_keep_their_order(notebook):
    output = notebook.cell(
        "%%box a --ns none\nimport sys\nprint('one')\n!echo two; echo three >&2\nprint('four')"
    )
    assert output.out == "one\ntwo\nfour\n" and output.err == "three\n", output


def test_shell_command_runs_in_the_namespaces_of_the_box(notebook):
    output = notebook.cell(
        "%%box a --ns uts\nname = 'abc'\n!readlink /proc/self/ns/uts; echo {name}"
    )
    assert namespace("uts", notebook.box_pid()) in output.out and "abc" in output.out, (
        output
    )


def test_long_output_and_split_characters_arrive_whole(notebook):
    output = notebook.cell("%%box a --ns none\nprint('äöü€' * 100_000)")
    assert output.out == "äöü€" * 100_000 + "\n"


def test_last_expression_is_shown(notebook):
    assert notebook.cell("%%box a --ns none\n6 * 7").shown[0]["text/plain"] == "42"
    assert notebook.cell("%%box a\n6 * 7;").shown == []
    assert notebook.cell("%%box a\nNone").shown == []


def test_rich_display_works(notebook):
    output = notebook.cell(
        "%%box a --ns none\nfrom IPython.display import SVG, display\n"
        "display(SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>'))\nprint('after')"
    )
    assert "image/svg+xml" in output.shown[0] and output.out == "after\n", output


def test_traceback_names_the_line_in_the_cell(notebook):
    output = notebook.cell(
        "%%box a --ns none\nx = 1\n\ndef f():\n    return x / 0\n\nf()"
    )
    assert output.error == "ZeroDivisionError", output
    plain = strip(output.traceback)
    assert f"In[{output.number}], line 7" in plain, plain
    assert "return x / 0" in plain and not shows_our_code(plain), plain


def test_error_of_a_system_call_arrives_with_its_class_and_its_note(notebook):
    output = notebook.cell(
        "%%box a --ns none\nimport linux\nlinux.sethostname('x' * 65)"
    )
    assert output.error == "OSError" and "Invalid argument" in output.traceback, output
    assert "at most 64 bytes" in output.traceback, output


def test_error_is_shown_even_when_the_box_can_reach_no_files(notebook):
    """IPython cannot import there what it needs for its tracebacks."""
    output = notebook.cell(
        "%%box a --ns none\nimport os\nos.chroot('/proc/self/fdinfo')\n1 / 0"
    )
    assert output.error == "ZeroDivisionError", output
    assert not shows_our_code(output.traceback), output
    assert notebook.cell("%%box a\nprint(1)").out == "1\n"


def test_box_lives_on_after_an_error(notebook):
    notebook.cell("%%box a --ns none\nkept = 1\nkept / 0")
    assert notebook.cell("%%box a\nprint(kept)").out == "1\n"


def test_syntax_error_names_the_line_in_the_cell(notebook):
    output = notebook.cell("%%box a --ns none\nx = 1\nx = = 2")
    assert output.error == "SyntaxError" and "line 3" in strip(output.traceback), output


def test_interrupt_stops_the_cell_but_not_the_box(notebook):
    cell = notebook.start(
        "%%box a --ns pid\nimport time\nprint('on', flush=True)\ntime.sleep(50)"
    )
    notebook.finish(cell, until="on")
    pid, begin = pid_while_busy(notebook), time.monotonic()
    notebook.manager.interrupt_kernel()
    output = notebook.finish(cell)
    assert output.error == "KeyboardInterrupt" and time.monotonic() - begin < 10, output
    assert notebook.cell("%%box a\nprint('alive')").out == "alive\n"
    assert pid == notebook.box_pid()


def test_interrupt_stops_a_shell_command_too(notebook):
    cell = notebook.start("%%box a --ns none\nprint('on')\n!sleep 51.5")
    notebook.finish(cell, until="on")
    assert eventually(lambda: processes_with("51.5"))
    notebook.manager.interrupt_kernel()
    assert notebook.finish(cell).error == "KeyboardInterrupt"
    assert eventually(lambda: not processes_with("51.5"))


def test_box_that_ignores_the_interrupt_is_killed(notebook):
    cell = notebook.start(
        "%%box a --ns none\nimport signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('on')\ntime.sleep(50)"
    )
    notebook.finish(cell, until="on")
    pid = pid_while_busy(notebook)
    notebook.manager.interrupt_kernel()
    output = notebook.finish(cell)
    assert (
        output.error == "KeyboardInterrupt"
        and "ignored the interrupt, and was ended" in output.traceback
    ), output
    assert gone(pid)


def test_timeout_ends_the_box(notebook):
    notebook.cell("%%box a --ns pid\nimport time")
    pid = notebook.box_pid()
    output = notebook.cell("%%box a --timeout 1\ntime.sleep(50)")
    assert output.error == "TimeoutError" and "over 1 s" in output.traceback, output
    assert gone(pid)


def test_exit_in_a_cell_ends_the_box_with_that_status(notebook):
    output = notebook.cell("%%box a --ns none\nexit(3)")
    assert output.out == "[box a ended: exit status 3]\n" and not output.error, output


def test_box_can_become_another_program(notebook):
    output = notebook.cell(
        "%%box a --ns uts\nimport os\nos.execvp('sh', ['sh', '-c', 'hostname new; hostname'])"
    )
    assert output.out == "new\n[box a ended: exit status 0]\n", output
    assert os.uname().nodename != "new"


def test_death_by_signal_is_an_error(notebook):
    output = notebook.cell("%%box a --ns none\nimport os\nos.kill(os.getpid(), 11)")
    assert "killed by SIGSEGV" in output.traceback, output


def test_fork_in_a_cell_does_not_make_a_second_box(notebook):
    notebook.cell(
        "%%box a --ns none\nimport os\nif os.fork() == 0: print('child')\nelse: os.wait()"
    )
    assert notebook.cell("%%box a\nprint('one')").out == "one\n"
    output = notebook.cell("%%box a\nif os.fork() == 0: 1 / 0\n_ = os.wait()")
    assert "ZeroDivisionError" in output.err and not output.error, output


def test_input_says_that_it_cannot_work(notebook):
    output = notebook.cell("%%box a --ns none\ninput('?')")
    assert "does not work in a box" in output.traceback, output


def test_cell_does_not_run_if_its_box_is_not_running_and_it_has_no_ns(notebook):
    marker = pathlib.Path(f"/tmp/box-test-{os.getpid()}")
    output = notebook.cell(f"%%box missing\nopen({str(marker)!r}, 'w')")
    assert "No box 'missing' is alive" in output.err, output
    assert not marker.exists()


def test_unknown_namespace_is_named_in_one_line(notebook):
    output = notebook.cell("%%box a --ns uts,foo\npass")
    assert (
        "No namespace is called 'foo'" in output.err
        and len(output.err.splitlines()) == 1
    )
    assert notebook.cell("%boxes").out == "No box is alive.\n"


def test_namespaces_of_a_running_box_cannot_be_changed(notebook):
    notebook.cell("%%box a --ns uts\npass")
    output = notebook.cell("%%box a --ns uts,pid\nprint('ran')")
    assert (
        "is already running, with other namespaces" in output.err and not output.out
    ), output


def test_boxes_lists_and_ends_them(notebook):
    notebook.cell("%%box a --ns uts,pid\npass")
    notebook.cell("%%box b --ns none\npass")
    a, b = notebook.box_pid("a"), notebook.box_pid("b")
    listed = notebook.cell("%boxes").out
    assert f"a: pid {a}, new namespaces: uts, pid\n" in listed, listed
    assert f"b: pid {b}, new namespaces: none\n" in listed, listed
    notebook.cell("%boxes end a")
    assert gone(a) and not gone(b)
    assert f"pid {a}," not in notebook.cell("%boxes").out


def test_inspect_shows_a_box_beside_the_host(notebook):
    notebook.cell("%%box seen --ns uts,pid\nimport socket; socket.sethostname('seen')")
    shown = notebook.cell("%inspect seen").shown[0]
    pid = notebook.value("boxes['seen'].pid")
    for text in shown["text/plain"], shown["text/html"]:
        assert f"seen · pid {pid}" in text
        assert namespace("pid", pid) in text and namespace("pid") in text
    assert "UsageError: no running container" in notebook.cell("%inspect nowhere").err


def test_diff_of_a_step_is_folded(notebook):
    shown = notebook.cell("%diff 2").shown[0]
    assert "\n+NAMESPACES |= linux.CLONE_NEWPID" in shown["text/plain"]
    page = shown["text/html"]
    assert page.count("<details") == 1 and "2 lines added, 1 removed" in page
    assert "CLONE_NEWPID" not in page.partition("</summary>")[0]
    assert "UsageError: there is no step 11" in notebook.cell("%diff 11").err


# Makes pexpect wait wherever it has found nothing to read, as if Python's turn were over.
HELD_UP = """
import pexpect.pty_spawn, time
look, held_up = pexpect.pty_spawn.select_ignore_interrupts, 0
def look_and_wait(read, write, error, seconds):
    global held_up
    found = look(read, write, error, seconds)
    if seconds and not found[0]:
        held_up += 1
        time.sleep(0.5)
    return found
pexpect.pty_spawn.select_ignore_interrupts = look_and_wait
"""


def test_shell_command_keeps_its_last_words_on_a_busy_machine(notebook):
    try:
        assert not notebook.cell(HELD_UP).error
        assert notebook.cell("!echo first; sleep 0.2; echo last").out.split() == [
            "first",
            "last",
        ]
        assert int(notebook.value("held_up")) > 0
    finally:
        notebook.cell("pexpect.pty_spawn.select_ignore_interrupts = look")


def test_shell_command_does_not_wait_for_what_it_leaves_in_the_background(notebook):
    begin = time.monotonic()
    assert notebook.cell("!(trap '' HUP; sleep 53.5 &); echo last").out.split() == [
        "last"
    ]
    assert time.monotonic() - begin < 50
    assert (left := processes_with("53.5"))
    for pid in left:
        os.kill(pid, signal.SIGKILL)


def test_ended_boxes_leave_no_process_and_no_descriptor_behind(notebook):
    def open_by_boxes():  # the kernel's own sockets come and go
        links = []
        for path in pathlib.Path(f"/proc/{notebook.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(path.readlink())
        return sorted(x.name for x in links if "pipe" in x.name or "pidfd" in x.name)

    before = open_by_boxes()
    for cell in "exit()", "1 / 0", "!true":
        notebook.cell(f"%%box a --ns pid\n{cell}")
        notebook.cell("%boxes end")
    assert open_by_boxes() == before
    assert children(notebook.pid) == []


@pytest.mark.parametrize("namespaces", ["none", "pid,mnt"])
@pytest.mark.parametrize("busy", [False, True])
def test_box_dies_with_the_kernel_of_its_notebook(namespaces, busy):
    notebook = Notebook()
    try:
        notebook.cell(f"%%box a --ns {namespaces}\nimport time")
        pid, keeper = notebook.box_pid(), int(notebook.value("boxes['a'].keeper"))
        if busy:
            cell = notebook.start("%%box a\nprint('on')\n!sleep 52.5")
            notebook.finish(cell, until="on")
            assert eventually(lambda: processes_with("52.5"))
        os.kill(notebook.pid, signal.SIGKILL)
        assert eventually(lambda: gone(pid) and gone(keeper))
        assert eventually(lambda: not processes_with("52.5"))
    finally:
        notebook.close()


def pid_while_busy(notebook):
    """Returns the pid of the only box while its cell runs, so that the kernel cannot be asked."""
    return children(children(notebook.pid)[0])[0]


def shows_our_code(text):
    """Returns whether a traceback shows functions of the guide."""
    return "cell_runner" in text or "cell_process" in text


def strip(text):
    """Returns a text without a terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def test_wrong_use_of_boxes_changes_nothing(notebook):
    notebook.cell("%%box a --ns none\npass")
    for line in "%boxes stop a", "%boxes list a":
        assert "UsageError: Usage: %boxes" in notebook.cell(line).err
    assert f"a: pid {notebook.box_pid()}," in notebook.cell("%boxes").out


def test_unloading_the_extension_ends_the_boxes():
    notebook = Notebook()
    try:
        notebook.cell("%%box a --ns none\npass")
        pid = notebook.box_pid()
        notebook.cell("%unload_ext workshop")
        assert gone(pid)
        notebook.cell("%load_ext workshop")
        assert notebook.cell("%boxes").out == "No box is alive.\n"
    finally:
        notebook.close()


def test_importing_workshop_does_not_import_ipython():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, workshop; print('IPython' in sys.modules)"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "False\n", done
