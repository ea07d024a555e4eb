"""network.sh next to real firewalls: Debian's ufw and firewalld, and rules like Docker's. All of it
in namespaces: the packages are installed on overlays over this machine's directories, so
that nothing of them stays."""

import pathlib
import re
import sys
from collections.abc import Iterator

import driver
import pytest

sys.path.append(str(driver.PROJECT / "tests"))
import internet

NETWORK = driver.PROJECT / "steps/network.sh"
PACKAGES = [
    "busybox-static",
    "ufw",
    "firewalld",
    "iptables",
    "nftables",
    "iproute2",
    "dbus",
]
CHANGED = [
    "etc",
    "usr",
    "var/cache",
    "var/lib",
    "var/log",
]  # what installing a package changes

# A container, as container.py connects it, and an internet that knows no way to it.
WORLD = f"""
{internet.SET_UP}ip netns exec internet busybox nc -ll -p 80 -e echo hello >/dev/null 2>&1 &
"""
CONTAINER = """
ip netns add box
ip link add veth2 up master workshop0 type veth peer name eth0 netns box
ip -n box link set eth0 up
ip -n box address add 100.64.8.2/10 dev eth0
ip -n box route add default via 100.64.0.1
"""
DOCKER = """
iptables -P FORWARD DROP
iptables -N DOCKER-USER
iptables -A DOCKER-USER -j RETURN
iptables -A FORWARD -j DOCKER-USER
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
"""
FIREWALLD = """
mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
firewalld --nopid --nofork >/run/firewalld.log 2>&1 &
for n in $(seq 100); do firewall-cmd -q --state && break; sleep 0.2; done
firewall-cmd --state
"""


def overlays(upper: pathlib.Path, lower: pathlib.Path | None = None) -> str:
    """Returns a script that mounts overlays on CHANGED. Changes go to directories in upper;
    lower has those of another time."""
    lines = []
    for name in CHANGED:
        lowers = f"{lower}/{name}:/{name}" if lower else f"/{name}"
        own, work = f"{upper}/{name}", f"{upper}/{name}.work"
        options = f"lowerdir={lowers},upperdir={own},workdir={work}"
        lines.append(f"mkdir -p '{own}' '{work}'")
        lines.append(f"mount -t overlay -o '{options}' overlay /{name}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def installed(place: pathlib.Path) -> pathlib.Path:
    """Installs the packages. Returns the directory with what that has changed."""
    upper = place / "installed"
    script = f"""
        {overlays(upper)}
        mount -t tmpfs tmpfs /run
        printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
        apt-get -q update
        apt-get -q -y --no-install-recommends install {" ".join(PACKAGES)}
    """
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with driver.namespaces("mount", "pid") as inside:
        inside.run("sh", "-ec", script, env=quiet, timeout=400)
    return upper


class Host:
    """A host with an internet, in namespaces."""

    def __init__(self, inside: driver.Namespaces):
        self.inside = inside

    def sh(self, script: str, ok: tuple[int, ...] | None = (0,)) -> str:
        return self.inside.run("sh", "-ec", script, ok=ok).stdout

    def network(self, word: str) -> str:
        """Returns the warning of network.sh, which has to succeed."""
        out = self.sh(f"{NETWORK} {word} 2>&1")
        lines = [line for line in out.splitlines() if line.startswith("network.sh: ")]
        assert len(lines) < 2, out
        return lines[0] if lines else ""

    def container_reaches_the_internet(self) -> bool:
        ask = "cat </dev/tcp/203.0.113.2/80"  # many firewalls let a ping through
        command = f"timeout 1 ip netns exec box bash -c '{ask}'"
        return "hello" in self.sh(command, ok=None)

    def status_tells_the_truth(self) -> str:
        """Returns the warning."""
        warning = self.network("status")
        assert self.container_reaches_the_internet() == (not warning), warning
        return warning

    def do(self, warning: str) -> None:
        """Types what a warning says."""
        found = re.search("; type: (.*)", warning)
        assert found and "firewall" in warning, warning
        self.sh(found[1].replace("sudo ", ""))

    def rules(self) -> str:
        return self.sh("nft -s list ruleset 2>/dev/null")


@pytest.fixture
def host(installed: pathlib.Path) -> Iterator[Host]:
    with driver.namespaces("mount", "net", "pid", "uts", "ipc") as inside:
        host = Host(inside)
        host.sh("mount -t tmpfs tmpfs /run; mkdir /run/changed")
        host.sh(overlays(pathlib.Path("/run/changed"), installed))
        host.sh(WORLD)
        yield host
        host.sh("firewall-cmd -q --state && kill $(pidof -x firewalld)", ok=None)


UFW = "ufw --force enable"
FIREWALLS = {
    "ufw": UFW,
    "Docker": DOCKER,
    "firewalld": FIREWALLD,
    "ufw and Docker": UFW + DOCKER,
    "firewalld and Docker": FIREWALLD + DOCKER,
    "ufw switched off, and Docker": f"{UFW}\nufw disable\n{DOCKER}",
}


def test_without_a_firewall_there_is_no_warning(host: Host) -> None:
    assert host.network("on") == ""
    host.sh(CONTAINER)
    assert host.status_tells_the_truth() == ""


@pytest.mark.parametrize("firewall", FIREWALLS.values(), ids=list(FIREWALLS))
def test_firewall_is_named_and_opened(host: Host, firewall: str) -> None:
    """What the warning says to type is enough."""
    host.sh(firewall)
    warning = host.network("on")
    host.sh(CONTAINER)
    assert host.status_tells_the_truth() == warning != ""
    host.do(warning)
    assert host.status_tells_the_truth() == ""


@pytest.mark.parametrize("firewall", FIREWALLS.values(), ids=list(FIREWALLS))
def test_firewall_that_comes_later_is_told_by_status(host: Host, firewall: str) -> None:
    assert host.network("on") == ""
    host.sh(firewall)
    host.sh(CONTAINER)
    host.do(host.status_tells_the_truth())
    assert host.status_tells_the_truth() == ""


@pytest.mark.parametrize("firewall", FIREWALLS.values(), ids=list(FIREWALLS))
def test_firewall_is_left_alone(host: Host, firewall: str) -> None:
    host.sh(firewall)
    before = host.rules()
    host.network("on")
    host.network("off")
    assert host.rules() == before
