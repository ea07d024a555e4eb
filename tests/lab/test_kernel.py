"""The lab as a kernel of Jupyter on the host: host/commands/kernel.py.

The tests use it through nbclient and jupyter_client, as VS Code and scripts do, and
through JupyterLab's server.
"""

import contextlib
import json
import os
import pathlib
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import driver
import nbformat
import pytest
import websocket
from driver import PROJECT, wait_until
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

NAME = "container-workshop"
LIMIT = 120  # seconds for each wait, also under emulation
Kernel = tuple[Any, Any]  # its manager and a client
KERNELS = "pgrep -fc '[i]pykernel_launcher -f .*/kernel-' || :"
pytestmark = pytest.mark.timeout(900)  # with the start of the lab

# A user's script, which starts a kernel, says so, and waits until it is killed.
SCRIPT = f"""
import time
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(startup_timeout={LIMIT}, kernel_name={NAME!r})
print("connect is", manager.provisioner.process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def spec(lab: driver.Lab, place: pathlib.Path) -> Iterator[pathlib.Path]:
    """The kernelspec that `./lab kernel install` writes, in a directory of ours."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(place))
        lab.run("kernel", "install")
        yield place / "kernels" / NAME / "kernel.json"


def on_host() -> set[int]:
    """Returns the processes on this machine that belong to a kernel of this project."""
    serve = driver.processes_with("/workshop/vagrant/kernel.py serve")
    connect = driver.processes_with(f"{PROJECT / 'host'} kernel connect ")
    return {*serve, *connect}


def all_gone(lab: driver.Lab) -> None:
    wait_until(
        lambda: not on_host(), LIMIT, "a process of a kernel is left on the host"
    )
    wait_until(lambda: lab.in_vm(KERNELS) == "0\n", LIMIT, "a kernel is left in the VM")


@pytest.fixture(scope="class")
def kernel(lab: driver.Lab) -> Iterator[Kernel]:
    """The manager and a client of a kernel. Afterwards, nothing is left of it."""
    manager, client = start_new_kernel(startup_timeout=LIMIT, kernel_name=NAME)
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    all_gone(lab)


def shown(client: Any, code: str) -> str:
    """Returns what a cell prints, or the name of the exception that it raises."""
    parts = []

    def show(message: dict[str, Any]) -> None:
        content = message["content"]
        parts.append(content.get("text") or content.get("ename") or "")

    client.execute_interactive(code, timeout=LIMIT, output_hook=show, allow_stdin=False)
    return "".join(parts)


def test_install_adds_the_kernel_to_the_list(spec: pathlib.Path) -> None:
    assert json.loads(spec.read_text())["display_name"]


def test_notebook_runs_in_the_vm_as_root(lab: driver.Lab) -> None:
    cells = [
        "import os, sys\nprint(os.uname().nodename, os.getuid(), os.getcwd())",
        "%load_ext workshop\nimport linux",
        "%%box b --ns uts\nlinux.sethostname('inside')\n!hostname",
        "!hostname; lsns -t uts -o COMMAND | grep -c ipykernel",
        "%boxes end",
    ]
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    NotebookClient(nb, kernel_name=NAME, timeout=LIMIT, startup_timeout=LIMIT).execute()
    printed = [
        "".join(output.get("text", "") for output in cell.outputs) for cell in nb.cells
    ]
    assert printed[0] == "workshop 0 /workshop/notebooks\n", printed
    assert "inside" in printed[2] and printed[3].split()[0] == "workshop", printed
    all_gone(lab)


class TestOneKernel:
    def test_interrupt_reaches_a_cell_and_the_kernel_lives_on(
        self, lab: driver.Lab, kernel: Kernel
    ) -> None:
        manager, client = kernel
        shown(client, "import time; here = 1")
        begin = time.monotonic()
        message = client.execute("time.sleep(600)")
        time.sleep(2)
        manager.interrupt_kernel()
        while True:
            reply = client.get_shell_msg(timeout=LIMIT)
            if reply["parent_header"].get("msg_id") == message:
                break
        assert reply["content"]["ename"] == "KeyboardInterrupt", reply
        assert time.monotonic() - begin < LIMIT
        assert shown(client, "print(here)") == "1\n"

    def test_only_loopback_listens_and_the_key_is_in_no_process_list(
        self, lab: driver.Lab, kernel: Kernel
    ) -> None:
        manager, client = kernel
        pid = int(shown(client, "import os; print(os.getpid())"))
        listens = lab.in_vm(f"sudo ss -Hltnp | grep pid={pid},").splitlines()
        assert len(listens) >= 5, listens
        for line in listens:
            assert re.match(r"127\.", line.split()[3]), line
        here = on_host()
        for line in driver.run("ss", "-Hltnp").stdout.splitlines():
            if any(f"pid={one}," in line for one in here):
                assert line.split()[3].startswith("127.0.0.1:"), line
        key = manager.session.key
        lists = pathlib.Path("/proc").glob("[0-9]*/cmdline")
        for path in lists:
            with contextlib.suppress(OSError):
                assert key not in path.read_bytes(), path
        assert key.decode() not in lab.in_vm(
            "sudo cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
        )

    def test_kernel_killed_in_the_vm_ends_on_the_host(
        self, lab: driver.Lab, kernel: Kernel
    ) -> None:
        manager, client = kernel
        pid = int(shown(client, "import os; print(os.getpid())"))
        lab.in_vm(f"sudo kill -KILL {pid}")
        process = manager.provisioner.process
        wait_until(
            lambda: process.poll() is not None, LIMIT, "the kernel is still on the host"
        )
        assert process.returncode == 128 + signal.SIGKILL, process.returncode


