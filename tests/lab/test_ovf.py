"""The VM for VirtualBox and VMware, from a directory that `./lab pack` filled.

Neither program is available to the tests. Instead COT, the Common OVF Tool, reads the
description, and a test compares it with the rules of its schema. A test reads the disk
as VirtualBox reads it, from front to back. Then QEMU starts it, emulated, with the
disks and network cards that the two programs would provide. The tests type what a
learner types, key by key."""

import hashlib
import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from pathlib import Path

import driver
import pytest
from driver import Word, run, wait_until

pytestmark = pytest.mark.timeout(1200)

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_"
RASD = f"{{{CIM}ResourceAllocationSettingData}}"
COT = "cot==2.2.1"  # the last version; made by Cisco to read and change OVF files
BOOT = 300  # seconds until JupyterLab answers; emulated, 40 to 120
ADDRESS = r"http://127\.0\.0\.1:8888/\?token=([0-9a-f]{12})\b"
KEYS = {
    " ": "spc",
    "\n": "ret",
    "/": "slash",
    ".": "dot",
    "-": "minus",
    "_": "shift-minus",
    ">": "shift-dot",
    "'": "apostrophe",
}


@pytest.fixture(scope="module")
def ovf(stick: Path) -> Path:
    return stick / "ovf"


# --- the files -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cot(place: Path) -> Path:
    """The Common OVF Tool, in its own environment, because its requirements are old."""
    run(sys.executable, "-m", "venv", place / "venv")
    run(place / "venv/bin/pip", "install", "-q", COT)
    return place / "venv/bin/cot"


def read_with(cot: Path, description: Path) -> tuple[str, list[str]]:
    """Returns what COT reads in a description, and its complaints."""
    command = [cot, "info", description]
    done = driver.run(*command, ok=None, stderr=subprocess.PIPE)
    return done.stdout, re.findall("(?:ERROR|WARNING|CRITICAL).*", done.stderr)


def test_cot_accepts_the_description(cot: Path, ovf: Path) -> None:
    text, complaints = read_with(cot, ovf / "workshop.ovf")
    assert not complaints
    for words in "workshop.vmdk", "8 GiB harddisk @ SATA 0:0", "vmx-10", "E1000":
        assert words in text


def test_cot_rejects_a_disk_that_is_not_the_one_described(
    cot: Path, ovf: Path, tmp_path: Path
) -> None:
    for name in "workshop.ovf", "workshop.mf":
        (tmp_path / name).write_bytes((ovf / name).read_bytes())
    (tmp_path / "workshop.vmdk").write_bytes(b"something else")
    assert read_with(cot, tmp_path / "workshop.ovf")[1]


@pytest.fixture(scope="module")
def root(ovf: Path) -> xml.Element:
    return xml.parse(ovf / "workshop.ovf").getroot()


def test_description_follows_its_schema(root: xml.Element) -> None:
    """Checks the rules of DMTF's DSP8023 for the elements of this description."""
    sections = [child.tag.removeprefix(OVF) for child in root]
    assert root.tag == OVF + "Envelope"
    assert sections == ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    for section in root.iter():
        if section.tag.endswith(("Section", "VirtualSystem")):
            assert section[0].tag == OVF + "Info", section.tag
    items = list(root.iter(OVF + "Item"))
    settings = [*items, root.find(f".//{OVF}System")]
    for setting in settings:  # the CIM schema has a sequence, so the order is fixed
        names = [child.tag.partition("}")[2] for child in setting]
        assert names == sorted(names)
        assert {"ElementName", "InstanceID"} <= set(names)
    for item in items:
        assert item.find(RASD + "ResourceType") is not None


def test_references_of_the_description_lead_somewhere(root: xml.Element) -> None:
    items = list(root.iter(OVF + "Item"))
    ids = [item.findtext(RASD + "InstanceID") for item in items]
    assert len(ids) == len(set(ids))
    for parent in root.iter(RASD + "Parent"):
        assert parent.text in ids
    disks = [disk.get(OVF + "diskId") for disk in root.iter(OVF + "Disk")]
    networks = [network.get(OVF + "name") for network in root.iter(OVF + "Network")]
    for resource in root.iter(RASD + "HostResource"):
        assert resource.text.removeprefix("ovf:/disk/") in disks
    for connection in root.iter(RASD + "Connection"):
        assert connection.text in networks


