#!/usr/bin/python3 -S
"""Finds what stands in the way of network.sh on this host, for network.sh itself.

    network_check.py pool POOL       does somebody else use addresses of the pool?
    network_check.py internet POOL   what keeps containers from the internet?

Prints each finding on stderr: one line, with what to type. Exit status of "pool": 0 nobody,
1 somebody, 2 this is no pool. "internet" only warns: 0. See ip-address(8), ip-route(8), nft(8).
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

# A pid has up to 22 bits, and an address is a pool's plus a pid: so these are /10. The first is
# rarely used at home or in an office; 240.0.0.0/4 is reserved, but Linux uses it like any other.
POOLS = [
    IPv4Network(f"{start}/10")
    for start in "100.64.0.0 10.64.0.0 10.128.0.0 10.192.0.0 10.0.0.0 240.0.0.0".split()
]
BRIDGE = "workshop0"
RESOLV_CONFS = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
RESOLV_CONFS += ["/run/NetworkManager/no-stub-resolv.conf"]
# Where the trial packet goes, which never gets there: for documentation, RFC 5737.
TARGET = "198.51.100.1"
EVERYTHING = 7  # a prefix of at most so many bits leads to the whole internet, like 0.0.0.0/1
COMMAND = "sudo steps/network.sh"
IS_ON = "/run/workshop/ip_forward"


@dataclass(frozen=True)
class Route:
    """A route of any table: its destination, and the device that it leads to."""

    prefix: IPv4Network
    device: str


@dataclass
class Host:
    """What this host uses, apart from our bridge."""

    addresses: list[tuple[IPv4Interface, str]] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    servers: list[IPv4Address] = field(default_factory=list)


def user_of(pool: IPv4Network, host: Host) -> str:
    """Says who else uses addresses of a pool. Returns "" if nobody does."""
    for address, device in host.addresses:
        if address in pool or pool.overlaps(address.network):
            return f"{device} has the address {address}"
    for route in host.routes:
        if route.prefix.prefixlen > EVERYTHING and route.prefix.overlaps(pool):
            return f"there is a route to {route.prefix} ({route.device})"
    for server in host.servers:
        # Without a route to it, the bridge hides nothing.
        if server in pool and any(server in route.prefix for route in host.routes):
            return f"it contains the name server {server}"
    return ""


def host_from(addresses: list[dict], routes: list[dict], resolv_conf: str) -> Host:
    """Returns the Host that `ip -json address`, `ip -json route` and resolv.conf(5) show."""
    host = Host()
    for link in addresses:
        for found in link.get("addr_info", []):
            if link["ifname"] != BRIDGE:
                interface = IPv4Interface(f"{found['local']}/{found['prefixlen']}")
                host.addresses.append((interface, link["ifname"]))
    for found in routes:
        # "throw" sends the search to the next table, so it leads nowhere.
        if found.get("dev") != BRIDGE and found.get("type") != "throw":
            prefix = found["dst"].replace("default", "0.0.0.0/0")
            device = found.get("dev") or found.get("type") or "multipath"
            host.routes.append(Route(IPv4Network(prefix), device))
    for line in resolv_conf.splitlines():
        words = line.split()
        if words[:1] == ["nameserver"]:
            with contextlib.suppress(ValueError, IndexError):
                host.servers.append(IPv4Address(words[1]))
    return host


def run(*words: str, input: str = "") -> str | None:
    """Runs a tool. Returns what it prints, or None if it fails."""
    done = subprocess.run(
        words, input=input, capture_output=True, text=True, errors="replace"
    )
    return done.stdout if done.returncode == 0 else None


def this_host() -> Host:
    """Returns the Host of this network namespace."""
    texts = []
    for path in RESOLV_CONFS:
        with contextlib.suppress(OSError), open(path, errors="replace") as file:
            texts.append(file.read())
    addresses = json.loads(run("ip", "-j", "-4", "address") or "[]")
    routes = json.loads(run(*"ip -j -4 route show table all".split()) or "[]")
    return host_from(addresses, routes, "\n".join(texts))


def check_pool(pool: IPv4Network) -> int:
    """Complains if somebody else uses the pool, and says which one is free."""
    host = this_host()
    user = user_of(pool, host)
    if not user:
        return 0
    free = next((other for other in POOLS if not user_of(other, host)), None)
    off = f"{COMMAND} off; " if os.path.exists(IS_ON) else ""
    todo = f"type: {off}{COMMAND} on {free}" if free else "and so is every other pool"
    say(f"{pool} is in use on this host: {user}; {todo}")
    return 1


def check_internet(pool: IPv4Network) -> None:
    """Warns if containers do not reach the internet although this host does."""
    routed = run("ip", "-4", "route", "get", TARGET) is not None
    if not routed and run("ip", "-6", "route", "show", "default"):
        say(
            "this host has no IPv4 route to the internet, only an IPv6 one, and containers "
            "have only IPv4; give this host an IPv4 address and a default route as well"
        )
    chains = run("nft", "list", "chains") or ""
    leaves = packet_leaves(pool) if routed else None
    if leaves is None:  # only the policies are left to look at
        leaves = not dropping_chain(chains)
    if not leaves:
        say(
            "a firewall on this host drops what containers send to the internet; "
            f"type: {remedy(chains)}"
        )


def packet_leaves(pool: IPv4Network) -> bool | None:
    """Sends a packet as a container does, and returns whether it gets as far as the last hook
    before it leaves this host, where it is caught. Returns None if that cannot be tried.

    Reading the rules instead does not work: there are several kinds of firewalls, and an
    accept in one table does not overrule a drop in another: nft(8)."""
    number = os.getpid()
    table, cable = f"ip workshop{number}", f"probe{number}"
    script = 'echo ready; while read -r line; do echo >"/dev/udp/$0/9"; done'
    words = ["unshare", "--net", "bash", "-c", script, TARGET]
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as sender:
        try:
            assert sender.stdin and sender.stdout
            if sender.stdout.readline() != "ready\n":
                return None
            link = f"ip link add {cable} up master {BRIDGE} type veth peer name eth0"
            if run(*link.split(), "netns", str(sender.pid)) is None:
                return None
            with open(f"/sys/class/net/{BRIDGE}/address") as file:
                mac = file.read().strip()
            setup = "link set eth0 up\n"
            setup += f"address add {pool[number]}/10 dev eth0\n"
            setup += f"route add default via {pool[1]}\n"
            setup += f"neighbor add {pool[1]} lladdr {mac} dev eth0\n"
            inside = f"nsenter -t {sender.pid} -n ip -batch -"
            last = f"""table {table} {{
                chain last {{
                    type filter hook postrouting priority -300
                    ip saddr {pool[number]} ip daddr {TARGET} counter drop
                }}
            }}"""
            if run(*inside.split(), input=setup) is None or run("nft", last) is None:
                return None
            for _ in range(25):  # the bridge needs a moment until it passes packets on
                sender.stdin.write("send\n")
                sender.stdin.flush()
                time.sleep(0.02)
                if "packets 0 " not in (run("nft", "list", "table", *table.split()) or ""):
                    return True
            return False
        finally:
            run("ip", "link", "delete", cable)  # so that it is gone when we return
            sender.kill()
            run("nft", "delete", "table", *table.split())


def dropping_chain(chains: str) -> str:
    """Returns "FAMILY TABLE CHAIN" of the first chain that drops, by its policy, what the host
    forwards. chains: what `nft list chains` prints."""
    table = chain = ""
    for words in map(str.split, chains.splitlines()):
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif words[:4] == "type filter hook forward".split() and "drop;" in words:
            return f"{table} {chain}"
    return ""


def remedy(chains: str) -> str:
    """Returns the command that makes this host's firewall pass our packets on."""
    if "chain ufw-user-forward" in chains:
        return f"sudo ufw route allow in on {BRIDGE}"
    if "table inet firewalld" in chains:
        return f"sudo firewall-cmd --zone=trusted --add-interface={BRIDGE}"
    if "chain DOCKER-USER" in chains:
        rule = "sudo iptables -I DOCKER-USER {} " + f"{BRIDGE} -j ACCEPT"
        return f"{rule.format('-i')}; {rule.format('-o')}"
    if chain := dropping_chain(chains):
        rule = f"sudo nft insert rule {chain} {{}} {BRIDGE} accept"
        return f"{rule.format('iifname')}; {rule.format('oifname')}"
    rule = f"sudo iptables -I FORWARD {{}} {BRIDGE} -j ACCEPT"
    return f"{rule.format('-i')}; {rule.format('-o')}"


def say(text: str) -> None:
    print(f"network.sh: {text}", file=sys.stderr)


def main(words: list[str]) -> int:
    try:
        pool = IPv4Network(words[1])
    except ValueError:
        pool = None
    if pool not in POOLS:
        say(f"POOL is one of {', '.join(map(str, POOLS))}, not {words[1]!r}")
        return 2
    if words[0] == "pool":
        return check_pool(pool)
    check_internet(pool)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
