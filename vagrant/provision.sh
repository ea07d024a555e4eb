#!/bin/sh
# What is in the lab VM, whichever way it is made: Vagrant runs this in the
# running VM, image.sh in the image. As root, with the project in /workshop.
# Running it again changes nothing.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
here=/workshop/vagrant
start=$(date +%s)

say() { printf '  provision %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

packages() {
	# One list, so that apt runs once; only what is missing makes it run at all.
	set -- \
		python3 python3-venv sudo openssh-server ca-certificates systemd-timesyncd \
		iproute2 iputils-ping nftables procps psmisc util-linux e2fsprogs acl \
		strace less nano vim-tiny tmux bash-completion rsync curl ncurses-bin \
		man-db manpages manpages-dev \
		busybox-static mmdebstrap crun runc bubblewrap stress-ng
	# shellcheck disable=SC2016 # dpkg-query's own variables
	dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>&1 | grep -qv '^installed$' || return 0
	say 'Debian packages'
	echo 'man-db man-db/auto-update boolean false' | debconf-set-selections
	apt-get update -q
	apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold "$@"
}

files() {
	# Our own files, laid out as they stand in the guest.
	say 'service files'
	cp -R "$here/files/." /
	systemd-tmpfiles --create workshop.conf
	install -d -m 700 /etc/workshop
	echo LANG=C.UTF-8 >/etc/default/locale
	cat >/etc/environment <<-'END'
		LANG=C.UTF-8
		PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache
	END
	# The visitor's locale is not installed here: do not take it over.
	sed -i 's/^AcceptEnv .*/AcceptEnv COLORTERM NO_COLOR/' /etc/ssh/sshd_config
	echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant
	chmod 440 /etc/sudoers.d/vagrant
}

python_packages() {
	cmp -s "$here/requirements.txt" /opt/workshop/requirements.txt && return 0
	say 'Python packages'
	[ -x /opt/workshop/bin/python ] || /usr/bin/python3 -m venv /opt/workshop
	/opt/workshop/bin/pip install -q --no-compile --no-cache-dir --disable-pip-version-check \
		--require-hashes --only-binary :all: -r "$here/requirements.txt"
	say 'Python bytecode'
	/opt/workshop/bin/python -m compileall -q -j 2 /opt/workshop/lib >/dev/null || true
	cp "$here/requirements.txt" /opt/workshop/requirements.txt
}

busybox() {
	root=/var/lib/workshop/rootfs/busybox
	[ -e $root ] && return 0
	say 'root filesystem: busybox'
	rm -rf $root.new
	mkdir -p $root.new
	(
		cd $root.new
		mkdir -p bin dev etc home proc root sys tmp usr var
		chmod 1777 tmp
		chmod 700 root
		cp /bin/busybox bin/
		for name in $(bin/busybox --list); do
			[ "$name" = busybox ] || ln -s busybox "bin/$name"
		done
		ln -s bin sbin
		ln -s ../bin usr/bin
		ln -s ../bin usr/sbin
		echo 'root:x:0:0:root:/root:/bin/sh' >etc/passwd
		echo 'root:x:0:' >etc/group
		echo 'nobody:x:65534:65534:nobody:/:/bin/false' >>etc/passwd
		echo 'nogroup:x:65534:' >>etc/group
		echo '127.0.0.1 localhost' >etc/hosts
		: >etc/resolv.conf
	)
	mv $root.new $root
}

debian() {
	root=/var/lib/workshop/rootfs/debian
	[ -e $root ] && return 0
	say 'root filesystem: debian'
	rm -rf $root.new
	# How apt reaches the mirror here (proxy, certificates) holds for it as well.
	apt-config dump | grep -E '^Acquire::(Check-|.*(::Proxy|::Ca)).* ".+";$' >/tmp/apt-options || true
	mmdebstrap --quiet --mode=root --variant=minbase \
		--include=iproute2,iputils-ping,procps \
		--aptopt=/tmp/apt-options \
		--dpkgopt="path-exclude=/usr/share/doc/*" \
		--dpkgopt="path-exclude=/usr/share/info/*" \
		--dpkgopt="path-exclude=/usr/share/locale/*" \
		--dpkgopt="path-exclude=/usr/share/man/*" \
		trixie $root.new ${LAB_MIRROR:+"$LAB_MIRROR"}
	rm -f /tmp/apt-options "$root.new/etc/apt/apt.conf.d/99mmdebstrap" \
		$root.new/etc/resolv.conf $root.new/etc/machine-id $root.new/var/lib/dbus/machine-id
	: >$root.new/etc/resolv.conf
	echo debian >$root.new/etc/hostname
	echo '127.0.0.1 localhost' >$root.new/etc/hosts
	rm -rf $root.new/var/cache/apt/* $root.new/var/lib/apt/lists/* $root.new/var/log/*
	mv $root.new $root
}

images() {
	# For the last step an image is a stack of layers, named in a file, the top
	# one first. These two have a single layer.
	mkdir -p /var/lib/workshop/images
	for name in busybox debian; do
		echo /var/lib/workshop/rootfs/$name >/var/lib/workshop/images/$name
	done
}

services() {
	# Nothing may slow the start or change the machine behind the learner's back.
	for unit in apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer \
		e2scrub_reap.service dpkg-db-backup.timer fstrim.timer systemd-networkd-wait-online.service \
		systemd-pcrphase.service; do
		ln -sf /dev/null "/etc/systemd/system/$unit"
	done
	systemctl -q enable workshop-setup.service jupyter.service ssh.service
	# In a VM that runs already (Vagrant's) they start now.
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl restart workshop-setup.service
		systemctl start jupyter.service
		systemctl reload ssh.service
	fi
}

packages
files
python_packages
busybox
debian
images
services
say 'done'
