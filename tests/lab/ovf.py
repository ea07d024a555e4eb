#!/usr/bin/env python3
"""The VM for VirtualBox and VMware: ovf.py FOLDER, a folder that `./lab pack` has filled.

Neither program is here. So the description is read by COT, the Common OVF Tool, and held
against the rules of its schema; the disk is read as VirtualBox reads it, from front to
back; and QEMU starts it, emulated, with the disks and network cards that the two would
give it. What a learner does by hand is done by hand: the keys are pressed one by one.
"""

import contextlib
import ctypes
import hashlib
import http.cookiejar
import json
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as xml

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
CIM = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_"
RASD = f"{{{CIM}ResourceAllocationSettingData}}"
COT = "cot==2.2.1"  # the last one; made by Cisco to read and change OVF files
BOOT = 300  # seconds until JupyterLab answers; emulated, 40 to 120
KEYS = {
    " ": "spc",
    "\n": "ret",
    "/": "slash",
    ".": "dot",
    "-": "minus",
    "_": "shift-minus",
}
KEYS |= {">": "shift-dot", "'": "apostrophe"}


def run(*command, timeout=60):
    done = subprocess.run(
        command, capture_output=True, check=False, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def fact(sentence):
    print(f"ok  {time.monotonic() - BEGIN:4.0f}s  {sentence}", flush=True)


# --- the files -----------------------------------------------------------------------


def cot(program, description):
    """What COT reads in it, and what it complains of."""
    done = subprocess.run(
        [program, "info", description],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    return done.stdout, re.findall("(?:ERROR|WARNING|CRITICAL).*", done.stderr)


def check_with_cot(ovf, work):
    run(sys.executable, "-m", "venv", work / "venv")
    run(work / "venv/bin/pip", "install", "-q", COT, timeout=120)
    program = work / "venv/bin/cot"
    text, complaints = cot(program, ovf / "workshop.ovf")
    assert not complaints, complaints
    for words in ["workshop.vmdk", "8 GiB harddisk @ SATA 0:0", "vmx-10", "E1000"]:
        assert words in text, text
    # What it would say of a disk that is not the one described.
    bad = work / "bad"
    bad.mkdir()
    (bad / "workshop.ovf").write_bytes((ovf / "workshop.ovf").read_bytes())
    (bad / "workshop.vmdk").write_bytes(b"something else")
    (bad / "workshop.mf").write_bytes((ovf / "workshop.mf").read_bytes())
    assert cot(program, bad / "workshop.ovf")[1]
    fact("COT reads the description, and has nothing to complain of")


def check_schema(ovf):
    """The rules of DMTF's DSP8023 that concern what is in this description."""
    root = xml.parse(ovf / "workshop.ovf").getroot()
    sections = [child.tag.removeprefix(OVF) for child in root]
    assert root.tag == OVF + "Envelope"
    assert sections == ["References", "DiskSection", "NetworkSection", "VirtualSystem"]
    for section in root.iter():
        if section.tag.endswith(("Section", "VirtualSystem")):
            assert section[0].tag == OVF + "Info", section.tag
    items = list(root.iter(OVF + "Item"))
    settings = [*items, root.find(f".//{OVF}System")]
    for setting in settings:  # in the CIM schema a sequence: in this order only
        names = [child.tag.partition("}")[2] for child in setting]
        assert names == sorted(names), names
        assert {"ElementName", "InstanceID"} <= set(names), names
    for item in items:
        assert item.find(RASD + "ResourceType") is not None
    ids = [item.findtext(RASD + "InstanceID") for item in items]
    assert len(ids) == len(set(ids)), ids
    for parent in root.iter(RASD + "Parent"):
        assert parent.text in ids, parent.text
    files = {file.get(OVF + "id"): file for file in root.iter(OVF + "File")}
    disks = {disk.get(OVF + "diskId"): disk for disk in root.iter(OVF + "Disk")}
    networks = [network.get(OVF + "name") for network in root.iter(OVF + "Network")]
    for resource in root.iter(RASD + "HostResource"):
        assert resource.text.removeprefix("ovf:/disk/") in disks, resource.text
    for connection in root.iter(RASD + "Connection"):
        assert connection.text in networks, connection.text
    (disk,) = disks.values()
    file = files[disk.get(OVF + "fileRef")]
    vmdk = ovf / file.get(OVF + "href")
    assert int(file.get(OVF + "size")) == vmdk.stat().st_size
    info = json.loads(run("qemu-img", "info", "--output=json", vmdk))
    assert int(disk.get(OVF + "capacity")) == info["virtual-size"]
    kind = info["format-specific"]["data"]["create-type"]
    assert disk.get(OVF + "format").endswith("vmdk.html#" + kind), kind
    fact("it keeps to its schema, its references lead somewhere, its sizes are true")


def check_manifest(ovf):
    lines = (ovf / "workshop.mf").read_text().splitlines()
    found = dict(
        re.fullmatch(r"SHA1\((.+)\)= ([0-9a-f]{40})", x).groups() for x in lines
    )
    assert set(found) == {"workshop.ovf", "workshop.vmdk"}
    for name, digest in found.items():
        with open(ovf / name, "rb") as file:
            assert hashlib.file_digest(file, "sha1").hexdigest() == digest, name
    fact("the manifest has the checksums of both")


def check_stream(vmdk):
    """Reads it as a stream: pieces in rising order, and a mark where it ends."""
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
    assert pieces > 1000, pieces
    fact(f"the disk is a stream of {pieces} pieces, in order, and ends as it should")


def no_network():
    """From here on, a network namespace that has no way out: neither have the VMs."""
    CLONE_NEWNET = 0x40000000
    assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0, "as root only"
    run("ip", "link", "set", "lo", "up")


# --- the machine ---------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Machine:
    """A PC with a BIOS, this disk and network card, behind a NAT of its own."""

    def __init__(self, vmdk, work, disk, card):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=work))
        self.web, self.ssh_port = free_port(), free_port()
        layer = self.folder / "disk.qcow2"
        run("qemu-img", "create", "-f", "qcow2", "-F", "vmdk", "-b", vmdk, layer)
        forwards = f"hostfwd=tcp:127.0.0.1:{self.web}-:8888,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"
        ours, theirs = socket.socketpair()
        command = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64", "-m", "2048"]
        command += [
            "-smp",
            "2",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-no-reboot",
        ]
        command += ["-display", "none", "-serial", f"file:{self.folder}/serial"]
        command += [
            "-chardev",
            f"socket,id=qmp,fd={theirs.fileno()}",
            "-mon",
            "qmp,mode=control",
        ]
        command += ["-drive", f"if=none,id=disk,file={layer}", *disk]
        command += ["-netdev", f"user,id=net,{forwards}"]
        command += ["-device", f"{card},netdev=net"]
        with open(self.folder / "qemu.log", "w") as log:
            self.process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdout=log, stderr=log
            )
        theirs.close()
        self.qmp = ours.makefile("rw")
        ours.settimeout(30)
        self.qmp.readline()
        self.ask("qmp_capabilities")

    def end(self):
        self.process.kill()
        self.process.wait()

    def ask(self, command, **arguments):
        self.qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.qmp.flush()
        answer = {}
        while "return" not in answer:  # else it is an event
            answer = json.loads(self.qmp.readline())
            assert "error" not in answer, answer

    def type(self, text):
        for letter in text:
            key = KEYS.get(letter, letter)
            if letter.isupper():
                key = "shift-" + letter.lower()
            self.ask("human-monitor-command", **{"command-line": f"sendkey {key} 40"})
            time.sleep(0.1)

    def status(self, path, **options):
        """The HTTP status of JupyterLab's answer, 0 for none."""
        url = f"http://127.0.0.1:{self.web}{path}"
        try:
            request = urllib.request.Request(url, **options)
            return urllib.request.urlopen(request, timeout=20).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def wait(self):
        end = time.monotonic() + BOOT
        while not self.status("/login"):
            assert self.process.poll() is None, "the machine has stopped"
            assert time.monotonic() < end, f"no answer within {BOOT} s"
            time.sleep(1)

    def screen(self, words):
        """What the VM's own screen shows, once these words (a pattern) are there."""
        serial = self.folder / "serial"
        end = time.monotonic() + 240
        while time.monotonic() < end:
            time.sleep(5)
            # It comes out of the serial port, where nothing else does.
            self.type("sudo sh -c 'cat /dev/vcs1 >/dev/ttyS0'\n")
            time.sleep(5)
            text = serial.read_text(errors="replace")
            if re.search(words, text):
                return text
        raise AssertionError(f"the screen does not show {words}: {text[-2000:]}")

    def ssh(self, key, command):
        options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=accept-new".split()
        options += ["-o", f"UserKnownHostsFile={self.folder}/known_hosts", "-i", key]
        options += ["-p", str(self.ssh_port), "-o", "ConnectTimeout=30"]
        return run("ssh", *options, "vagrant@127.0.0.1", command, timeout=90)

    def host_key(self):
        options = f"-T 30 -t ed25519 -p {self.ssh_port} 127.0.0.1"
        keys = run("ssh-keyscan", *options.split())
        return keys.split()[2]


