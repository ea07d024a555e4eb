"""network.sh on hosts of all kinds: with a VPN, a firewall, no name server, a strict umask.
Each fact runs in its own network and mount namespace, which is the host here."""

import difflib
import os
import pathlib
import re
import subprocess
import sys

import internet
import pytest
from runtime import (
    LAST,
    LIMIT,
    PROJECT,
    STEPS,
    Result,
    assert_one_line_error,
    eventually,
)

NETWORK = PROJECT / "steps/network.sh"
WITH_NETWORK = STEPS[4:]

# Its own /run, and an /etc whose resolv.conf can be replaced.
OWN_FILES = """
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 run /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work etc /etc
rm -f /etc/resolv.conf
echo nameserver 192.0.2.53 >/etc/resolv.conf
ip link set lo up
echo ready
read -r end
"""
# Runs on the internet, and greets whoever connects to port 80.
SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 80))
print("ready", flush=True)
while True:
    client, peer = server.accept()
    client.sendall(b"hello\\n")
    client.close()
"""
ASK = "timeout 3 bash -c 'cat </dev/tcp/203.0.113.2/80'"


class Host:
    """A host in namespaces that end with it."""

    def __init__(self):
        words = ["unshare", "--mount", "--net", "sh", "-ec", OWN_FILES]
        self.holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.holder.stdout.readline() == "ready\n"
        self.enter = ["nsenter", "-t", str(self.holder.pid), "--mount", "--net"]
        self.server = None

    def run(self, script, check=True, **environment):
        """Run a shell script on the host. Returns its Result."""
        argv = [*self.enter, "bash", "-ec", script]
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            env=os.environ | environment,
        )
        result = Result(argv, done.returncode, done.stdout, done.stderr)
        assert not check or result.status == 0, result
        return result

    def network(self, words, status=0):
        """Run network.sh. Returns its Result, with at most one line on stderr."""
        result = self.run(f"exec {NETWORK} {words}", check=False)
        assert result.status == status, result
        assert re.fullmatch(r"(network\.sh: [^\n]+\n)?", result.err), result
        return result

    def type(self, line):
        """Type what a line of network.sh says."""
        found = re.search("type: (.+)", line)
        assert found, line
        here = found[1].replace("sudo steps/network.sh", str(NETWORK))
        return self.run(here.replace("sudo ", ""))

    def internet(self):
        """Give it an internet: a network namespace with a server."""
        self.run(f"mkdir -p /run/netns\n{internet.SET_UP}")
        argv = [*self.enter, "ip", "netns", "exec", "internet", sys.executable, "-c"]
        self.server = subprocess.Popen([*argv, SERVER], stdout=subprocess.PIPE)
        assert self.server.stdout.readline() == b"ready\n"

    def state(self):
        """What network.sh must leave as it was."""
        settings = "ip_forward conf/*/forwarding conf/*/accept_redirects"
        return self.run(
            "ip -o address | sed 's/ tentative//; s/ valid_lft.*//'; ip -o link; ip -4 route show table all;"
            f"nft list ruleset; cd /proc/sys/net/ipv4; grep '' {settings}; ls -R /run"
        ).lines

    def close(self):
        if self.server:
            self.server.kill()
            self.server.communicate()
        self.holder.kill()
        self.holder.communicate()


@pytest.fixture
def host():
    host = Host()
    try:
        yield host
    finally:
        host.close()


def container(host, script, step=LAST, check=True):
    """A container with the network, on the host."""
    command = f"{step} run --net bridge debian sh -c"
    return host.run(f'exec {command} "$SCRIPT"', check=check, SCRIPT=script)


# ---- off, and what is remembered


@pytest.mark.parametrize("forward", [0, 1])
def test_off_puts_everything_back(host, forward):
    """ip-sysctl: a write to ip_forward also changes each device's forwarding, and
    conf/all/accept_redirects."""
    host.internet()
    host.run(
        f"echo {forward} >/proc/sys/net/ipv4/ip_forward; cd /proc/sys/net/ipv4/conf;"
        "echo 0 >all/accept_redirects; echo 1 >uplink0/forwarding; echo 0 >lo/forwarding"
    )
    before = host.state()
    for _ in range(2):
        assert host.network("on").err == ""
        assert (
            "forwarding:1"
            in host.run("grep -H '' /proc/sys/net/ipv4/conf/uplink0/*").out
        )
    assert (
        host.network("status").out
        == "on: containers get their addresses from 100.64.0.0/10\n"
    )
    for _ in range(2):
        assert host.network("off").err == ""
        assert eventually(lambda: host.state() == before), [
            line for line in difflib.ndiff(before, host.state()) if line[0] in "+-"
        ]
    assert host.network("status", status=3).out == "off\n"


@pytest.mark.parametrize("before", [0, 1])
def test_forwarding_that_somebody_has_switched_off_stays_off(host, before):
    """ip-sysctl: ip_forward is everybody's, and who wrote it last has a reason."""
    switch = "/proc/sys/net/ipv4/ip_forward"
    host.run(f"echo {before} >{switch}; {NETWORK} on; echo 0 >{switch}")
    assert "forwarding is gone; type: sudo " in host.network("status", status=1).err
    host.network("off")
    assert host.run(f"cat {switch}").out == "0\n"


