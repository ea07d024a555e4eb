#!/usr/bin/env python3
"""The lab as a kernel of Jupyter on the host: vagrant/kernel.py. Run on the host, while a lab
made with plain QEMU is up.

Through nbclient and jupyter_client, as VS Code and scripts do it, and through JupyterLab's
server. Jupyter's packages go into a virtual environment in .lab, in the versions of the VM.
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
import tempfile
import time
import urllib.request

PROJECT = pathlib.Path(__file__).resolve().parents[2]
STATE = pathlib.Path(os.environ.get("LAB_DIR") or PROJECT / ".lab")
VENV = STATE / "jupyter"
REQUIREMENTS = PROJECT / "vagrant/requirements.txt"
NAME = "container-workshop"
LIMIT = 120  # seconds for any one thing, also under emulation
KERNELS = "pgrep -fc '[i]pykernel_launcher -f .*/kernel-' || :"

# Somebody's script: starts a kernel, says so, and is there until it is killed.
SCRIPT = f"""
import time
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(startup_timeout={LIMIT}, kernel_name={NAME!r})
print("connect is", manager.provisioner.process.pid, flush=True)
time.sleep(600)
"""


def prepare():
    """Goes on with a Python that has Jupyter."""
    python, done = VENV / "bin/python", VENV / "requirements.txt"
    if not done.exists() or done.read_bytes() != REQUIREMENTS.read_bytes():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        pip += ["--require-hashes", "--only-binary", ":all:", "-r", REQUIREMENTS]
        subprocess.run(pip, check=True)
        done.write_bytes(REQUIREMENTS.read_bytes())
    if pathlib.Path(sys.prefix) != VENV:
        os.execv(python, [python, __file__])


def run(*command):
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout.replace("\r", "")


def in_vm(command):
    return run(PROJECT / "lab", "ssh", "--", command)


def wait_until(holds, what):
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def on_host():
    """The processes here that belong to a kernel of this project's."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode(errors="replace").split("\0")
            if "/workshop/vagrant/kernel.py serve" in " ".join(words) or (
                "connect" in words and str(PROJECT / "vagrant/kernel.py") in words
            ):
                found.append(int(path.parent.name))
    return found


def all_gone():
    wait_until(lambda: not on_host(), "something of a kernel is left on the host")
    wait_until(lambda: in_vm(KERNELS) == "0\n", "a kernel is left in the VM")


