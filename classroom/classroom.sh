# shellcheck shell=sh disable=SC2034,SC2154 # shares its variables with lab
# A class on one server: `lab` reads this for `./lab classroom` and for a student's VM.
# The hub itself is jupyterhub_config.py; docs/classroom.md tells of it all.

hub=$state/classroom
students=$hub/students # a folder for each: their copy of the project, their VM, its log
hub_port() { cat "$hub/port"; }
hub_pid() { # its command line has this word from the start, while it is still a shell of ours
	pid=$(cat "$hub/pid" 2>/dev/null) && grep -qz classroom "/proc/$pid/cmdline" 2>/dev/null
}

# classroom add [--teacher] NAME… | up [--port PORT] | status | collect FOLDER | down
classroom() {
	LAB=qemu choose_way # a machine for each, and gone with it: that is QEMU's
	mkdir -p "$state/log"
	chmod 700 "$state"
	mkdir -p "$students"
	word=${1-status}
	[ $# = 0 ] || shift
	case $word in
	add)
		need_python
		exec python3 "$here/classroom/roster.py" "$hub/class" "$@"
		;;
	up) classroom_up "$@" ;;
	status) classroom_status ;;
	collect) classroom_collect "$@" ;;
	down) classroom_down ;;
	*) die 'what?' './lab classroom add NAME…, up, status, collect FOLDER, or down' ;;
	esac
}

classroom_up() {
	case $#,${1-} in
	0,) port=8000 ;;
	2,--port) port=$2 ;;
	*) die 'what?' './lab classroom up [--port PORT]' ;;
	esac
	case $port in '' | *[!0-9]*) die "$port is no port" ;; esac
	[ -s "$hub/class" ] || [ -e "$hub/config.py" ] ||
		die 'there is nobody in the class' './lab classroom add NAME… gives each a password.'
	lock
	if hub_pid; then
		say "the classroom is open: http://localhost:$(hub_port)"
		return
	fi
	prepare
	install_tools classroom
	if ! cmp -s "$here/vagrant/requirements.txt" "$state/jupyter/requirements.txt"; then
		stage 'Python packages of the hub' '20 to 60 s' "$state/log/hub-packages.log" python_environment "$state/jupyter"
	fi
	if ! cmp -s "$here/classroom/package-lock.json" "$hub/node_modules/.this"; then
		stage "the hub's proxy, from npm" '3 to 10 s' "$state/log/npm.log" proxy_packages
	fi
	# After a power cut: what had these numbers then is somebody else now.
	rm -f "$hub/proxy.pid"
	for vm in "$students"/*/vm; do
		alive || rm -rf "$vm"
	done
	echo "$port" >"$hub/port"
	(
		umask 077
		cd "$hub" || exit
		# With SIGINT, which a shell has its background ignore: the hub ends its own with it.
		CLASSROOM_STATE=$hub CLASSROOM_PORT=$port LAB_DIR=$state PYTHONDONTWRITEBYTECODE=1 \
			setsid env --default-signal=INT "$state/jupyter/bin/python" -m jupyterhub \
			-f "$here/classroom/jupyterhub_config.py" >"$hub/log" 2>&1 </dev/null 9>&- &
		echo $! >"$hub/pid"
	)
	say 'starting the hub (usually 3 to 10 s)'
	tries=0
	until curl -sf -o /dev/null "http://127.0.0.1:$port/hub/health"; do
		hub_pid || die 'the hub does not start' "Its last words: $(grep -v '^ ' "$hub/log" | tail -n 1)" "The whole log: $hub/log"
		[ $tries -lt 300 ] || die 'the hub runs, but does not answer' "Its log: $hub/log"
		sleep 0.2
		tries=$((tries + 1))
	done
	say "the classroom is open: http://localhost:$port"
	say './lab classroom status shows who is in; ./lab classroom down closes it'
}

python_environment() {
	python3 -m venv --clear "$1" &&
		"$1/bin/pip" install -q --disable-pip-version-check --require-hashes --only-binary :all: \
			-r "$here/vagrant/requirements.txt" &&
		cp "$here/vagrant/requirements.txt" "$1/"
}
proxy_packages() {
	rm -rf "$hub/node_modules"
	cp "$here/classroom/package.json" "$here/classroom/package-lock.json" "$hub/"
	(cd "$hub" && npm ci --no-audit --no-fund) &&
		cp "$here/classroom/package-lock.json" "$hub/node_modules/.this"
}

# The students whose VMs run: NAME PID-OF-QEMU
occupied() {
	for vm in "$students"/*/vm; do
		name=${vm%/vm} name=${name##*/}
		if alive; then echo "$name $pid"; fi
	done
}