def test_forwarding_that_somebody_needs_stays_on(host):
    """Docker, libvirt and others switch it on when they start; it was on already."""
    host.network("on")
    host.run(
        "nft 'table ip nat { chain POSTROUTING { type nat hook postrouting priority 100;"
        "ip saddr 172.17.0.0/16 masquerade; }; }'"
    )
    line = host.network("off").err
    assert host.run("cat /proc/sys/net/ipv4/ip_forward").out == "1\n"
    host.type(line)
    assert host.run("cat /proc/sys/net/ipv4/ip_forward").out == "0\n"


def test_forwarding_is_put_back_next_to_nat_that_was_there(host):
    """Rules that were there before do not need what was not on."""
    host.run(
        "nft 'table ip nat { chain POSTROUTING { type nat hook postrouting priority 100;"
        "ip saddr 172.17.0.0/16 masquerade; }; }'"
    )
    host.network("on")
    assert host.network("off").err == ""
    assert host.run("cat /proc/sys/net/ipv4/ip_forward").out == "0\n"


@pytest.mark.parametrize(
    "damage, gone",
    [
        ("nft flush ruleset", "NAT"),
        ("nft flush table ip workshop", "NAT"),
        ("ip link delete workshop0", "the bridge workshop0"),
        ("ip link set workshop0 down", "the bridge workshop0"),
        ("ip address flush dev workshop0", "the bridge workshop0"),
        ("rm /run/workshop/dns", "/run/workshop/dns"),
    ],
)
def test_status_says_what_is_gone_and_on_repairs_it(host, damage, gone):
    """nft(8): flush ruleset, as a restart of nftables.service does, takes every table."""
    host.run(f"{NETWORK} on; {damage}")
    result = host.network("status", status=1)
    assert f"it is on, but {gone} is gone; type: " in result.err
    host.type(result.err)
    assert host.network("status").err == ""


def test_failed_on_leaves_nothing_behind(host, tmp_path):
    """A kernel without nf_tables, for example: nft fails, when the bridge is there already."""
    before = host.state()
    (tmp_path / "nft").write_text(
        '#!/bin/sh\n[ "$1" != -f ] || { echo "no such kernel\nindeed" >&2; exit 1; }\n'
        'exec /usr/sbin/nft "$@"\n'
    )
    (tmp_path / "nft").chmod(0o755)
    result = host.run(f"PATH={tmp_path}:$PATH {NETWORK} on", check=False)
    assert_one_line_error(result, "nft: no such kernel", status=1)
    assert eventually(lambda: host.state() == before), (before, host.state())


