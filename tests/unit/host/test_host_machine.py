"""QEMU's command line, ports, keys and directories of VMs."""

import dataclasses
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from host import machine
from host.errors import LabError
from host.machine import Machine
from host.qemu_argv import Hardware, Spec, argv
from host.ports import Ports, free_port
from host.settings import ARCHS

IMAGE = pathlib.Path("/lab/image")
FOLDER = pathlib.Path("/lab/vm")
PORTS = Ports(2222, 8888)
SPEC = Spec(share=pathlib.Path("/project"))


def hardware(arch="amd64", accel="tcg", **more):
    return Hardware(ARCHS[arch], accel, 2048, IMAGE, **more)


def value(words, option):
    """Returns the value of an option that occurs once."""
    assert words.count(option) == 1, (option, words)
    return words[words.index(option) + 1]


@pytest.mark.parametrize(
    ("arch", "accel", "program", "cpu", "smp"),
    [
        ("amd64", "kvm", "qemu-system-x86_64", "host", "2"),
        ("amd64", "tcg", "qemu-system-x86_64", "max", "1"),
        ("arm64", "kvm", "qemu-system-aarch64", "host", "2"),
        ("arm64", "tcg", "qemu-system-aarch64", "max,pauth-impdef=on", "1"),
    ],
)
def test_processor_of_each_kind(arch, accel, program, cpu, smp):
    words = argv(hardware(arch, accel), SPEC, FOLDER, PORTS)
    assert program in words and value(words, "-cpu") == cpu
    assert value(words, "-smp") == smp
    assert value(words, "-accel").partition(",")[0] == accel
    assert ("-machine" in words) == (arch == "arm64")
    assert f"console={ARCHS[arch].console} " in value(words, "-append")


def test_number_of_processors_can_be_set():
    words = argv(hardware(accel="kvm", cpus=7), SPEC, FOLDER, PORTS)
    assert value(words, "-smp") == "7"


def test_no_device_is_there_that_was_not_asked_for():
    """QEMU adds a screen, a CD-ROM and a floppy, whose drivers take a while to load."""
    assert "-nodefaults" in argv(hardware(), SPEC, FOLDER, PORTS)


def test_only_loopback_is_listened_on():
    words = argv(hardware(), SPEC, FOLDER, PORTS)
    forwards = [
        w for w in value(words, "-netdev").split(",") if w.startswith("hostfwd")
    ]
    assert forwards == [
        "hostfwd=tcp:127.0.0.1:2222-:22",
        "hostfwd=tcp:127.0.0.1:8888-:8888",
    ]
    assert "restrict" not in value(words, "-netdev")


def test_only_the_vm_of_the_lab_outlives_its_command():
    kept = dataclasses.replace(SPEC, dies_with_us=False)
    words = argv(hardware(), kept, FOLDER, PORTS)
    assert "-daemonize" in words and "-no-reboot" not in words
    assert words[0] == "qemu-system-x86_64"
    words = argv(hardware(), SPEC, FOLDER, PORTS)
    assert "-daemonize" not in words and "-no-reboot" in words
    assert words[:3] == ["setpriv", "--pdeathsig", "KILL"]


def test_prefix_comes_first_and_the_signal_goes_to_qemu_itself():
    spec = dataclasses.replace(SPEC, prefix=("nice", "-n", "5"))
    words = argv(hardware(), spec, FOLDER, PORTS)
    assert words[:6] == ["nice", "-n", "5", "setpriv", "--pdeathsig", "KILL"]


def test_vm_of_a_submission_can_reach_and_change_nothing():
    spec = Spec(
        share=pathlib.Path("/nothing"),
        share_options="security_model=none,readonly=on",
        restrict=True,
        snapshot=True,
        console=False,
        resumes=pathlib.Path("/lab/state"),
    )
    words = argv(hardware(), spec, FOLDER, PORTS)
    assert value(words, "-netdev").endswith(",restrict=on")
    assert value(words, "-drive").endswith(",snapshot=on")
    assert value(words, "-virtfs").endswith("readonly=on")
    assert value(words, "-serial") == "null"
    assert value(words, "-incoming") == 'exec:cat <"$state_file"'


def test_comma_in_a_path_does_not_end_an_option():
    folder, share = pathlib.Path("/a,b/vm"), pathlib.Path("/c,d")
    words = argv(hardware(), Spec(share=share), folder, PORTS)
    assert value(words, "-drive").startswith("file=/a,,b/vm/disk.qcow2,")
    assert ",path=/c,,d," in value(words, "-virtfs")
    assert value(words, "-serial") == "file:/a,,b/vm/console.log"
    # This is one path without options. machine.py finds the process by it.
    assert value(words, "-pidfile") == "/a,b/vm/pid"


def test_no_secret_is_on_the_command_line():
    words = argv(hardware(), SPEC, FOLDER, PORTS)
    credentials = [words[n + 1] for n, word in enumerate(words) if word == "-fw_cfg"]
    assert len(credentials) == 3
    assert all(",file=/lab/vm/guest/" in credential for credential in credentials)