def test_sizes_in_the_description_are_true(root: xml.Element, ovf: Path) -> None:
    files = {file.get(OVF + "id"): file for file in root.iter(OVF + "File")}
    (disk,) = root.iter(OVF + "Disk")
    file = files[disk.get(OVF + "fileRef")]
    vmdk = ovf / file.get(OVF + "href")
    assert int(file.get(OVF + "size")) == vmdk.stat().st_size
    info = json.loads(run("qemu-img", "info", "--output=json", vmdk).stdout)
    assert int(disk.get(OVF + "capacity")) == info["virtual-size"]
    kind = info["format-specific"]["data"]["create-type"]
    assert disk.get(OVF + "format").endswith("vmdk.html#" + kind)


def test_manifest_has_the_checksums_of_both(ovf: Path) -> None:
    lines = (ovf / "workshop.mf").read_text().splitlines()
    line = r"SHA1\((.+)\)= ([0-9a-f]{40})"
    found = dict(re.fullmatch(line, x).groups() for x in lines)
    assert set(found) == {"workshop.ovf", "workshop.vmdk"}
    for name, digest in found.items():
        with open(ovf / name, "rb") as file:
            assert hashlib.file_digest(file, "sha1").hexdigest() == digest, name


def test_disk_is_an_ordered_stream_with_an_end_marker(ovf: Path) -> None:
    """Reads it as a stream: pieces in rising order, and a marker where it ends."""
    vmdk = ovf / "workshop.vmdk"
    run("qemu-img", "check", vmdk)
    with open(vmdk, "rb") as file:
        header = file.read(512)
        magic, _, flags, capacity, grain = struct.unpack_from("<4sIIQQ", header)
        assert magic == b"KDMV"
        assert flags >> 16 == 3, hex(flags)  # compressed, each piece with a marker
        position = struct.unpack_from("<Q", header, 64)[0] * 512
        last, pieces = -1, 0
        while True:
            file.seek(position)
            sector, length = struct.unpack("<QI", file.read(12))
            if not length:
                break
            assert last < sector < capacity and sector % grain == 0, sector
            last, pieces = sector, pieces + 1
            position += (12 + length + 511) // 512 * 512
        file.seek(position)
        rest = file.read()
    assert len(rest) >= 512 and not any(rest), "no end-of-stream marker"
    assert pieces > 1000


# --- the machine ---------------------------------------------------------------------