def test_forwarding_that_is_on_is_not_written_again(host):
    """In a container of another engine /proc/sys cannot be written to."""
    host.run("echo 1 >/proc/sys/net/ipv4/ip_forward; mount --bind /proc/sys /proc/sys")
    host.run("mount -o remount,bind,ro /proc/sys")
    assert host.network("on").err == ""
    assert host.network("off").err == ""


def test_several_at_once_do_not_disturb_each_other(host):
    """flock(1)"""
    on = f"{NETWORK} on & a=$!; {NETWORK} on & b=$!; {NETWORK} on & c=$!"
    result = host.run(f"{on}; wait $a; wait $b; wait $c; {NETWORK} status")
    assert result.err == ""


@pytest.mark.parametrize("words", ["", "up", "on off", "status 1", "off now"])
def test_wrong_words_get_the_usage(host, words):
    if words == "on off":
        assert "POOL is one of 100.64.0.0/10, " in host.network(words, status=2).err
    else:
        line = "network.sh: usage: network.sh on [POOL]|off|status\n"
        assert host.network(words, status=2).err == line


# ---- umask


@pytest.mark.parametrize("step", WITH_NETWORK, ids=lambda step: step.parent.name)
def test_strict_umask_does_not_lock_containers_out(host, step):
    """umask(2): 077, as on hardened servers. path_resolution(7): the container's root is
    nobody on the host from step 05 on, and needs x on /run/workshop."""
    host.run(f"umask 077; {NETWORK} on")
    out = container(host, "cat /etc/resolv.conf", step).out
    assert out == "nameserver 192.0.2.53\n"


def test_on_repairs_modes(host):
    """chmod(1)"""
    host.run(f"{NETWORK} on; chmod 700 /run/workshop; chmod 600 /run/workshop/*")
    host.run(f"umask 077; {NETWORK} on")
    modes = host.run("stat -c '%a %n' /run/workshop /run/workshop/*").lines
    assert modes == [
        "755 /run/workshop",
        "644 /run/workshop/dns",
        "644 /run/workshop/ip_forward",
        "644 /run/workshop/nat",
        "644 /run/workshop/pool",
    ]


# ---- the pool

DEVICE = "ip link add tun0 type bridge; ip link set tun0 up;"
IN_USE = {
    "cgnat": f"{DEVICE} ip address add 100.72.1.2/16 dev tun0",
    "tailscale": f"{DEVICE} ip address add 100.101.1.2/32 dev tun0",
    "device that is down": "ip link add tun0 type bridge; ip address add 100.1.2.3/8 dev tun0",
    "peer": f"{DEVICE} ip address add 10.9.9.9 peer 100.64.0.1 dev tun0",
    "route in another table": f"{DEVICE} ip route add 100.100.100.100 dev tun0 table 52",
    "route for all of it": f"{DEVICE} ip route add 100.64.0.0/10 dev tun0",
    "route for more": f"{DEVICE} ip route add 100.0.0.0/8 dev tun0",
    "route nowhere": "ip route add blackhole 100.96.0.0/12",
}
NOT_IN_USE = {
    "default": f"{DEVICE} ip route add default dev tun0",
    "a VPN for everything": f"{DEVICE} ip route add 0.0.0.0/1 dev tun0; ip route add 64.0.0.0/2 dev tun0",
    "next to it": f"{DEVICE} ip address add 100.128.0.1/10 dev tun0; ip address add 100.63.0.1/16 dev tun0",
    "throw": "ip route add throw 100.64.0.0/10 table 52",
    "out of reach": "echo nameserver 100.100.2.136 >/etc/resolv.conf",
    "another server": f"{DEVICE} ip route add default dev tun0; echo nameserver 100.128.2.136 >/etc/resolv.conf",
}


