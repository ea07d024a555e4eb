"""A neighbour on the internet for a host in namespaces, and a route through it to everywhere."""

# A shell script for the host.
SET_UP = """
ip netns add internet
ip link add uplink0 type veth peer name eth0 netns internet
ip address add 203.0.113.1/24 dev uplink0
ip link set uplink0 up
ip -n internet address add 203.0.113.2/24 dev eth0
ip -n internet link set eth0 up
ip route add default via 203.0.113.2
"""
