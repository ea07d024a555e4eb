"""Step 04: the container has its own network, with a bridge, an address, NAT and DNS.
network_namespaces(7), veth(4).

The tests need no internet: they use a network namespace instead, with addresses that
are reserved for documentation (RFC 5737)."""

import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading

import pytest
from runtime import (
    PROJECT,
    Runtime,
    assert_one_line_error,
    eventually,
    namespace,
    shell,
    slowed,
)

NETWORK = PROJECT / "steps" / "network.sh"
INTERNET, UPLINK = "192.0.2.2", "192.0.2.1"

# The servers on the internet: one tells its clients which address they come from, and a
# DNS server knows one name.
SERVERS = r"""
import socket, sys, threading
def tell_address():
    server = socket.create_server(("0.0.0.0", 80))
    while True:
        client, peer = server.accept()
        client.sendall(f"you are {peer[0]}\n".encode())
        client.close()
threading.Thread(target=tell_address, daemon=True).start()
dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
dns.bind(("0.0.0.0", 53))
print("ready", flush=True)
while True:
    question, peer = dns.recvfrom(512)
    end = question.index(b"\0", 12) + 5
    known = question[12:end].lower().startswith(b"\x08workshop\x04test\0\0\1")
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("192.0.2.77")
    flags = b"\x81\x80" if known else b"\x81\x83"
    counts = b"\0\1" + (b"\0\1" if known else b"\0\0") + b"\0\0\0\0"
    dns.sendto(question[:2] + flags + counts + question[12:end] + answer * known, peer)
"""


@pytest.fixture
def network():
    """Switches the host's side of step 04 on for a test, and off afterwards."""
    before = firewall()
    shell(f"{NETWORK} on")
    yield
    shell(f"{NETWORK} off")
    assert eventually(lambda: firewall() == before), (firewall(), before)


def firewall():
    forward = pathlib.Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return forward, shell("nft list ruleset").out, shell("ip route; ip -br link").out


@pytest.fixture(scope="module")
def internet():
    """A machine beyond the host, without a route to the containers. Yields its
    address."""
    name = f"internet{os.getpid()}"
    shell(
        f"ip netns add {name}; ip link add uplink0 type veth peer name eth0 netns {name};"
        f"ip address add {UPLINK}/24 dev uplink0; ip link set uplink0 up;"
        f"ip -n {name} address add {INTERNET}/24 dev eth0; ip -n {name} link set eth0 up"
    )
    argv = ["ip", "netns", "exec", name, sys.executable, "-c", SERVERS]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "ready\n"
        yield INTERNET
        server.kill()
    shell(f"ip netns delete {name}")
    assert eventually(lambda: not os.path.exists("/sys/class/net/uplink0"))


@contextlib.contextmanager
def server_on(family, address):
    """A server on the host that greets every client. Yields its address."""
    with socket.socket(family) as server:
        server.bind(address)
        server.listen()

        def greet():
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    client.sendall(b"hello\n")
                    client.close()

        threading.Thread(target=greet, daemon=True).start()
        yield server.getsockname()
        server.shutdown(socket.SHUT_RDWR)


def connect_to(address, port):
    """Returns a command that prints what a TCP server sends."""
    return ("bash", "-c", f"timeout 10 cat </dev/tcp/{address}/{port}")


def address_of(pid):
    """Returns 100.64.0.0 plus pid, as text."""
    return f"100.{64 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}"


@pytest.mark.told("spec", "spec-child", given=["lo:", ",UP"])
def test_container_without_a_network_has_loopback_only(runtime):
    """network_namespaces(7): a new namespace has only lo, and lo is down until
    ip-link(8) sets it up."""
    shell("ip link add other0 type bridge")  # so the host has more than lo
    try:
        out = runtime.ok("ip -o link", net="none")
    finally:
        shell("ip link delete other0")
    assert [line.split()[1] for line in out.splitlines()] == ["lo:"], out
    assert ",UP" in out, out
    runtime.ok("ping", "-c", "1", "127.0.0.1", net="none", cap_add="NET_RAW")


@pytest.mark.told("spec")
def test_network_namespace_is_new(runtime):
    """network_namespaces(7): CLONE_NEWNET gives the container its own devices,
    addresses, routes, ports and firewall rules."""
    with runtime.running() as box:
        inside = namespace("net", box.pid)
        assert inside != namespace("net")
        assert shell(f"lsns -n -t net -o NS -p {box.pid}").out.split() == [inside]


