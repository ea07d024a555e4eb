#!/bin/sh
# Sets up the lab VM, whichever way the VM is made: Vagrant runs this in the running VM,
# and image/customize.sh runs it in the image. It needs root, and the project in /workshop.
# A second run changes nothing. With the argument "roots" it makes only the root filesystems,
# for a lab without a VM.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
here=/workshop/vagrant
start=$(date +%s)

say() { printf '  provision %3ds  %s\n' $(($(date +%s) - start)) "$*"; }

packages() {
	# One list, so that apt runs once, and only if a package is missing.
	set -- \
		python3 python3-venv sudo openssh-server ca-certificates systemd-timesyncd \
		iproute2 iputils-ping nftables procps psmisc util-linux e2fsprogs acl \
		strace less nano vim-tiny tmux bash-completion rsync curl ncurses-bin \
		man-db manpages manpages-dev \
		busybox-static mmdebstrap crun runc bubblewrap stress-ng \
		podman netavark systemd-container skopeo docker-registry
	# shellcheck disable=SC2016 # dpkg-query's own variables
	dpkg-query -W -f '${db:Status-Status}\n' "$@" 2>&1 | grep -qv '^installed$' || return 0
	say 'Debian packages'
	echo 'man-db man-db/auto-update boolean false' | debconf-set-selections
	# Lessons and tests start a registry of their own. The package's would listen to everyone.
	ln -sf /dev/null /etc/systemd/system/docker-registry.service
	apt-get update -q
	apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold "$@"
}

files() {
	# Our own files are under files/ with the same paths as in the guest.
	say 'service files'
	cp -R "$here/files/." /
	systemd-tmpfiles --create workshop.conf
	install -d -m 700 /etc/workshop
	echo LANG=C.UTF-8 >/etc/default/locale
	cat >/etc/environment <<-'END'
		LANG=C.UTF-8
		PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache
	END
	# Do not accept the locale of the ssh client, because it is not installed here.
	sed -i 's/^AcceptEnv .*/AcceptEnv COLORTERM NO_COLOR/' /etc/ssh/sshd_config
	echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/vagrant
	chmod 440 /etc/sudoers.d/vagrant
}