@contextlib.contextmanager
def kernel():
    """(its manager, a client) of a kernel; the block leaves nothing of it."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(startup_timeout=LIMIT, kernel_name=NAME)
    try:
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel()
    all_gone()


def shown(client, code):
    """What a cell prints, or the name of what it raises."""
    parts = []

    def show(message):
        content = message["content"]
        parts.append(content.get("text") or content.get("ename") or "")

    client.execute_interactive(code, timeout=LIMIT, output_hook=show, allow_stdin=False)
    return "".join(parts)


def test_notebook_runs_in_the_vm_as_root():
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "import os, sys\nprint(os.uname().nodename, os.getuid(), os.getcwd())",
        "sys.path.append('..')\n%load_ext workshop.box\nimport linux",
        "%%box b --ns uts\nlinux.sethostname('inside')\n!hostname",
        "!hostname; lsns -t uts -o COMMAND | grep -c ipykernel",
        "%boxes end",
    ]
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    NotebookClient(nb, kernel_name=NAME, timeout=LIMIT, startup_timeout=LIMIT).execute()
    said = [
        "".join(output.get("text", "") for output in cell.outputs) for cell in nb.cells
    ]
    assert said[0] == "workshop 0 /workshop/notebooks\n", said
    assert "inside" in said[2] and said[3].split()[0] == "workshop", said
    all_gone()


def test_interrupt_reaches_a_cell_and_the_kernel_lives_on():
    with kernel() as (manager, client):
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


def test_only_loopback_listens_and_the_key_is_in_no_process_list():
    with kernel() as (manager, client):
        pid = int(shown(client, "import os; print(os.getpid())"))
        listens = in_vm(f"sudo ss -Hltnp | grep pid={pid},").splitlines()
        assert len(listens) >= 5, listens
        for line in listens:
            assert re.match(r"127\.", line.split()[3]), line
        here = on_host()
        for line in run("ss", "-Hltnp").splitlines():
            if any(f"pid={one}," in line for one in here):
                assert line.split()[3].startswith("127.0.0.1:"), line
        key = manager.session.key
        lists = pathlib.Path("/proc").glob("[0-9]*/cmdline")
        for path in lists:
            with contextlib.suppress(OSError):
                assert key not in path.read_bytes(), path
        assert key.decode() not in in_vm("sudo cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


def test_killed_in_the_vm_it_is_gone_here_as_well():
    with kernel() as (manager, client):
        pid = int(shown(client, "import os; print(os.getpid())"))
        in_vm(f"sudo kill -KILL {pid}")
        process = manager.provisioner.process
        wait_until(lambda: process.poll() is not None, "it is still here")
        assert process.returncode == 128 + signal.SIGKILL, process.returncode


def test_killed_here_it_is_gone_in_the_vm_as_well():
    for whom in "script", "connect":
        with subprocess.Popen(
            [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True
        ) as script:
            begin = "connect is "
            said = next(line for line in script.stdout if line.startswith(begin))
            connect = int(said.removeprefix(begin))
            assert in_vm(KERNELS) == "1\n"
            os.kill(script.pid if whom == "script" else connect, signal.SIGKILL)
            all_gone()
            script.kill()


def test_jupyterlab_on_the_host_runs_it_and_starts_it_anew():
    import websocket

    token = secrets.token_hex(24)
    with tempfile.TemporaryDirectory() as folder:
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
            wait_until(lambda: os.path.exists(about), "JupyterLab does not start")
            url = json.loads(pathlib.Path(about).read_text())["url"]

            def ask(path, body=None):
                data = body and json.dumps(body).encode()
                headers = {"Authorization": f"token {token}"}
                request = urllib.request.Request(url + path, data, headers)
                with urllib.request.urlopen(request, timeout=LIMIT) as answer:
                    return json.load(answer)

            assert NAME in ask("api/kernelspecs")["kernelspecs"]
            number = ask("api/kernels", {"name": NAME})["id"]

            def cell(code):
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
                    # What it shows comes before this, and perhaps after the reply.
                    if heard["content"].get("execution_state") == "idle":
                        socket.close()
                        return text

            first = cell("import os; print(os.uname().nodename, os.getpid())").split()
            assert first[0] == "workshop", first
            in_vm(f"sudo kill -KILL {first[1]}")
            time.sleep(5)  # until it notices: every 3 s
            again = cell("import os; print(os.uname().nodename, os.getpid())").split()
            assert again[0] == "workshop" and again[1] != first[1], again
        finally:
            server.terminate()
            server.wait(LIMIT)
    all_gone()


def test_without_a_way_into_the_vm_it_says_what_to_do():
    with tempfile.TemporaryDirectory() as folder:
        connection = pathlib.Path(folder, "connection.json")
        ports = ["shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"]
        connection.write_text(json.dumps(dict.fromkeys(ports, 1)))
        config = pathlib.Path(folder, "ssh")
        config.write_text("Host workshop\n  HostName 127.0.0.1\n  Port 1\n")
        words = [PROJECT / "vagrant/kernel.py", "connect", config, "workshop"]
        done = subprocess.run(
            [*words, connection], capture_output=True, text=True, timeout=LIMIT
        )
    assert done.returncode == 255 and "./lab up" in done.stderr, done


def main():
    prepare()
    with tempfile.TemporaryDirectory() as data:
        os.environ["JUPYTER_DATA_DIR"] = data
        spec = pathlib.Path(data, "kernels", NAME, "kernel.json")
        run(PROJECT / "lab", "kernel", "install")
        assert json.loads(spec.read_text())["display_name"], spec
        failed = 0
        for name, test in list(globals().items()):
            if name.startswith("test_"):
                begin = time.monotonic()
                try:
                    test()
                    print(f"ok  {name}, {time.monotonic() - begin:.0f} s", flush=True)
                except Exception as error:
                    failed += 1
                    print(f"NO  {name}: {error!r}", flush=True)
        run(PROJECT / "lab", "kernel", "remove")
        assert not spec.parent.exists()
    print("kernel: " + (f"{failed} FAILED" if failed else "all as it should be"))
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