@pytest.mark.told("spec", given=["hello", "Connection refused"])
@pytest.mark.parametrize("net", ["none", "bridge"])
def test_service_on_the_hosts_loopback_is_out_of_reach(runtime, network, net):
    """network_namespaces(7): 127.0.0.1 is the loopback of the calling process, and each
    namespace has its own."""
    with server_on(socket.AF_INET, ("127.0.0.1", 0)) as (address, port):
        assert "hello" in shell(f"cat </dev/tcp/{address}/{port}").out
        result = runtime.run(*connect_to(address, port), image="debian", net=net)
        assert result.status != 0 and "Connection refused" in result.err, result


@pytest.mark.told("spec", given=["hello", "Connection refused"])
def test_abstract_socket_of_the_host_is_out_of_reach(runtime):
    """unix(7): an abstract socket has a name but no file. Names belong to the network
    namespace: network_namespaces(7)."""
    name = f"private-{random.random()}"
    script = (
        "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0);"
        'connect(S, pack_sockaddr_un("\\0$ARGV[0]")) or die "connect: $!\\n"; print <S>'
    )
    with server_on(socket.AF_UNIX, f"\0{name}"):
        assert subprocess.check_output(["perl", "-e", script, name]) == b"hello\n"
        result = runtime.run("perl", "-e", script, name, image="debian")
        assert result.status != 0 and "Connection refused" in result.err, result


@pytest.mark.told("spec", given=["state UNKNOWN", "mtu 65536"])
def test_network_device_changed_inside_changes_nothing_outside(runtime):
    """network_namespaces(7): a device is in exactly one namespace."""
    script = "ip link set lo down; ip link set lo mtu 1000"
    runtime.ok(script, net="none", cap_add="NET_ADMIN")
    # lo reports the state UNKNOWN when it is up.
    assert "state UNKNOWN" in shell("ip link show lo").out
    assert "mtu 65536" in shell("ip link show lo").out


@pytest.mark.told("spec", "spec-parent")
def test_ip_address_is_derived_from_the_pid(runtime, network):
    """veth(4): a cable has two ends, each in its own namespace. The parent sets the
    address inside with nsenter(1) and ip-address(8)."""
    with runtime.running(net="bridge") as box:
        expected = address_of(box.pid)
        assert f" {expected}/10 " in box.ask("ip -o -4 address show eth0")
        # The host's ip agrees.
        shell(f"ip netns attach box{box.pid} {box.pid}")
        try:
            out = shell(f"ip -n box{box.pid} -o -4 address show eth0").out
            assert f" {expected}/10 " in out
        finally:
            shell(f"ip netns delete box{box.pid}")
        assert f"veth{box.pid}" in os.listdir("/sys/class/net/workshop0/brif")


@pytest.mark.told("spec", "spec-parent")
def test_address_is_in_the_pool_of_network_sh(runtime):
    """ip-address(8): where 100.64.0.0/10 is in use, network.sh takes another pool and writes
    it to /run/workshop/pool. The gateway is in it, too."""
    shell(f"{NETWORK} off; {NETWORK} on 10.128.0.0/10")
    try:
        with runtime.running(net="bridge") as box:
            pid = box.pid
            expected = f"10.{128 + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}/10"
            assert f" {expected} " in box.ask("ip -o -4 address show eth0")
            assert "default via 10.128.0.1 " in box.ask("ip route")
    finally:
        shell(f"{NETWORK} off; {NETWORK} on 100.64.0.0/10; {NETWORK} off")


@pytest.mark.told("spec", "spec-parent")
def test_default_network_is_the_bridge(runtime, network):
    """ip-route(8): packets to an address that no other route covers go to the gateway,
    which is the bridge."""
    assert "default via 100.64.0.1 " in runtime.ok("ip route", net=None)
    assert "100.64.0.1" not in runtime.ok("ip route", net="none")
    assert "default via 100.64.0.1 " not in shell("ip route").out


@pytest.mark.told("spec", "spec-parent", given=["hello"])
def test_container_reaches_the_host_over_the_bridge(runtime, network):
    """veth(4): the host's end is a port of the bridge workshop0, whose address is
    100.64.0.1: bridge(8)."""
    with server_on(socket.AF_INET, ("100.64.0.1", 0)) as (address, port):
        out = runtime.ok(*connect_to(address, port), image="debian", net="bridge")
        assert out == "hello\n"


@pytest.mark.told("spec", "spec-parent")
def test_containers_reach_each_other(runtime, network):
    """bridge(8): a bridge passes packets between its ports, as a switch does."""
    script = "while :; do echo hello | nc -l -p 7777; done"
    with (
        runtime.running(f"({script}) >/dev/null 2>&1 &", net="bridge") as server,
        runtime.running(net="bridge", cap_add="NET_RAW") as client,
    ):
        address = address_of(server.pid)
        client.ask(f"ping -c 1 -w 10 {address}")
        call = f"nc -w 10 {address} 7777 </dev/null 2>/dev/null"
        out = client.ask(f"for n in $(seq 50); do {call} && break; sleep 0.1; done")
        assert out == "hello\n"