# Notebooks and the guide import the project from where it is mounted. pip cannot install it
# (`pip install -e`), because an image is made without the project.
project_on_path() {
	site=$(/opt/workshop/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
	printf '%s\n' /workshop /workshop/steps >"$site/workshop.pth"
}

python_packages() {
	cmp -s "$here/requirements.txt" /opt/workshop/requirements.txt && return 0
	say 'Python packages'
	[ -x /opt/workshop/bin/python ] || /usr/bin/python3 -m venv /opt/workshop
	/opt/workshop/bin/pip install -q --no-compile --no-cache-dir --disable-pip-version-check \
		--require-hashes --only-binary :all: -r "$here/requirements.txt"
	# These check IRIs, which nothing here needs. Each import compiles a grammar, which is
	# half of JupyterLab's start: 20 s in an emulated VM.
	/opt/workshop/bin/pip uninstall -q -y --disable-pip-version-check rfc3987-syntax lark
	say 'Python bytecode'
	# Python looks for it in this directory, not beside the files: see /etc/environment.
	# Otherwise the first starts of JupyterLab and pytest compile a thousand modules.
	PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache /opt/workshop/bin/python \
		-m compileall -q -j 2 /opt/workshop/lib /usr/lib/python3.* >/dev/null || true
	project_on_path
	cp "$here/requirements.txt" /opt/workshop/requirements.txt
}

# The root filesystems are made as layers, layers/NAME, to which no one writes. Steps 03
# to 06 use copies of them, rootfs/NAME, and may change these.
layers=/var/lib/workshop/layers

busybox() {
	root=$layers/busybox
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
	root=$layers/debian
	[ -e $root ] && return 0
	say 'root filesystem: debian'
	rm -rf $root.new
	# The new system reaches the mirror as this machine does (proxy, certificates).
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

# The middle layer of the image app: only the interpreter, as a difference from debian.
python() {
	root=$layers/python
	[ -e $root ] && return 0
	say 'layer: python'
	rm -rf $root.new
	mkdir -p $root.new $root.new.debs/partial
	# Downloads only the packages that debian lacks, because apt reads debian's list of
	# installed packages. If the machine's own package lists are missing or too old, they
	# are downloaded again.
	set -- -o Dir::State::status=$layers/debian/var/lib/dpkg/status \
		-o Dir::Cache::archives=$root.new.debs -o Debug::NoLocking=1
	if ! grep -q '^VERSION_CODENAME=trixie$' /etc/os-release; then
		# Without a VM, on a machine other than Debian 13: use debian's sources instead of
		# the machine's.
		mkdir -p $root.new.debs/lists/partial
		set -- "$@" -o Dir::State::lists=$root.new.debs/lists -o Dir::Etc::sourceparts=- \
			-o Dir::Etc::sourcelist=$layers/debian/etc/apt/sources.list
		apt-get update -q "$@"
	fi
	download="apt-get install -q -y --download-only --no-install-recommends python3-minimal"
	$download "$@" || { apt-get update -q "$@" && $download "$@"; }
	for package in "$root".new.debs/*.deb; do
		dpkg-deb -x "$package" $root.new
	done
	rm -rf $root.new.debs $root.new/usr/share/doc $root.new/usr/share/man \
		$root.new/usr/share/lintian
	# debian's /bin and /lib are links to /usr/bin and /usr/lib. Directories of the same
	# names in this layer would hide the links, and with them all of debian.
	for name in bin lib lib64 sbin; do
		[ ! -e "$root.new/$name" ] || { say "layer python has /$name" && exit 1; }
	done
	# The packages' own scripts would compile the bytecode too. Without it, every new
	# container would compile it at its start. Only the layer's own version of Python can.
	if [ -x "$root.new/usr/bin/$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')" ]; then
		/usr/bin/python3 -m compileall -q -s $root.new -p / $root.new/usr/lib/python3*
	fi
	mv $root.new $root
}

# The top layer of the image app: one script.
app() {
	root=$layers/app
	[ -e $root ] && return 0
	say 'layer: app'
	rm -rf $root.new
	mkdir -p $root.new/usr/local/bin
	cat >$root.new/usr/local/bin/run.sh <<-'END'
		#!/bin/sh
		# What the image "app" is for. The interpreter is in the layer below this one, the
		# rest in the layer below that.
		exec python3 - "$@" <<'PYTHON'
		import os
		import sys

		with open("/etc/os-release") as file:
		    system = dict(line.rstrip().split("=", 1) for line in file)["PRETTY_NAME"]
		with open("/proc/self/mountinfo") as file:
		    root = next(line for line in file if line.split()[4] == "/")
		print(f"run.sh: process {os.getpid()} on {os.uname().nodename}")
		print(f"from layer app:    {os.path.realpath('/usr/local/bin/run.sh')}")
		print(f"from layer python: {os.path.realpath(sys.executable)} {sys.version.split()[0]}")
		print(f"from layer debian: {system.strip(chr(34))}")
		print(f"all of it seen as one: / is of type {root.partition(' - ')[2].split()[0]}")
		PYTHON
	END
	chmod 755 $root.new/usr/local/bin/run.sh
	mv $root.new $root
}

# For steps 03 to 06: directories that containers use directly, and change.
rootfs() {
	for name in busybox debian; do
		root=/var/lib/workshop/rootfs/$name
		[ -e $root ] && continue
		rm -rf $root.new
		cp -a $layers/$name $root.new
		mv $root.new $root
	done
}

# For step 07: an image is a file that lists a stack of layers, the top one first. The image
# app shares the layer debian with the image debian, so that layer is stored once.
images() {
	image busybox busybox
	image debian debian
	image app app python debian
}

# image NAME LAYER...: writes the list of layers of the image NAME.
image() {
	file=/var/lib/workshop/images/$1
	shift
	for layer; do echo "$layers/$layer"; done >"$file.new"
	mv "$file.new" "$file"
}

services() {
	# No unit may slow the start, or change the machine behind the learner's back.
	for unit in apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer \
		e2scrub_reap.service dpkg-db-backup.timer fstrim.timer systemd-networkd-wait-online.service \
		systemd-pcrphase.service systemd-tmpfiles-clean.timer; do
		ln -sf /dev/null "/etc/systemd/system/$unit"
	done
	systemctl -q enable workshop-setup.service jupyter.service ssh.service
	# In a VM that is running already, such as Vagrant's, they start now.
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		systemctl restart workshop-setup.service
		systemctl start jupyter.service
		systemctl reload ssh.service
	fi
}

root_filesystems() {
	install -d -m 700 /var/lib/workshop
	install -d $layers /var/lib/workshop/rootfs /var/lib/workshop/images
	busybox
	debian
	python
	app
	rootfs
	images
}

if [ "${1-}" = roots ]; then
	root_filesystems
	exit
fi
packages
files
python_packages
root_filesystems
services
say 'done'