ADDRESS = r"http://127\.0\.0\.1:8888/\?token=([0-9a-f]{12})\b"


def check_as_virtualbox(folder, work):
    """SATA and E1000: what the description asks for. Returns its secrets."""
    sata = ["-device", "ahci,id=sata", "-device", "ide-hd,bus=sata.0,drive=disk"]
    vm = Machine(folder / "ovf/workshop.vmdk", work, sata, "e1000")
    try:
        vm.wait()
        fact("SATA, E1000: it starts, and JupyterLab answers through a forwarded port")
        text = vm.screen(ADDRESS)
        assert re.search(r"uts namespace.*differs", text), text
        token = re.search(ADDRESS, text)[1]
        fact("its own screen shows a container, and the address with a token")

        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        browser = urllib.request.build_opener(jar)
        page = browser.open(f"http://127.0.0.1:{vm.web}/?token={token}", timeout=60)
        assert "/lab/tree/notebooks/00_" in page.url, page.url
        fact("that address opens the first lesson")
        assert vm.status("/api/contents") == 403
        wrong = {"Authorization": "token 000000000000"}
        assert vm.status("/api/contents", headers=wrong) == 403
        fact("without the token, or with another one, nothing opens")

        # A key of the learner's, in the way that START.md tells.
        key = work / "id_ed25519"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        public = pathlib.Path(f"{key}.pub").read_text()
        upload = {"type": "file", "format": "text", "content": public}
        made = vm.status(
            "/api/contents/my/id_ed25519.pub",
            method="PUT",
            data=json.dumps(upload).encode(),
            headers={"Authorization": f"token {token}"},
        )
        assert made == 201, made
        page = (folder / "START.md").read_text()
        vm.type(re.search("cat my/id_ed25519.pub .*", page)[0] + "\n")
        time.sleep(3)
        assert vm.ssh(key, "findmnt -no SOURCE /") == "/dev/sda1\n"
        fact("ssh with a key that was put in as START.md tells")
        route = vm.ssh(key, "ip route show default")
        assert route.startswith("default via 10.0.2.2 dev eth0 proto dhcp "), route
        names = vm.ssh(key, "cat /etc/resolv.conf")
        assert names == "nameserver 10.0.2.3\n", names
        fact("address and name server come by DHCP")
        command = "cd /workshop && sudo steps/07_overlay/container.py run --net none busybox hostname"
        assert vm.ssh(key, command) == "container\n"
        assert (
            vm.ssh(key, "systemctl is-system-running || systemctl --failed")
            == "running\n"
        )
        fact("the project is in /workshop and makes a container; no service has failed")
        settings = vm.ssh(key, "sudo sshd -T")
        assert "passwordauthentication no" in settings
        passwords = vm.ssh(key, "sudo cut -d: -f2 /etc/shadow").split()
        assert set(passwords) <= {"*", "!", "!*"}, passwords
        fact("no password opens it")
        host_key = vm.host_key()
        with contextlib.suppress(AssertionError):  # the connection ends with the VM
            vm.ssh(key, "sudo poweroff")
        vm.process.wait(60)
        fact("sudo poweroff ends it")
        return token, host_key
    finally:
        vm.end()