@pytest.mark.told("spec")
def test_every_container_can_use_the_same_port(runtime):
    """network_namespaces(7): each namespace has its own 65535 ports."""
    with runtime.running(net="none") as one, runtime.running(net="none") as two:
        for box in (one, two):
            box.ask("nc -l -p 80 >/dev/null 2>&1 &")
            assert eventually(lambda box=box: ":0050 " in box.ask("cat /proc/net/tcp*"))
    assert shell("ss -Hltn 'sport = 80'").out == ""


@pytest.mark.told("spec", "spec-child")
def test_command_waits_until_its_network_is_ready(runtime, network):
    """execve(2): a program may look at its network only once, when it starts. So child
    waits for parent first: process.await_parent()."""
    out = slowed(runtime).ok("ip -o -4 address show eth0", net="bridge")
    assert " 100." in out, out


@pytest.mark.told("spec", "spec-parent", given=["you are"])
def test_container_reaches_the_internet_through_nat(runtime, network, internet):
    """nft(8): masquerade replaces the container's address with the host's. ip-route(8):
    default via 100.64.0.1."""
    out = runtime.ok(*connect_to(internet, 80), image="debian", net="bridge")
    # Not 100.64...: the internet has no route to that address.
    assert out == f"you are {UPLINK}\n"


@pytest.mark.told("spec", "spec-child")
def test_dns_name_is_resolved(runtime, network, internet, tmp_path):
    """resolv.conf(5) lists the name servers to ask. The test puts its own server
    there."""
    (tmp_path / "dns").write_text(f"nameserver {internet}\n")
    mount = f'mount --bind {tmp_path}/dns /run/workshop/dns; exec "$@"'
    argv = runtime.argv(
        "getent", "hosts", "workshop.test", image="debian", net="bridge"
    )
    out = shell(f"unshare -m sh -c '{mount}' sh {' '.join(argv)}").out
    assert out.split() == ["192.0.2.77", "workshop.test"], out
    assert f"nameserver {internet}" not in pathlib.Path("/etc/resolv.conf").read_text()


@pytest.mark.told("spec", "spec-child")
def test_writing_to_resolv_conf_inside_does_not_change_the_hosts(
    runtime, network, tmp_path
):
    """mount(2): MS_BIND shows network.sh's file, not the host's own, on the image's
    /etc/resolv.conf."""
    # Mount another file over the host's, because a broken runtime writes to it.
    (tmp_path / "resolv.conf").write_text("# the host's\n")
    script = 'mount --bind $0 /etc/resolv.conf; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-ec", script, tmp_path / "resolv.conf"]
    dns = pathlib.Path("/run/workshop/dns").read_text()
    script = "cat /etc/resolv.conf; echo nameserver 192.0.2.66 >/etc/resolv.conf"
    result = Runtime(runtime.path, prefix).run(script, net="bridge")
    assert result.out == dns, result
    assert (tmp_path / "resolv.conf").read_text() == "# the host's\n"


# What an image can have in place of /etc/resolv.conf. Commands in the image's root; $host is
# a file on the host.
RESOLV_CONF = {
    "no /etc": "rm -rf etc",
    "no file": "rm -f etc/resolv.conf",
    "a file that nobody may write": "chmod 444 etc/resolv.conf",
    "a link into the image": "ln -sf ../home/own etc/resolv.conf; echo >home/own",
    "a link of systemd-resolved": "ln -sf ../run/systemd/resolve/stub-resolv.conf "
    "etc/resolv.conf",
    "a link above the root": "ln -sf ../../../../run/x/y etc/resolv.conf",
    "a link to the host's file": "ln -sf $host etc/resolv.conf",
    "a link for /etc": "rm -rf etc; mkdir -p usr/etc; ln -s /usr/etc etc",
}


@pytest.mark.told("spec", "spec-child")
@pytest.mark.parametrize("kind", RESOLV_CONF)
def test_image_with_any_resolv_conf_gets_the_name_servers(
    runtime, network, image, kind, tmp_path
):
    """resolv.conf(5): archives of Alpine or busybox have none, and with systemd-resolved it
    is a link to a file that exists only while the host runs. process.attach follows links
    inside the image, and makes what is missing."""
    host = tmp_path / "resolv.conf"
    host.write_text("# the host's\n")
    places = "/run/systemd/resolve/stub-resolv.conf", "/run/x", "/home/own"
    before = [os.path.exists(path) for path in places]
    shell(f"host={host}; cd {image}; {RESOLV_CONF[kind]}")
    out = runtime.ok("cat /etc/resolv.conf; echo $?", image=image, net="bridge")
    dns = pathlib.Path("/run/workshop/dns").read_text()
    assert out == f"{dns}0\n", out
    assert host.read_text() == "# the host's\n"
    assert [os.path.exists(path) for path in places] == before