def test_command_line_depends_on_its_arguments_only(monkeypatch):
    first = argv(hardware(), SPEC, FOLDER, PORTS)
    monkeypatch.setenv("LAB_MEMORY", "1")
    monkeypatch.chdir("/")
    assert argv(hardware(), SPEC, FOLDER, PORTS) == first


# ---- ports


@pytest.fixture
def listener():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_free_port_moves_past_one_that_is_in_use(listener):
    assert free_port(listener) > listener


def test_free_port_leaves_no_listener():
    port = free_port(0)
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()


def test_free_port_is_not_one_that_is_reserved_already():
    port = free_port(20000)
    assert free_port(port, taken=(port,)) > port


def test_error_if_no_port_is_free(monkeypatch):
    def bind(self, address):
        raise OSError

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(LabError, match="is free"):
        free_port(65000)


@pytest.fixture
def vm(lab, tmp_path):
    folder = tmp_path / "lab/vm"
    folder.mkdir()
    return Machine(lab, folder, hardware(), SPEC)


def fake_qemu(monkeypatch, vm, answers):
    """Has QEMU start, or fail with these words, in turn. Returns the ports it got."""
    seen = []

    def launch(ports):
        seen.append(ports)
        return answers.pop(0)

    monkeypatch.setattr(vm, "_launch", launch)
    return seen


def test_start_tries_the_next_port_if_another_program_was_faster(vm, monkeypatch):
    refused = "could not set up host forwarding rule 'tcp:127.0.0.1:{}-:{}'"
    web = free_port(30000)
    vm.set_ports(Ports(free_port(20000), web))
    answers = [refused.format(web, 8888), None]
    seen = fake_qemu(monkeypatch, vm, answers)
    vm.start()
    assert seen[0].web == web and seen[1].web > web and seen[0].ssh == seen[1].ssh
    assert vm.ports() == seen[1]
    assert f"port {web} is in use" in vm.lab.progress.stream.getvalue()
    assert f"Port {seen[1].ssh}\n" in (vm.folder / "ssh").read_text()


def test_start_tries_the_next_port_for_ssh(vm, monkeypatch):
    ssh = free_port(20000)
    vm.set_ports(Ports(ssh, free_port(30000)))
    refused = f"could not set up host forwarding rule 'tcp:127.0.0.1:{ssh}-:22'"
    seen = fake_qemu(monkeypatch, vm, [refused, None])
    vm.start()
    assert seen[1].ssh > ssh and seen[1].web == seen[0].web


def test_ports_in_use_are_not_even_tried(vm, monkeypatch, listener):
    vm.set_ports(Ports(listener, listener))
    seen = fake_qemu(monkeypatch, vm, [None])
    vm.start()
    assert listener not in (seen[0].ssh, seen[0].web)
    assert seen[0].ssh != seen[0].web


def test_student_keeps_the_port_that_the_hub_chose(vm, monkeypatch, listener):
    vm.set_ports(Ports(0, listener))
    fake_qemu(monkeypatch, vm, [None])
    with pytest.raises(LabError, match=f"port {listener} is in use"):
        vm.start(move_web_port=False)


def test_error_has_the_output_of_a_qemu_that_does_not_start(vm, monkeypatch):
    fake_qemu(monkeypatch, vm, ["qemu: no such machine\n"])
    with pytest.raises(LabError) as error:
        vm.start()
    assert "| qemu: no such machine" in error.value.advice


# ---- keys, pid


def test_secrets_are_readable_by_their_owner_only_and_are_kept(vm, monkeypatch):
    def keygen(command, **options):
        path = pathlib.Path(command[-1])
        machine.secret(path, "private\n")
        machine.secret(path.with_name(path.name + ".pub"), "ssh-ed25519 AAAA\n")

    monkeypatch.setattr(subprocess, "run", keygen)
    vm.folder.chmod(0o700)
    vm.make_secrets()
    token = vm.token()
    assert len(token) == 48 and set(token) <= set("0123456789abcdef")
    for path in vm.folder.rglob("*"):
        assert not path.stat().st_mode & 0o077, path
    assert (vm.folder / "known_hosts").read_text() == "workshop ssh-ed25519 AAAA\n"
    vm.make_secrets()
    assert vm.token() == token


def test_pid_of_another_process_is_not_the_vms(vm):
    assert vm.pid() is None
    (vm.folder / "pid").write_text("1\n")
    assert vm.pid() is None
    (vm.folder / "pid").write_text("nonsense\n")
    assert vm.pid() is None


def test_process_that_names_the_pid_file_is_the_vm_and_can_be_killed(vm):
    script = "import time; time.sleep(60)"
    words = [sys.executable, "-c", script, str(vm.folder / "pid")]
    with subprocess.Popen(words) as process:
        (vm.folder / "pid").write_text(f"{process.pid}\n")
        deadline = time.monotonic() + 20  # until the kernel has its command line
        while vm.pid() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert vm.pid() == process.pid and vm.is_running()
        vm.process = process
        vm.kill()
        assert process.returncode == -signal.SIGKILL
    assert not vm.is_running() and not (vm.folder / "pid").exists()


def test_damaged_file_of_ports_gives_the_usual_ports(vm):
    (vm.folder / "ports").write_text("x\n")
    assert vm.ports() == Ports(2222, 8888)