classroom_status() {
	if [ -s "$hub/class" ]; then say "$(wc -l <"$hub/class") in the class"; fi
	hub_pid || { echo 'closed (./lab classroom up opens it)' && return 3; }
	echo "open at http://localhost:$(hub_port), for $(ps -o etime= -p "$pid" | tr -d ' ')"
	occupied | while read -r name machine; do
		echo "$name: $(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$machine/status") MB"
	done
}

# FOLDER/NAME: each student's runtime and report, as `lab grade` and `workshop class` want them;
# those two files only, and no more of each than they can have.
classroom_collect() {
	[ $# = 1 ] || die 'where to?' './lab classroom collect FOLDER'
	for name in "$students"/*; do
		for file in container.py report/report.json; do
			from=$name/project/my/$file to=$1/${name##*/}/${file##*/}
			if [ ! -f "$from" ] || [ -L "$from" ]; then continue; fi
			mkdir -p "${to%/*}"
			head -c 1000000 "$from" >"$to"
			say "$to"
		done
	done
}

classroom_down() {
	lock
	hub_pid || { say 'the classroom is closed' && return 0; }
	say 'closing: the hub stops the VMs'
	kill "$pid"
	tries=0
	while hub_pid && [ $tries -lt 300 ]; do sleep 0.2 && tries=$((tries + 1)); done
	! hub_pid || kill -KILL "$pid" # what it had started ends with it
	tries=0
	while [ -n "$(occupied)" ] && [ $tries -lt 100 ]; do sleep 0.2 && tries=$((tries + 1)); done
	[ -z "$(occupied)" ] || die "these VMs do not end: $(occupied | tr '\n' ' ')"
	rm -f "$hub/pid"
	say "closed; the students' folders are kept, in $students"
}

# seat NAME PORT: a student's VM, as the hub starts it, with its notebook server on this port
# of loopback. Its disk is a new thin one above the image, each time; the folder that it shares
# with this machine is the student's own copy of the project, and stays. From inside, only the
# hub can be reached. JUPYTERHUB_… in the environment is what the server needs to know.
seat() {
	LAB=qemu choose_way
	memory=${LAB_MEMORY:-1024} cpus=${LAB_CPUS:-1}
	choose_accel
	enough_memory
	enough_disk 500
	vm=$students/$1/vm share=$students/$1/project web_port=$2
	! alive || die 'it runs already'
	rm -rf "$vm"
	throwaway=$vm
	guard='nice -n 5 setpriv --pdeathsig KILL'
	secrets
	umask 022 # for the VM's ordinary user; here, no other gets as far as this folder
	# What the student has written stays; what is ours is ours, and new.
	mkdir -p "$share/my" "$share/notebooks"
	# shellcheck disable=SC2086 # several names
	(cd "$share" && rm -rf $ours && tar -C "$here" -cf - $ours | tar -xpf -)
	tar -C "$here" -cf - notebooks | tar -C "$share" --skip-old-files -xpf -
	qemu-img create -q -f qcow2 -F raw -b "$image/disk.raw" "$vm/disk.qcow2"
	echo "$((20000 + $$ % 10000)) $web_port" >"$vm/ports"
	# No JupyterLab of its own, with a token: the hub's server takes its place. And nothing that
	# is said inside is written down here without an end: not the console, not the server's log.
	append=systemd.mask=jupyter.service serial=null
	start disk.qcow2,if=virtio,format=qcow2 security_model=mapped-xattr ,restrict=on
	[ "$web_port" = "$2" ] || die "port $2 is taken"
	wait_ssh
	api=${JUPYTERHUB_API_URL#http://} api=${api%%/*}
	remote -O forward -R "$api:$api" workshop
	say 'the notebook server starts'
	# shellcheck disable=SC2016 # the VM's own variables
	env | grep '^JUPYTERHUB_' | in_vm 'exec sudo sh -c "
		export HOME=/root PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache
		while IFS= read -r line; do export \"\$line\"; done
		exec /opt/workshop/bin/python -P -m jupyterhub.singleuser --allow-root >/var/log/notebook-server 2>&1"' >/dev/null &
	job=$!
	wait $job || die "the notebook server ended, status $?"
}