@pytest.mark.told("spec", "spec-child")
def test_directory_as_resolv_conf_gives_a_one_line_error(runtime, network, image):
    """move_mount(2): a file cannot be mounted on a directory. Engines refuse it, too."""
    shell(f"cd {image}; rm -f etc/resolv.conf; mkdir etc/resolv.conf")
    result = runtime.run("true", "argument", image=image, net="bridge")
    assert_one_line_error(result, "/etc/resolv.conf")


@pytest.mark.told("spec", "spec-parent")
@pytest.mark.alone
def test_many_containers_at_once_have_different_addresses(runtime, network, under_load):
    """pid_namespaces(7): on the host, no two live processes have the same PID."""
    count = 50 if under_load else 5
    with contextlib.ExitStack() as stack:
        boxes = [
            stack.enter_context(runtime.running(net="bridge")) for _ in range(count)
        ]
        lines = [box.ask("ip -o -4 address show eth0") for box in boxes]
        assert len({line.split()[3] for line in lines}) == count
        assert len(os.listdir("/sys/class/net/workshop0/brif")) == count
    assert eventually(lambda: os.listdir("/sys/class/net/workshop0/brif") == [])


@pytest.mark.told("spec", "spec-parent")
def test_veth_pair_disappears_when_the_runtime_is_killed(runtime, network):
    """veth(4): when a namespace ends, its devices are destroyed, and destroying one end
    of a cable destroys the other."""
    with runtime.running(net="bridge") as box:
        veth = f"/sys/class/net/veth{box.pid}"
        assert os.path.exists(veth)
        box.kill(signal.SIGKILL)
        assert eventually(lambda: not os.path.exists(veth))
    runtime.sweep()


@pytest.mark.told("spec", "spec-parent", "spec-child")
def test_error_for_a_missing_bridge_says_what_to_type(runtime):
    """ip-link(8) says what is missing, and process.run adds the hint. The file of the name
    servers is missing as well, but child waits for parent before it opens that."""
    result = slowed(runtime).run("true", "argument", net="bridge")
    assert_one_line_error(result, "sudo steps/network.sh on")


@pytest.mark.told("spec")
def test_unknown_kind_of_network_is_refused(runtime):
    """USAGE says "--net bridge|none", which allows one of these two, as in the synopsis
    of getopt(1)."""
    result = runtime.run("true", "argument", net="token-ring")
    assert_one_line_error(result, "--net must be bridge or none, not 'token-ring'")


@pytest.mark.told("spec", "nat-question")
@pytest.mark.also_before
def test_network_sh_leaves_the_hosts_firewall_alone(runtime):
    """nft(8): the workshop has its own table, next to those of others."""
    shell("nft add table ip mine; nft add chain ip mine c; nft add rule ip mine c drop")
    try:
        before = firewall()
        for _ in range(2):
            shell(f"{NETWORK} on && {NETWORK} status")
        assert "masquerade" in firewall()[1] and firewall()[0] == "1\n"
        for _ in range(2):
            shell(f"{NETWORK} off")
        assert firewall() == before
        assert shell(f"{NETWORK} status", check=False).status != 0
    finally:
        shell("nft delete table ip mine")


@pytest.mark.told("spec")
@pytest.mark.also_before
def test_network_sh_restores_ip_forwarding(runtime):
    """ip(7): ip_forward belongs to the host, so `off` restores the old value."""
    switch = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
    before = switch.read_text()
    try:
        for value in ("0\n", "1\n"):
            switch.write_text(value)
            shell(f"{NETWORK} on")
            assert switch.read_text() == "1\n"
            shell(f"{NETWORK} off")
            assert switch.read_text() == value
    finally:
        switch.write_text(before)


@pytest.mark.told("spec", given=["not ours"])
@pytest.mark.also_before
def test_network_sh_refuses_a_bridge_that_is_not_its_own(runtime):
    """ip-link(8): a device is known only by its name, and another program may have used
    that name already."""
    shell("ip link add workshop0 type veth peer name workshop1")
    try:
        result = shell(f"{NETWORK} on", check=False)
        assert_one_line_error(result, "workshop0", "not ours", status=1)
        shell(f"{NETWORK} off")
        assert os.path.exists("/sys/class/net/workshop0")
    finally:
        shell("ip link delete workshop0")
