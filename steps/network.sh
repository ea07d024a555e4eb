#!/bin/sh
# The host's side of step 04. A container engine's daemon does the same when it starts: a bridge
# that the containers' cables end at, forwarding, NAT, and a list of name servers.
#
#   network.sh on [POOL]   set it up, or repair it. POOL is the network that containers get
#                          their addresses from. docs/providers.md says when you need one
#                          other than 100.64.0.0/10. network.sh remembers it.
#   network.sh off         take it away, so that the host is as it was before
#   network.sh status      say whether it is on, and what keeps it from working
#
# Exit status: 0 done, or it is on; 1 refused or failed; 2 wrong usage; 3 status: it is off.
# Each line on stderr says what is in the way and what to type. If the exit status is 0, that is
# a warning: containers reach each other and the host, but perhaps not the internet.
#
# ip-link(8), nft(8), resolv.conf(5), and the kernel's networking/ip-sysctl for ip_forward.
set -eu
umask 022 # so that containers can read our files, whatever the caller's umask is
export PATH="${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin" # su and cron leave sbin out

state=/run/workshop # the pool, the containers' resolv.conf, and what "off" must put back
bridge=workshop0
usual=100.64.0.0/10
chosen=${2:-}
pool=${chosen:-$(cat "$state/pool" 2>/dev/null || echo "$usual")}
gateway=${pool%.0/10}.1 # containers have the pool's address plus their pid, which is never 1
ip_forward=/proc/sys/net/ipv4/ip_forward
# Where the name servers are, and, if those are only on the loopback, the ones behind them.
resolv_confs="/etc/resolv.conf /run/systemd/resolve/resolv.conf"
resolv_confs="$resolv_confs /run/NetworkManager/no-stub-resolv.conf"

# Runs network_check.py, which is beside this file.
check() {
	"$(dirname "$(readlink -f "$0")")/network_check.py" "$@"
}

say() {
	echo "network.sh: $*" >&2
}

die() {
	say "$*"
	exit 1
}

# Runs a command. If it fails, dies with the first line that it printed.
try() {
	said=$("$@" 2>&1) || die "$1: $(echo "$said" | head -n 1)"
}

# Counts the NAT rules of other programs: our own must not be there yet, or no longer.
nat_rules() {
	nft list ruleset 2>/dev/null | grep -ci 'masquerade\|snat' || true
}

# Says whether an address of this host, a route or a name server may be in the pool: whether
# one begins with the same number. Only then is Python worth the time that it takes to start.
may_be_used() {
	{
		ip -o -4 address
		ip -4 route show table all
		# shellcheck disable=SC2086 # several words
		cat $resolv_confs 2>/dev/null || true
	} | grep -v "[[:blank:]]$bridge\([[:blank:]]\|$\)" | grep -aq "\(^\|[^0-9.]\)${pool%%.*}\.[0-9]"
}

has_server() {
	grep -aq '^nameserver[[:blank:]]' "$1" 2>/dev/null
}

