#!/bin/sh
# local.sh FOLDER: what LAB=local needs, on this very machine instead of in a VM: the guide's
# Python packages in FOLDER, and the containers' root filesystems where the steps look for
# them, in /var/lib/workshop. `lab` calls it, as root. Again: only what is missing is done.
# No service, user, or setting of the machine is changed; Debian packages are installed.
set -eu
folder=$1
project=$(cd "$(dirname "$0")/.." && pwd -P)
start=$(date +%s)

say() { printf '  local %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

packages() {
	set -- python3 python3-venv iproute2 iputils-ping nftables procps psmisc util-linux acl \
		busybox-static mmdebstrap debian-archive-keyring crun runc bubblewrap stress-ng strace
	# shellcheck disable=SC2016 # dpkg-query's own variables
	dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>&1 | grep -qv '^installed$' || return 0
	say 'Debian packages'
	command -v apt-get >/dev/null || { echo "install what Debian calls: $*" && exit 1; }
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
		-o DPkg::Lock::Timeout=300 "$@"
}

python_packages() {
	cmp -s "$project/vagrant/requirements.txt" "$folder/requirements.txt" && return 0
	say 'Python packages'
	python=$folder/venv/bin/python
	[ -x "$python" ] || /usr/bin/python3 -m venv "$folder/venv"
	"$python" -m pip install -q --disable-pip-version-check \
		--require-hashes --only-binary :all: -r "$project/vagrant/requirements.txt"
	cp "$project/vagrant/requirements.txt" "$folder/requirements.txt"
}

# The guide, as it is called in the VM.
guide() {
	mkdir -p "$folder/bin"
	cat >"$folder/bin/workshop" <<-END
		#!/bin/sh
		export PYTHONPATH='$project' PYTHONPYCACHEPREFIX='$folder/pycache'
		exec '$folder/venv/bin/python' -P -m workshop "\$@"
	END
	chmod 755 "$folder/bin/workshop"
}

mkdir -p "$folder"
packages
python_packages
guide
sh "$project/vagrant/provision.sh" roots
say 'done'