@pytest.mark.parametrize("whom", ["script", "connect"])
def test_kernel_killed_on_the_host_ends_in_the_vm(lab: driver.Lab, whom: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True
    ) as script:
        begin = "connect is "
        printed = next(line for line in script.stdout if line.startswith(begin))
        connect = int(printed.removeprefix(begin))
        assert lab.in_vm(KERNELS) == "1\n"
        os.kill(script.pid if whom == "script" else connect, signal.SIGKILL)
        all_gone(lab)
        script.kill()


def test_jupyterlab_on_the_host_runs_and_restarts_the_kernel(
    lab: driver.Lab, tmp_path: pathlib.Path
) -> None:
    token = secrets.token_hex(24)
    folder = tmp_path
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
        + ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder}"],
        env=os.environ
        | {"JUPYTER_TOKEN": token, "JUPYTER_RUNTIME_DIR": f"{folder}/run"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        about = f"{folder}/run/jpserver-{server.pid}.json"
        wait_until(lambda: os.path.exists(about), LIMIT, "JupyterLab did not start")
        url = json.loads(pathlib.Path(about).read_text())["url"]

        def ask(path: str, body: dict[str, str] | None = None) -> Any:
            data = body and json.dumps(body).encode()
            headers = {"Authorization": f"token {token}"}
            request = urllib.request.Request(url + path, data, headers)
            with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                return json.load(answer)

        def answers() -> bool:  # not from the moment in which its file is there
            with contextlib.suppress(urllib.error.URLError):
                return bool(ask("api/status"))
            return False

        wait_until(answers, LIMIT, "JupyterLab does not answer")
        assert NAME in ask("api/kernelspecs")["kernelspecs"]
        number = ask("api/kernels", {"name": NAME})["id"]

        def cell(code: str) -> str:
            socket = websocket.create_connection(
                url.replace("http", "ws", 1) + f"api/kernels/{number}/channels",
                header=[f"Authorization: token {token}"],
                timeout=LIMIT,
            )
            header = {
                "msg_id": secrets.token_hex(8),
                "msg_type": "execute_request",
                "username": "",
                "session": "test",
                "version": "5.3",
            }
            content = {"code": code, "silent": False, "allow_stdin": False}
            message = {"header": header, "parent_header": {}, "metadata": {}}
            message |= {"content": content, "channel": "shell", "buffers": []}
            socket.send(json.dumps(message))
            text = ""
            while True:
                heard = json.loads(socket.recv())
                if heard["parent_header"].get("msg_id") != header["msg_id"]:
                    continue
                text += heard["content"].get("text", "")
                # The output comes before this, and perhaps after the reply.
                if heard["content"].get("execution_state") == "idle":
                    socket.close()
                    return text

        first = cell("import os; print(os.uname().nodename, os.getpid())").split()
        assert first[0] == "workshop", first
        before = on_host()
        lab.in_vm(f"sudo kill -KILL {first[1]}")
        wait_until(
            lambda: on_host() and not on_host() & before,
            LIMIT,
            "JupyterLab did not start another kernel",
        )
        again = cell("import os; print(os.uname().nodename, os.getpid())").split()
        assert again[0] == "workshop" and again[1] != first[1], again
    finally:
        server.terminate()
        server.wait(LIMIT)
    all_gone(lab)


def test_error_without_a_way_into_the_vm_says_what_to_do(
    tmp_path: pathlib.Path,
) -> None:
    ports = ["shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"]
    connection, config = tmp_path / "connection.json", tmp_path / "ssh"
    connection.write_text(json.dumps(dict.fromkeys(ports, 1)))
    config.write_text("Host workshop\n  HostName 127.0.0.1\n  Port 1\n")
    words = ["./lab", "kernel", "connect", config, "workshop", connection]
    done = driver.run(*words, cwd=PROJECT, ok=[255], timeout=LIMIT)
    assert "./lab up" in done.stdout


def test_remove_takes_the_kernel_off_the_list(
    lab: driver.Lab, spec: pathlib.Path
) -> None:
    lab.run("kernel", "remove")
    assert not spec.parent.exists()