@pytest.mark.parametrize("use", IN_USE.values(), ids=IN_USE)
def test_pool_that_somebody_uses_is_refused_and_another_one_works(host, use):
    """ip-route(8): the more specific route wins, and that would be our bridge's or theirs."""
    host.run(use)
    before = host.state()
    result = host.network("on", status=1)
    assert "100.64.0.0/10 is in use on this host: " in result.err
    assert "tun0" in result.err or "blackhole" in result.err
    assert host.state() == before
    typed = host.type(result.err)
    assert typed.err == "" and host.network("status").out.endswith("10.64.0.0/10\n")


def test_name_server_in_the_pool_is_not_hidden(host):
    """resolv.conf(5): a cloud's server, which the default route leads to."""
    host.run(f"{DEVICE} ip route add default dev tun0")
    host.run("echo nameserver 100.100.2.136 >/etc/resolv.conf")
    result = host.network("on", status=1)
    assert "it contains the name server 100.100.2.136" in result.err
    host.type(result.err)
    assert "dev tun0" in host.run("ip route get 100.100.2.136").out
    assert host.run("cat /run/workshop/dns").out == "nameserver 100.100.2.136\n"


@pytest.mark.parametrize("use", NOT_IN_USE.values(), ids=NOT_IN_USE)
def test_pool_is_not_refused_without_need(host, use):
    """ip-route(8): a route to everything stays what it is for everything else."""
    host.run(use)
    for _ in range(2):
        assert host.network("on").err == ""
    assert host.network("status").err == ""


def test_pool_that_is_used_later_is_told_by_status(host):
    """Tailscale is started afterwards, for example."""
    host.network("on")
    host.run(IN_USE["tailscale"])
    for word in "status", "on":
        result = host.network(word, status=1)
        assert "tun0 has the address 100.101.1.2/32" in result.err
    host.type(result.err)
    assert host.network("status").err == ""


def test_last_free_pool_is_offered_and_then_none(host):
    """RFC 1918, RFC 6598, RFC 1112: 240.0.0.0/4 is reserved."""
    host.run(f"{IN_USE['tailscale']}; ip route add 10.0.0.0/8 dev tun0")
    line = host.network("on", status=1).err
    assert line.endswith("type: sudo steps/network.sh on 240.0.0.0/10\n"), line
    host.run("ip route add 240.0.0.0/8 dev tun0")
    assert "and so is every other pool" in host.network("on", status=1).err


def test_pool_is_remembered(host):
    """Also when it was off meanwhile, until another one is asked for."""
    host.network("on 10.64.0.0/10")
    for word in "on", "off", "on", "off", "on":
        host.network(word)
        if word == "on":
            assert "10.64.0.1/10" in host.run("ip -o address show workshop0").out
            assert host.network("status").out.endswith(" 10.64.0.0/10\n")
    line = host.network("on 100.64.0.0/10", status=1).err
    assert "it is on with 10.64.0.0/10; type: sudo " in line
    host.type(line)
    host.network("on 100.64.0.0/10")
    host.network("off")
    assert host.run("ls /run/workshop", check=False).out == ""


@pytest.mark.parametrize("pool", ["10.64.0.0/10", "240.0.0.0/10"])
@pytest.mark.parametrize("step", WITH_NETWORK, ids=lambda step: step.parent.name)
def test_container_reaches_the_internet_from_any_pool(host, step, pool):
    """ip-route(8): Linux forwards 240.0.0.0/4 like any other addresses."""
    host.internet()
    host.network(f"on {pool}")
    out = container(host, f"ip -o -4 address show eth0; {ASK}", step).out
    assert f"inet {pool.split('.')[0]}." in out and out.endswith("hello\n"), out


# ---- firewalls

DROP = "nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop;"
REJECT = "nft 'table inet mine { chain passing { type filter hook forward priority 10;"


@pytest.mark.parametrize("online", [True, False])
def test_firewall_that_drops_is_told_with_what_to_type(host, online):
    """nft(8): an accept in one table does not overrule the policy of another one."""
    if online:
        host.internet()
    host.run(DROP + " }; }'")
    before = host.run("ip -o link; nft list tables").lines
    line = host.network("on").err
    assert "a firewall on this host drops" in line
    assert host.network("status").err == line
    host.type(line)
    if online:
        assert host.network("status").err == ""
        assert container(host, ASK).out == "hello\n"
    host.network("off")
    assert eventually(lambda: host.run("ip -o link; nft list tables").lines == before)


