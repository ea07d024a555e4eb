#!/bin/sh
# The host's side of step 04, done once, as a container engine's daemon does it when it
# starts: a bridge that the containers' cables end at, forwarding, and NAT.
#
#   network.sh on       set it up; again: nothing changes
#   network.sh off      take it away; everything of the host's is as it was before
#   network.sh status   exit status 0: it is on
#
# ip-link(8), nft(8), and the kernel's networking/ip-sysctl for ip_forward.
set -eu

bridge=workshop0
gateway=100.64.0.1/10 # containers have 100.64.0.0 plus their pid; pid 1 is never theirs
state=/run/workshop   # what "off" has to put back, and the containers' resolv.conf

die() {
	echo "network.sh: $*" >&2
	exit 1
}

is_on() {
	[ -e "$state/ip_forward" ] && [ -d "/sys/class/net/$bridge/bridge" ] &&
		nft list table ip workshop >/dev/null 2>&1
}

on() {
	if [ -e "/sys/class/net/$bridge" ] && [ ! -e "$state/ip_forward" ]; then
		die "there is a $bridge already that is not ours: ip link show $bridge"
	fi
	mkdir -p "$state"
	# Only the first "on" knows how the host was; kept under its final name only when whole.
	if [ ! -e "$state/ip_forward" ]; then
		cat /proc/sys/net/ipv4/ip_forward >"$state/ip_forward.new"
		mv "$state/ip_forward.new" "$state/ip_forward"
	fi

	# The bridge: a switch made of software, and the host's own socket in it.
	[ -e "/sys/class/net/$bridge" ] || ip link add "$bridge" type bridge
	ip address replace "$gateway" dev "$bridge"
	ip link set "$bridge" up

	# The host passes packets on that are not for itself.
	echo 1 >/proc/sys/net/ipv4/ip_forward

	# NAT: what leaves through another card leaves with that card's address. A table of our
	# own, so that no rule of the host's is touched, and "off" is one line.
	nft -f - <<-EOF
		table ip workshop
		delete table ip workshop
		table ip workshop {
			chain postrouting {
				type nat hook postrouting priority srcnat
				ip saddr 100.64.0.0/10 oifname != "$bridge" masquerade
			}
		}
	EOF

	# DNS: the host's servers, but for those on its loopback, which a container cannot reach.
	servers=/etc/resolv.conf
	if [ -e /run/systemd/resolve/resolv.conf ]; then
		servers=/run/systemd/resolve/resolv.conf
	fi
	grep -av '^nameserver[[:blank:]]\{1,\}\(127\.\|::1\)' "$servers" >"$state/dns" || true
}

off() {
	if nft list table ip workshop >/dev/null 2>&1; then nft delete table ip workshop; fi
	[ -e "$state/ip_forward" ] || return 0 # not ours: leave bridge and forwarding alone
	if [ -e "/sys/class/net/$bridge" ]; then ip link delete "$bridge"; fi
	cat "$state/ip_forward" >/proc/sys/net/ipv4/ip_forward
	rm -f "$state/ip_forward" "$state/dns"
	rmdir "$state" 2>/dev/null || true
}

[ "$(id -u)" = 0 ] || die "this needs root: type sudo $0 ${1:-on}"
for tool in ip nft; do
	command -v $tool >/dev/null || die "$tool is missing: apt-get install iproute2 nftables"
done
case ${1:-} in
on) on ;;
off) off ;;
status) is_on ;;
*) die "usage: network.sh on|off|status" ;;
esac