class Machine:
    """A PC with a BIOS, this disk and this network card, behind its own NAT, without a
    route to any network."""

    web, ssh_port = 8888, 2222  # in a network namespace of its own

    def __init__(self, vmdk: Path, folder: Path, disk: Sequence[str], card: str):
        self.inside = driver.Namespaces("net")
        self.folder = folder
        self.key = folder / "id_ed25519"
        layer = self.folder / "disk.qcow2"
        run("qemu-img", "create", "-f", "qcow2", "-F", "vmdk", "-b", vmdk, layer)
        forwards = f"hostfwd=tcp:127.0.0.1:{self.web}-:8888,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        ours, theirs = socket.socketpair()
        command: list[Word] = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"]
        # The description asks for two processors, but emulated ones that share memory
        # take twice the time of one, and nothing that is tested here depends on it.
        command += ["-m", "2048", "-smp", "1", "-accel", "tcg", "-cpu", "max"]
        command += ["-no-reboot", "-display", "none"]
        command += ["-serial", f"file:{self.folder}/serial"]
        command += ["-chardev", f"socket,id=qmp,fd={theirs.fileno()}"]
        command += ["-mon", "qmp,mode=control"]
        command += ["-drive", f"if=none,id=disk,file={layer}", *disk]
        command += ["-netdev", f"user,id=net,{forwards}"]
        command += ["-device", f"{card},netdev=net"]
        with open(self.folder / "qemu.log", "w") as log:
            self.process = subprocess.Popen(
                self.inside.command(*command),
                pass_fds=[theirs.fileno()],
                stdout=log,
                stderr=log,
            )
        theirs.close()
        self.qmp = ours.makefile("rw")
        ours.settimeout(30)
        self.qmp.readline()
        self.ask("qmp_capabilities")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.inside.close()

    def ask(self, command: str, **arguments: str) -> None:
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.qmp.flush()
        answer: dict[str, object] = {}
        while "return" not in answer:  # otherwise it is an event
            answer = json.loads(self.qmp.readline())
            assert "error" not in answer, answer

    def type(self, text: str) -> None:
        for letter in text:
            key = KEYS.get(letter, letter)
            if letter.isupper():
                key = "shift-" + letter.lower()
            self.ask("human-monitor-command", **{"command-line": f"sendkey {key} 40"})
            time.sleep(0.1)

    def status(self, path: str, *options: Word) -> int:
        """Returns the HTTP status of JupyterLab's answer, or 0 if there is none."""
        return self.inside.status(f"http://127.0.0.1:{self.web}{path}", *options)

    def wait(self) -> None:
        def answers() -> int:
            assert self.process.poll() is None, "the VM stopped"
            return self.status("/login")

        wait_until(answers, BOOT, "JupyterLab did not answer", pause=0.5)

    def screen(self) -> str:
        """Returns what the VM's screen shows, once JupyterLab's address is there."""
        serial = self.folder / "serial"

        def arrived(before: int, words: str) -> bool:
            text = serial.read_bytes()[before:].decode(errors="replace")
            return bool(re.search(words, text))

        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            before = serial.stat().st_size
            # The text comes out of the serial port, which nothing else uses.
            self.type("sudo sh -c 'cat /dev/vcs1 >/dev/ttyS0'\n")
            end = time.monotonic() + 10
            while time.monotonic() < end:
                if arrived(before, ADDRESS):
                    time.sleep(1)  # for the rest of the screen
                    return serial.read_text(errors="replace")
                time.sleep(0.2)
        raise AssertionError(f"the screen has no address: {serial.read_text()[-2000:]}")

    def ssh(self, command: str, ok: Sequence[int] | None = (0,)) -> str:
        options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=accept-new".split()
        options += ["-o", f"UserKnownHostsFile={self.folder}/known_hosts"]
        options += ["-i", str(self.key), "-p", str(self.ssh_port)]
        options += ["-o", "ConnectTimeout=30"]
        return self.inside.run(
            "ssh", *options, "vagrant@127.0.0.1", command, ok=ok
        ).stdout

    def host_key(self) -> str:
        options = f"-T 30 -t ed25519 -p {self.ssh_port} 127.0.0.1".split()
        found = self.inside.run("ssh-keyscan", *options).stdout
        return re.search(r" ssh-ed25519 (\S+)", found)[1]


@pytest.fixture(scope="module")
def virtualbox(ovf: Path, place: Path) -> Iterator[Machine]:
    """A machine with SATA and E1000, which the description asks for."""
    sata = ["-device", "ahci,id=sata", "-device", "ide-hd,bus=sata.0,drive=disk"]
    with tempfile.TemporaryDirectory(dir=place) as folder:
        vm = Machine(ovf / "workshop.vmdk", Path(folder), sata, "e1000")
        try:
            yield vm
        finally:
            vm.end()


@pytest.fixture(scope="module")
def vmware(ovf: Path, place: Path) -> Iterator[Machine]:
    """A machine with PVSCSI and VMXNET3, VMware's own devices, for those who use
    them."""
    scsi = ["-device", "pvscsi", "-device", "scsi-hd,drive=disk"]
    with tempfile.TemporaryDirectory(dir=place) as folder:
        vm = Machine(ovf / "workshop.vmdk", Path(folder), scsi, "vmxnet3")
        try:
            yield vm
        finally:
            vm.end()


@pytest.fixture(scope="module")
def screen(virtualbox: Machine) -> str:
    return virtualbox.screen()


@pytest.fixture(scope="module")
def token(screen: str) -> str:
    return re.search(ADDRESS, screen)[1]


@pytest.fixture(scope="module")
def secrets(virtualbox: Machine, token: str) -> tuple[str, str]:
    """Returns the VM's token and host key."""
    return token, virtualbox.host_key()