@pytest.mark.parametrize(
    "rules, works",
    [
        (f"{REJECT} reject; }}; }}'", False),
        (f"{REJECT} iifname workshop0 reject; }}; }}'", False),
        (f"{REJECT} oifname docker0 reject; }}; }}'", True),
        (
            f"{DROP} iifname workshop0 accept; ct state established accept; }}; }}'",
            True,
        ),
        (
            f"{DROP} ip saddr 100.64.0.0/10 accept; ct state established accept; }}; }}'",
            True,
        ),
    ],
)
def test_firewall_is_judged_by_what_it_does(host, rules, works):
    """nft(8): reject, and rules in front of a policy."""
    host.internet()
    host.run(rules)
    assert (host.network("on").err == "") == works
    assert (container(host, ASK, check=False).out == "hello\n") == works


def test_host_with_ipv6_only_is_told(host):
    """ip-route(8): a container has IPv4 only."""
    host.run(f"{DEVICE} ip -6 route add default dev tun0")
    assert "no IPv4 route to the internet, only an IPv6 one" in host.network("on").err


# ---- name servers

WITHOUT_SERVER = {
    "loopback": "echo nameserver 127.0.0.53 >/etc/resolv.conf",
    "IPv6": r"printf 'nameserver ::1\nnameserver fe80::1%%eth0\nnameserver 2001:db8::1\n' >/etc/resolv.conf",
    "this host": "echo nameserver 0.0.0.0 >/etc/resolv.conf",
    "empty": ": >/etc/resolv.conf",
    "missing": "rm /etc/resolv.conf",
    "dangling": "ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
}


@pytest.mark.parametrize("script", WITHOUT_SERVER.values(), ids=WITHOUT_SERVER)
def test_missing_name_server_is_told_with_what_to_type(host, script):
    """resolv.conf(5): without a server, programs ask 127.0.0.1, which is the container."""
    host.run(script)
    line = host.network("on").err
    assert "no name server that containers can reach" in line
    assert host.network("status").err == line
    host.type(line)
    assert host.network("status").err == ""
    assert host.network("on").err == ""  # which keeps it
    assert "nameserver 9.9.9.9\n" in container(host, "cat /etc/resolv.conf").out
    host.run("rm -f /etc/resolv.conf; echo nameserver 192.0.2.1 >/etc/resolv.conf")
    host.network("on")
    assert host.run("cat /run/workshop/dns").out == "nameserver 192.0.2.1\n"


@pytest.mark.parametrize(
    "file", ["systemd/resolve/resolv.conf", "NetworkManager/no-stub-resolv.conf"]
)
def test_servers_behind_a_local_one_are_used(host, file):
    """systemd-resolved(8), NetworkManager.conf(5): both list the servers that the local one
    asks. A list that is left over from another time does not count."""
    path = pathlib.Path("/run", file)
    host.run(f"mkdir -p {path.parent}; echo nameserver 192.0.2.7 >{path}")
    host.network("on")
    assert host.run("cat /run/workshop/dns").out == "nameserver 192.0.2.53\n"
    host.run("echo nameserver 127.0.0.53 >/etc/resolv.conf")
    assert host.network("on").err == ""
    assert host.run("cat /run/workshop/dns").out == "nameserver 192.0.2.7\n"


# ---- PATH


@pytest.mark.parametrize("path", ["PATH=/usr/local/bin:/usr/bin:/bin", "-u PATH"])
def test_path_without_sbin_is_no_obstacle(host, path):
    """su(1) without "-", cron(8): nft is in /usr/sbin."""
    for word in "on", "status", "off":
        result = host.run(f"env {path} {NETWORK} {word}")
        assert result.err == ""