on() {
	if [ ! -e "$state/ip_forward" ]; then
		[ ! -e "/sys/class/net/$bridge" ] ||
			die "there is a $bridge that is not ours; if nobody needs it, type:" \
				"sudo ip link delete $bridge"
		trap off EXIT # an "on" that fails leaves nothing behind
		trap 'exit 1' HUP INT TERM
	elif [ "$pool" != "$(cat "$state/pool")" ]; then
		die "it is on with $(cat "$state/pool"); type: sudo $0 off"
	fi
	if [ -n "$chosen" ] || may_be_used; then check pool "$pool" || exit; fi
	mkdir -p "$state"
	chmod 755 "$state"
	echo "$pool" >"$state/pool"
	# Only the first "on" knows how the host was. Writing to ip_forward also changes the other
	# settings here. The file gets its final name when it is complete.
	if [ ! -e "$state/ip_forward" ]; then
		nat_rules >"$state/nat"
		(cd /proc/sys/net/ipv4 && grep '' ip_forward conf/*/forwarding conf/all/accept_redirects) \
			>"$state/ip_forward.new"
		mv "$state/ip_forward.new" "$state/ip_forward"
	fi

	# The bridge: a switch made of software. Its address is the host's own in this network.
	try ip -batch - <<-EOF
		$([ -e "/sys/class/net/$bridge" ] || echo "link add $bridge type bridge")
		address replace $gateway/10 dev $bridge
		link set $bridge up
	EOF

	# Forwarding: the host passes on packets that are not addressed to it.
	[ "$(cat "$ip_forward")" = 1 ] || echo 1 >"$ip_forward"

	# NAT: a packet that leaves through another card gets that card's address as its sender.
	# The table is our own, so we touch none of the host's rules, and "off" is one line.
	try nft -f - <<-EOF
		table ip workshop
		delete table ip workshop
		table ip workshop {
			chain postrouting {
				type nat hook postrouting priority srcnat
				ip saddr $pool oifname != "$bridge" masquerade
			}
		}
	EOF

	# DNS: the host's name servers, but not those on its loopback or with IPv6 addresses, which
	# a container cannot reach. If only those are left, look for the servers behind them.
	unreachable='\(127\.\|0\.\|[^[:blank:]]*:\)'
	for servers in $resolv_confs; do
		[ -e "$servers" ] || continue
		grep -av "^nameserver[[:blank:]]\+$unreachable" "$servers" >"$state/new" || true
		if has_server "$state/new" || ! has_server "$state/dns"; then
			cat "$state/new" >"$state/dns" # the same file: it is mounted in containers
		fi
		if has_server "$state/new"; then break; fi
	done
	rm -f "$state/new"
	[ -e "$state/dns" ] || : >"$state/dns"
	chmod 644 "$state"/*
	trap - EXIT
	warn
}

# Says what still keeps containers from the internet.
warn() {
	has_server "$state/dns" || say "this host has no name server that containers can reach;" \
		"type: echo nameserver 9.9.9.9 | sudo tee -a $state/dns"
	# Without a firewall, and unless IPv6 is the only way out, there is nothing to check, which
	# saves half a second. iptables-legacy(8) has tables of its own, which nft does not list.
	if nft list chains | grep -q 'type filter hook' || [ -s /proc/net/ip_tables_names ] ||
		{ ip -6 route show default | grep -q . && ! ip -4 route get 198.51.100.1; } >/dev/null 2>&1; then
		check internet "$pool"
	fi
}

off() {
	if nft list table ip workshop >/dev/null 2>&1; then nft delete table ip workshop; fi
	[ -e "$state/ip_forward" ] || return 0 # not ours: leave bridge and forwarding alone
	if [ -e "/sys/class/net/$bridge" ]; then ip link delete "$bridge"; fi
	# Forwarding stays as it is if somebody else has switched it off, or needs it by now.
	if grep -q '^ip_forward:0' "$state/ip_forward" && [ "$(cat "$ip_forward")" != 0 ]; then
		if [ "$(nat_rules)" -gt "$(cat "$state/nat")" ]; then
			say "left ip_forward on, because another program's NAT may need it;" \
				"otherwise type: sudo sysctl net.ipv4.ip_forward=0"
		else
			while IFS=: read -r file value; do
				[ ! -e "/proc/sys/net/ipv4/$file" ] || echo "$value" >"/proc/sys/net/ipv4/$file"
			done <"$state/ip_forward"
		fi
	fi
	rm -f "$state/ip_forward" "$state/nat" "$state/dns" "$state/new"
	[ "$pool" != "$usual" ] || rm -f "$state/pool" # keep another one for the next "on"
	rmdir "$state" 2>/dev/null || true
}

status() {
	if [ ! -e "$state/ip_forward" ]; then
		echo "off"
		exit 3
	fi
	missing=
	ip -4 address show dev "$bridge" up 2>/dev/null | grep -q " $gateway/10 " ||
		missing="the bridge $bridge"
	nft list table ip workshop 2>/dev/null | grep -q masquerade || missing="NAT"
	[ "$(cat "$ip_forward")" = 1 ] || missing="forwarding"
	[ -e "$state/dns" ] || missing="$state/dns"
	[ -z "$missing" ] || die "it is on, but $missing is gone; type: sudo $0 on"
	if may_be_used; then check pool "$pool" || exit; fi
	echo "on: containers get their addresses from $pool"
	warn
}

usage() {
	say "usage: network.sh on [POOL]|off|status"
	exit 2
}

case $#,${1:-} in
1,on | 2,on | 1,off | 1,status) ;;
*) usage ;;
esac
[ "$(id -u)" = 0 ] || die "this needs root: type sudo $0 $*"
for tool in ip nft python3; do
	command -v $tool >/dev/null ||
		die "$tool is missing; type: sudo apt-get install iproute2 nftables python3"
done
exec 9<"$0" && flock 9 # one at a time
"$1"
