"""steps/network_check.py: who uses a pool, and what a firewall needs. What `ip -json` and `nft`
print is that of iproute2 6.1 and nftables 1.0.6."""

import json
from ipaddress import IPv4Network

import network_check
import pytest

ADDRESSES = [
    {"ifname": "lo", "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
    {"ifname": "eth0", "addr_info": [{"local": "192.0.2.2", "prefixlen": 24}]},
    {"ifname": "workshop0", "addr_info": [{"local": "100.64.0.1", "prefixlen": 10}]},
    {},
]
ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "100.64.0.0/10", "dev": "workshop0"},
    {"type": "local", "dst": "100.64.0.1", "dev": "workshop0", "table": "local"},
]
POOL = IPv4Network("100.64.0.0/10")


def user(addresses=(), routes=(), resolv_conf=""):
    host = network_check.host_from(
        json.dumps([*ADDRESSES, *addresses]),
        json.dumps([*ROUTES, *routes]),
        resolv_conf,
    )
    return network_check.user_of(POOL, host)


def test_our_own_bridge_does_not_count():
    assert user() == ""


@pytest.mark.parametrize("first", ["100.64.0.0", "100.127.255.255"])
def test_both_ends_of_the_pool_count(first):
    assert user(routes=[{"dst": first, "dev": "tun0"}]) != ""


@pytest.mark.parametrize("first", ["100.63.255.255", "100.128.0.0"])
def test_neighbours_of_the_pool_do_not_count(first):
    assert user(routes=[{"dst": first, "dev": "tun0"}]) == ""


def test_route_with_several_ways_has_no_device_of_its_own():
    """ip-route(8): nexthop"""
    route = {"dst": "100.100.0.0/16", "nexthops": [{"dev": "a"}, {"dev": "b"}]}
    assert user(routes=[route]) == "there is a route to 100.100.0.0/16 (multipath)"


@pytest.mark.parametrize(
    "line", ["nameserver", "nameserver nonsense", "nameserver 2001:db8::1", "\\0"]
)
def test_line_without_a_usable_name_server_does_not_count(line):
    assert user(resolv_conf=line) == ""


def test_name_server_behind_the_default_route_counts():
    assert "100.100.2.136" in user(resolv_conf="search x\nnameserver 100.100.2.136\n")


CHAINS = """\
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
	}
}
table ip filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain other {
	}
}
table inet mine {
	chain passing {
		type filter hook forward priority filter + 10; policy drop;
	}
}
"""


def test_chains_that_drop_what_is_forwarded_are_found():
    found = network_check.dropping_chains(CHAINS)
    assert found == ["ip filter FORWARD", "inet mine passing"]


def test_every_dropping_chain_gets_both_directions():
    text = network_check.remedy(CHAINS)
    assert text.count("nft insert rule") == 4 and "inet mine passing oifname" in text


def test_unknown_firewall_gets_a_rule_for_iptables():
    assert "iptables -I FORWARD -o workshop0" in network_check.remedy("")
