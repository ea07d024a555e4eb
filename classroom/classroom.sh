# shellcheck shell=sh
# A class on one server: `lab` reads this for `./lab classroom` and for a student's VM.
# The hub itself is jupyterhub_config.py; docs/classroom.md tells of it all.

seats=$state/classroom
hub_port() { cat "$seats/port"; }
hub_pid() {
	pid=$(cat "$seats/hub.pid" 2>/dev/null) && grep -qz jupyterhub "/proc/$pid/cmdline" 2>/dev/null
}

# classroom add [--teacher] NAME… | up [--port PORT] | status | collect FOLDER | down
classroom() {
	LAB=qemu choose_way # a machine for each, and gone with it: that is QEMU's
	mkdir -p "$state/log"
	chmod 700 "$state"
	mkdir -p "$seats"
	word=${1-status}
	[ $# = 0 ] || shift
	case $word in
	add)
		need_python
		exec python3 "$here/classroom/roster.py" "$seats/class" "$@"
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
	[ -s "$seats/class" ] || die 'there is nobody in the class' './lab classroom add NAME… gives each a password.'
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
	if ! cmp -s "$here/classroom/package-lock.json" "$seats/package-lock.json"; then
		stage "the hub's proxy, from npm" '3 to 10 s' "$state/log/npm.log" proxy_packages
	fi
	echo "$port" >"$seats/port"
	(
		umask 077
		cd "$seats"
		# With SIGINT, which a shell has its background ignore: the hub ends its own with it.
		CLASSROOM_STATE=$seats CLASSROOM_PORT=$port PYTHONDONTWRITEBYTECODE=1 \
			setsid env --default-signal=INT "$state/jupyter/bin/python" -m jupyterhub -f "$here/classroom/jupyterhub_config.py" \
			>"$seats/hub.log" 2>&1 </dev/null 9>&- &
		echo $! >"$seats/hub.pid"
	)
	say 'starting the hub (usually 3 to 10 s)'
	tries=0
	until curl -sf -o /dev/null "http://127.0.0.1:$port/hub/health"; do
		hub_pid || die 'the hub does not start' "Its last words: $(grep -v '^ ' "$seats/hub.log" | tail -n 1)" "The whole log: $seats/hub.log"
		[ $tries -lt 300 ] || die 'the hub runs, but does not answer' "Its log: $seats/hub.log"
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
	rm -rf "$seats/node_modules" "$seats/package-lock.json"
	cp "$here/classroom/package.json" "$seats/"
	cp "$here/classroom/package-lock.json" "$seats/package-lock.json.new"
	mv "$seats/package-lock.json.new" "$seats/package-lock.json"
	(cd "$seats" && npm ci --no-audit --no-fund) || { rm -f "$seats/package-lock.json" && return 1; }
}

# The members of the class whose VMs run: NAME PID-OF-QEMU
occupied() {
	while read -r name _; do
		vm=$seats/$name/vm
		if alive; then echo "$name $pid"; fi
	done <"$seats/class"
}

classroom_status() {
	if [ -s "$seats/class" ]; then say "$(wc -l <"$seats/class") in the class"; fi
	hub_pid || { echo 'closed (./lab classroom up opens it)' && return 3; }
	echo "open at http://localhost:$(hub_port), for $(ps -o etime= -p "$pid" | tr -d ' ')"
	occupied | while read -r name pid; do
		echo "$name: $(awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$pid/status") MB"
	done
}

# FOLDER/NAME: each student's runtime and report, as `lab grade` and `workshop class` want them.
classroom_collect() {
	[ $# = 1 ] || die 'where to?' './lab classroom collect FOLDER'
	[ -s "$seats/class" ] || die 'there is nobody in the class'
	while read -r name _; do
		for what in container.py report; do
			[ -e "$seats/$name/project/my/$what" ] || continue
			mkdir -p "$1/$name"
			cp -R --no-dereference "$seats/$name/project/my/$what" "$1/$name/"
			say "$1/$name/$what"
		done
	done <"$seats/class"
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
	rm -f "$seats/hub.pid"
	say "closed; the students' folders are kept: $seats/NAME/project/my"
}

# seat NAME PORT: a student's VM, as the hub starts it, with its notebook server on this port
# of loopback. Its disk is a new thin one above the image, each time; the folder that it shares
# with this machine is the student's own copy of the project, and stays. From inside, only the
# hub can be reached. JUPYTERHUB_… in the environment is what the server needs to know.
seat() {
	LAB=qemu choose_way
	choose_accel
	memory=${LAB_MEMORY:-1024}
	enough_memory
	enough_disk 500
	vm=$seats/$1/vm share=$seats/$1/project web_port=$2
	! alive || die 'it runs already'
	rm -rf "$vm"
	throwaway=$vm
	guard='nice -n 5 setpriv --pdeathsig KILL'
	secrets
	umask 022 # for the VM's ordinary user; here, no other gets as far as this folder
	# What the student has written stays; what is ours is ours, and new.
	mkdir -p "$share/my" "$share/notebooks"
	(cd "$share" && rm -rf lab pyproject.toml steps tests vagrant workshop)
	tar -C "$here" -cf - lab pyproject.toml steps tests vagrant workshop | tar -C "$share" -xpf -
	tar -C "$here" -cf - notebooks | tar -C "$share" --skip-old-files -xpf -
	qemu-img create -q -f qcow2 -F raw -b "$image/disk.raw" "$vm/disk.qcow2"
	echo "$((20000 + $$ % 10000)) $web_port" >"$vm/ports"
	# No JupyterLab of its own, with a token: the hub's server takes its place.
	append=systemd.mask=jupyter.service
	start disk.qcow2,if=virtio,format=qcow2 security_model=mapped-xattr ,restrict=on
	[ "$web_port" = "$2" ] || die "port $2 is taken"
	wait_ssh
	hub=${JUPYTERHUB_API_URL#http://} hub=${hub%%/*}
	remote -O forward -R "$hub:$hub" workshop
	say 'the notebook server starts'
	# shellcheck disable=SC2016 # the VM's own variables
	env | grep '^JUPYTERHUB_' | in_vm 'exec sudo sh -c "
		export HOME=/root PYTHONPYCACHEPREFIX=/var/cache/workshop/pycache
		while IFS= read -r line; do export \"\$line\"; done
		exec /opt/workshop/bin/python -m jupyterhub.singleuser --allow-root"' &
	job=$!
	wait $job || die "the notebook server ended, status $?"
}
