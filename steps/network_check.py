#!/usr/bin/python3 -S
"""Finds what is in the way of network.sh on this host. network.sh calls it.

    network_check.py pool POOL       does this host already use addresses from the pool?
    network_check.py internet POOL   does something keep containers from the internet?

Prints each finding as one line on stderr that says what to type. Exit status of `pool`: 0 no,
1 yes, 2 POOL is not one of our pools. `internet` only warns, so its exit status is 0.
ip-address(8), ip-route(8), nft(8)
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

# A container's address is the pool's plus a pid, which has up to 22 bits, so each pool is a /10.
# The first one is rare at home and in offices. The last one is reserved, but Linux routes it.
POOLS = [
    IPv4Network(f"{start}/10")
    for start in "100.64.0.0 10.64.0.0 10.128.0.0 10.192.0.0 10.0.0.0 240.0.0.0".split()
]
BRIDGE = "workshop0"
RESOLV_CONFS = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"]
RESOLV_CONFS += ["/run/NetworkManager/no-stub-resolv.conf"]
# The destination of the trial packet, which never gets there: nobody has this address, because
# it is for documentation (RFC 5737).
TARGET = "198.51.100.1"
# A route whose prefix has at most this many bits, such as a VPN's 0.0.0.0/1, leads to the internet
# as a whole, like a default route.
EVERYTHING = 7
COMMAND = "sudo steps/network.sh"
IS_ON = "/run/workshop/ip_forward"


class Host:
    """What this host uses, apart from our bridge: its addresses and the routes in all tables,
    each with its device, and its name servers."""

    def __init__(self) -> None:
        self.addresses: list[tuple[IPv4Interface, str]] = []
        self.routes: list[tuple[IPv4Network, str]] = []
        self.servers: list[IPv4Address] = []


def user_of(pool: IPv4Network, host: Host) -> str:
    """Returns what on this host uses addresses from a pool, or "" if nothing does."""
    for address, device in host.addresses:
        if address in pool or pool.overlaps(address.network):
            return f"{device} has the address {address}"
    for prefix, device in host.routes:
        if prefix.prefixlen > EVERYTHING and prefix.overlaps(pool):
            return f"there is a route to {prefix} ({device})"
    for server in host.servers:
        # The bridge hides it only if there is another route to it.
        if server in pool and any(server in prefix for prefix, _ in host.routes):
            return f"it contains the name server {server}"
    return ""


def host_from(addresses: str, routes: str, resolv_conf: str) -> Host:
    """Returns the Host that `ip -json address`, `ip -json route` and resolv.conf(5) show."""
    host = Host()
    for link in json.loads(addresses):
        for found in link.get("addr_info", []):
            if link["ifname"] != BRIDGE:
                interface = IPv4Interface(f"{found['local']}/{found['prefixlen']}")
                host.addresses.append((interface, link["ifname"]))
    for found in json.loads(routes):
        # "throw" sends the search to the next table, so it leads nowhere.
        if found.get("dev") != BRIDGE and found.get("type") != "throw":
            prefix = found["dst"].replace("default", "0.0.0.0/0")
            device = found.get("dev") or found.get("type") or "multipath"
            host.routes.append((IPv4Network(prefix), device))
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
    addresses = run("ip", "-j", "-4", "address") or "[]"
    routes = run(*"ip -j -4 route show table all".split()) or "[]"
    return host_from(addresses, routes, "\n".join(texts))


def check_pool(pool: IPv4Network) -> int:
    """Complains if this host uses the pool, and says which other pool is free. Returns the exit
    status."""
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
    if leaves is None:  # then go by the policies
        leaves = not dropping_chains(chains)
    if not leaves:
        with contextlib.suppress(OSError), open("/etc/ufw/ufw.conf") as file:
            chains += file.read()
        say(
            "a firewall on this host drops the packets that containers send to the "
            f"internet; type: {remedy(chains)}"
        )


def packet_leaves(pool: IPv4Network) -> bool | None:
    """Sends a packet as a container does, and catches it at the last hook before it would leave
    this host. Returns whether it got there, or None if that cannot be tried.

    Reading the rules instead would not be enough, because there are several kinds of firewalls,
    and an accept in one table does not overrule a drop in another: nft(8)."""
    number = os.getpid()  # which no container has
    table, cable = f"ip workshop{number}", f"probe{number}"
    rule = f"ip saddr {pool[number]} ip daddr {TARGET} counter drop"
    hook = "type filter hook postrouting priority -300"
    script = 'echo ready; while read -r line; do echo >"/dev/udp/$0/9"; done'
    with subprocess.Popen(
        ["unshare", "--net", "bash", "-c", script, TARGET],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as sender:
        assert sender.stdin and sender.stdout
        try:
            if (
                sender.stdout.readline() != "ready\n"
                or not connected(cable, sender.pid, pool[number], pool[1])
                or run("nft", f"table {table} {{ chain last {{ {hook}; {rule}; }}; }}")
                is None
            ):
                return None
            for _ in range(25):  # the bridge needs a moment until it passes packets on
                sender.stdin.write("send\n")
                sender.stdin.flush()
                time.sleep(0.02)
                counted = run("nft", "list", "table", *table.split())
                if counted is None:
                    return None
                if "packets 0 " not in counted:
                    return True
            return False
        finally:
            run("ip", "link", "delete", cable)  # so that it is gone when we return
            sender.kill()
            run("nft", "delete", "table", *table.split())


def connected(cable: str, pid: int, address: IPv4Address, gateway: IPv4Address) -> bool:
    """Connects a process's network namespace to the bridge, as connect() in container.py does.
    Returns whether that worked."""
    link = (
        f"ip link add {cable} up master {BRIDGE} type veth peer name eth0 netns {pid}"
    )
    if run(*link.split()) is None:
        return False
    with open(f"/sys/class/net/{BRIDGE}/address") as file:
        mac = file.read().strip()
    setup = f"link set eth0 up\naddress add {address}/10 dev eth0\n"
    setup += (
        f"neighbor add {gateway} lladdr {mac} dev eth0\n"  # no need to wait for ARP
    )
    setup += f"route add default via {gateway}\n"
    inside = f"nsenter -t {pid} -n ip -batch -"
    return run(*inside.split(), input=setup) is not None


def dropping_chains(chains: str) -> list[str]:
    """Returns "FAMILY TABLE CHAIN" of each chain that drops, by its policy, what the host
    forwards. chains: what `nft list chains` prints."""
    found, table, chain = [], "", ""
    for words in map(str.split, chains.splitlines()):
        if words[:1] == ["table"]:
            table = " ".join(words[1:3])
        elif words[:1] == ["chain"]:
            chain = words[1]
        elif words[:4] == "type filter hook forward".split() and "drop;" in words:
            found.append(f"{table} {chain}")
    return found


def remedy(chains: str) -> str:
    """Returns the commands that make this host's firewalls pass our packets on. chains: what
    `nft list chains` prints, and ufw.conf."""
    iptables = (
        "sudo iptables -I {0} -i {1} -j ACCEPT; sudo iptables -I {0} -o {1} -j ACCEPT"
    )
    commands = []
    if "ENABLED=yes" in chains and "chain ufw-user-forward" in chains:
        commands = [f"sudo ufw route allow in on {BRIDGE}"]
    elif "chain DOCKER-USER" in chains:  # Docker leaves this chain to the admin
        commands = [iptables.format("DOCKER-USER", BRIDGE)]
    else:
        for chain in dropping_chains(chains):
            for end in "iifname", "oifname":
                commands.append(f"sudo nft insert rule {chain} {end} {BRIDGE} accept")
    if "table inet firewalld" in chains:
        commands.append(f"sudo firewall-cmd --zone=trusted --add-interface={BRIDGE}")
    return "; ".join(commands or [iptables.format("FORWARD", BRIDGE)])


def say(text: str) -> None:
    """Prints a line on stderr, in the name of network.sh."""
    print(f"network.sh: {text}", file=sys.stderr)


def main(words: list[str]) -> int:
    """Runs one of the checks. Returns the exit status."""
    pool = next((pool for pool in POOLS if str(pool) == words[1]), None)
    if pool is None:
        say(f"POOL is one of {', '.join(map(str, POOLS))}, not {words[1]!r}")
        return 2
    if words[0] == "pool":
        return check_pool(pool)
    check_internet(pool)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