def check_as_vmware(folder, work):
    """PVSCSI and VMXNET3: VMware's own, for who changes to them. Returns its secrets."""
    scsi = ["-device", "pvscsi", "-device", "scsi-hd,drive=disk"]
    vm = Machine(folder / "ovf/workshop.vmdk", work, scsi, "vmxnet3")
    try:
        vm.wait()
        fact("PVSCSI, VMXNET3: it starts, and JupyterLab answers")
        text = vm.screen(ADDRESS)
        assert re.search(r"http://10\.0\.2\.15:8888/\?token=", text), text
        return re.search(ADDRESS, text)[1], vm.host_key()
    finally:
        vm.end()


def main(folder):
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="ovf-test.") as work:
        work = pathlib.Path(work)
        ovf = folder / "ovf"
        check_schema(ovf)
        check_manifest(ovf)
        check_stream(ovf / "workshop.vmdk")
        check_with_cot(ovf, work)
        no_network()
        one = check_as_virtualbox(folder, work)
        other = check_as_vmware(folder, work)
        assert one[0] != other[0] and one[1] != other[1]
        fact("each VM has its own token and its own host key")
    print("ovf: all as it should be")


if __name__ == "__main__":
    BEGIN = time.monotonic()
    try:
        main(pathlib.Path(sys.argv[1]).resolve())
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        sys.exit(f"ovf: FAILED: {error!r}")