@pytest.mark.in_order
class TestAsVirtualBox:
    def test_vm_starts_and_jupyterlab_answers(self, virtualbox: Machine) -> None:
        virtualbox.wait()

    def test_screen_shows_a_container(self, screen: str) -> None:
        assert re.search(r"uts namespace.*differs", screen)

    def test_address_opens_the_first_lesson(
        self, virtualbox: Machine, token: str
    ) -> None:
        cookies = virtualbox.folder / "cookies"
        options = ["-s", "-L", "-c", cookies, "-b", cookies, "-o", "/dev/null"]
        options += ["--max-time", "60", "-w", "%{http_code} %{url_effective}"]
        url = f"http://127.0.0.1:{virtualbox.web}/?token={token}"
        page = virtualbox.inside.run("curl", *options, url).stdout
        assert page.startswith("200 ")
        assert "/lab/tree/notebooks/00_" in page

    def test_nothing_opens_without_its_token(self, virtualbox: Machine) -> None:
        assert virtualbox.status("/api/contents") == 403
        wrong = ["-H", "Authorization: token 000000000000"]
        assert virtualbox.status("/api/contents", *wrong) == 403

    def test_ssh_accepts_a_key_that_was_added_as_start_md_says(
        self, virtualbox: Machine, stick: Path, token: str
    ) -> None:
        key = virtualbox.key
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        public = Path(f"{key}.pub").read_text()
        upload = {"type": "file", "format": "text", "content": public}
        options = ["-X", "PUT", "-H", f"Authorization: token {token}"]
        options += ["-d", json.dumps(upload)]
        path = "/api/contents/my/id_ed25519.pub"
        assert virtualbox.status(path, *options) == 201
        page = (stick / "START.md").read_text()
        virtualbox.type(re.search("cat my/id_ed25519.pub .*", page)[0] + "\n")

        def opens() -> bool:
            return virtualbox.ssh("findmnt -no SOURCE /", ok=None) == "/dev/sda1\n"

        wait_until(opens, 60, "ssh did not accept the key", pause=1)

    def test_address_and_name_server_come_by_dhcp(self, virtualbox: Machine) -> None:
        route = virtualbox.ssh("ip route show default")
        assert route.startswith("default via 10.0.2.2 dev eth0 proto dhcp ")
        assert virtualbox.ssh("cat /etc/resolv.conf") == "nameserver 10.0.2.3\n"

    def test_project_in_workshop_makes_a_container(self, virtualbox: Machine) -> None:
        command = "sudo steps/07_overlay/container.py run --net none busybox hostname"
        assert virtualbox.ssh(f"cd /workshop && {command}") == "container\n"

    def test_no_service_has_failed(self, virtualbox: Machine) -> None:
        command = "systemctl is-system-running || systemctl --failed"
        assert virtualbox.ssh(command) == "running\n"

    def test_no_password_gives_access(self, virtualbox: Machine) -> None:
        assert "passwordauthentication no" in virtualbox.ssh("sudo sshd -T")
        passwords = virtualbox.ssh("sudo cut -d: -f2 /etc/shadow").split()
        assert passwords and set(passwords) <= {"*", "!", "!*"}

    def test_sudo_poweroff_ends_the_vm(
        self, virtualbox: Machine, secrets: tuple[str, str]
    ) -> None:
        virtualbox.ssh("sudo poweroff", ok=None)  # the connection ends with the VM
        assert virtualbox.process.wait(60) == 0


@pytest.mark.in_order
class TestAsVMware:
    def test_vm_starts_and_jupyterlab_answers(self, vmware: Machine) -> None:
        vmware.wait()

    def test_screen_shows_the_address_for_vmware(self, vmware: Machine) -> None:
        assert re.search(r"http://10\.0\.2\.15:8888/\?token=", vmware.screen())

    def test_each_vm_has_its_own_token_and_host_key(
        self, vmware: Machine, secrets: tuple[str, str]
    ) -> None:
        token = re.search(ADDRESS, vmware.screen())[1]
        assert token != secrets[0]
        assert vmware.host_key() != secrets[1]
