#!/bin/bash
# What podman does with a runtime, each in a function that fails if the result is wrong.
#
#   RUNTIME=PROGRAM WORK=DIRECTORY tests/oci/podman.sh [WORD]
#
# tests/oci/judge.py calls it. It prints "ok NAME" or "not ok NAME" for each function with WORD in
# its name. The image is busybox from this machine, so nothing is fetched. On a machine without the
# controllers of cgroup v2, containers have no cgroup, and what needs one is skipped.
# shellcheck disable=SC2016 # the shell inside is to expand it
set -uo pipefail
export CONTAINERS_CONF=$WORK/containers.conf
unset CONTAINER_HOST
limited=
grep -q memory /sys/fs/cgroup/cgroup.controllers && limited=yes
cat >"$CONTAINERS_CONF" <<EOF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime_supports_nocgroup = ["$RUNTIME", "$(basename "$RUNTIME")", "crun"]
runtime_supports_json = ["$RUNTIME", "$(basename "$RUNTIME")"]
events_logger = "file"
$([ -d /run/systemd/system ] || echo 'cgroup_manager = "cgroupfs"')
EOF
own=(--root "$WORK/storage" --runroot "$WORK/run" --storage-driver vfs --runtime "$RUNTIME")

usual=(--network none)
[ "$limited" ] || usual+=(--cgroups=disabled)

podman() { command podman "${own[@]}" "$@"; }
run() { podman run "${usual[@]}" "$@"; }
# is WANTED GOT
is() { [ "$1" = "$2" ] || { printf 'wanted: %s\ngot: %s\n' "$1" "$2" && false; }; }
# status WANTED COMMAND...
status() {
	local wanted=$1 got=0
	shift
	"$@" || got=$?
	is "$wanted" "$got"
}
# typed ARGUMENTS...: runs podman at a terminal, with the lines of stdin as keys
typed() { script -qec "$(printf '%q ' podman "${own[@]}" "$@")" /dev/null | tr -d '\r' | sed 's/^\(\^[@D]\x08*\)*//'; }
logged() {
	for _ in {1..100}; do
		if podman logs "$2" | grep -q "$1"; then return; fi
		sleep 0.1
	done
	echo "not in the log: $1" && false
}

image() {
	mkdir -p "$WORK/image"/{bin,etc,tmp,home}
	chmod 1777 "$WORK/image/tmp"
	cp "$(type -P busybox)" "$WORK/image/bin"
	for name in sh id cat echo ls sleep true false hostname ps kill tty stty touch mkdir mount head grep readlink wc; do
		ln -sf busybox "$WORK/image/bin/$name"
	done
	printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n' >"$WORK/image/etc/passwd"
	printf 'root:x:0:\nuser:x:1000:\nextra:x:2000:user\n' >"$WORK/image/etc/group"
	tar -c -C "$WORK/image" . | podman import -q - box >/dev/null
}

run_prints_output() { is "hello" "$(run --rm box echo hello)"; }
run_returns_the_commands_status() { status 7 run --rm box sh -c 'exit 7'; }
run_returns_128_and_the_signal() { status 137 run --rm box sh -c 'sh -c "kill -9 \$\$"; exit $?'; }
run_returns_127_for_a_missing_command() { status 127 run --rm box no-such-command; }
run_returns_126_for_a_file_without_x() { status 126 run --rm box /etc/passwd; }
run_reads_stdin() { is "typed" "$(echo typed | run -i --rm box cat)"; }
run_as_a_user_of_the_image() { is "1000 1000 2000" "$(run --rm -u user box sh -c 'echo $(id -u) $(id -G)')"; }
run_in_a_directory_with_variables() { is "/home x" "$(run --rm -w /home -e A=x box sh -c 'echo $PWD $A')"; }
run_with_a_hostname() { is "boxy" "$(run --rm --hostname boxy box hostname)"; }
run_as_process_1() { is "1" "$(run --rm box sh -c 'echo $$')"; }
run_shares_a_directory() {
	run --rm -v "$WORK/shared:/s" box sh -c 'echo there >/s/file' && is there "$(cat "$WORK/shared/file")"
}
run_shares_a_directory_read_only() {
	status 1 run --rm -v "$WORK/shared:/s:ro" box touch /s/other && [ ! -e "$WORK/shared/other" ]
}
run_with_a_tmpfs() { is "tmpfs" "$(run --rm --tmpfs /t box sh -c 'grep " /t " /proc/mounts | { read a b c d; echo $c; }')"; }
run_with_a_read_only_root() { status 1 run --rm --read-only box touch /file; }
run_with_the_capabilities_that_crun_gives() { is "$(capabilities crun)" "$(capabilities "$RUNTIME")"; }
capabilities() { podman --runtime "$1" run "${usual[@]}" --rm box grep Cap /proc/self/status; }
run_with_two_capabilities() { is 0000000000000021 "$(run --rm --cap-drop all --cap-add chown --cap-add kill box sh -c 'grep CapEff /proc/self/status | { read _ bits; echo $bits; }')"; }
run_with_the_seccomp_filter() { is "Seccomp: 2" "$(run --rm box grep Seccomp: /proc/self/status | tr -s '\t' ' ')"; }
run_without_new_privileges() { is "NoNewPrivs: 1" "$(run --rm --security-opt no-new-privileges box grep NoNewPrivs /proc/self/status | tr -s '\t' ' ')"; }
run_with_limits_of_a_process() { is "64" "$(run --rm --ulimit nofile=64:64 --ulimit nproc=100:100 box sh -c 'ulimit -n')"; }
run_hides_paths() { is 0 "$(run --rm box cat /proc/keys | wc -c)"; }
run_does_not_hide_if_privileged() { is yes "$(run --rm --privileged --ulimit host box sh -c 'mkdir /m && mount -t tmpfs t /m && echo yes')"; }
run_with_a_device() { is "crw-rw-rw-" "$(run --rm --device /dev/null:/dev/other box ls -l /dev/other | cut -d' ' -f1)"; }
run_with_users_mapped() {
	is "0 100000 65536" "$(run --rm --uidmap 0:100000:65536 --gidmap 0:100000:65536 box sh -c 'echo $(cat /proc/self/uid_map)')"
}
run_with_a_sysctl() { is "1 2" "$(run --rm --sysctl net.ipv4.ping_group_range='1 2' box sh -c 'echo $(cat /proc/sys/net/ipv4/ping_group_range)')"; }
run_with_an_init() {
	[ -e /usr/libexec/podman/catatonit ] || [ -e /usr/bin/catatonit ] || return 77
	is "2" "$(run --rm --init box sh -c 'echo $$')"
}
run_it_has_a_terminal() { is "/dev/pts/0" "$(typed run "${usual[@]}" -it --rm box tty </dev/null | head -1)"; }
run_it_reads_keys() {
	local got
	got=$( (sleep 3; echo 'echo $((40+2))'; sleep 1; echo exit) | typed run "${usual[@]}" -it --rm box sh)
	[[ $got == *$'\n42\n'* ]] || { echo "$got" && false; }
}
detached_container_logs_and_stops() {
	local id
	id=$(run -d box sh -c 'trap "echo bye; exit 3" TERM; echo up; while :; do sleep 0.1; done')
	logged up "$id" && podman stop -t 10 "$id" >/dev/null && is 3 "$(podman wait "$id")" && is $'up\nbye' "$(podman logs "$id")"
	podman rm -f "$id" >/dev/null
}
kill_ends_a_container() {
	local id
	id=$(run -d box sleep 1000)
	podman kill "$id" >/dev/null && is 137 "$(podman wait "$id")" && podman rm "$id" >/dev/null
}
exec_in_a_container() {
	local id got=0
	id=$(run -d -e A=x box sleep 1000)
	is "x 1" "$(podman exec "$id" sh -c 'echo $A $(head -c5 /proc/1/comm | grep -c sleep)')" &&
		is "1000" "$(podman exec -u 1000 "$id" id -u)" &&
		is "/home" "$(podman exec -w /home "$id" sh -c 'echo $PWD')" &&
		is "typed" "$(echo typed | podman exec -i "$id" cat)" &&
		status 7 podman exec "$id" sh -c 'exit 7' &&
		status 127 podman exec "$id" no-such-command || got=1
	podman rm -f -t 0 "$id" >/dev/null
	return $got
}
exec_has_the_same_limits_as_run() {
	local id got=0
	id=$(run -d box sleep 1000)
	for word in CapEff CapBnd Seccomp: NoNewPrivs; do
		is "$(podman exec "$id" grep $word /proc/1/status)" "$(podman exec "$id" grep $word /proc/self/status)" || got=1
	done
	podman rm -f -t 0 "$id" >/dev/null
	return $got
}
exec_it_has_a_terminal() {
	local id got
	id=$(run -d box sleep 1000)
	got=$(typed exec -it "$id" tty </dev/null | head -1)
	podman rm -f -t 0 "$id" >/dev/null
	is "/dev/pts/0" "$got"
}
start_again_after_the_end() {
	local id
	id=$(podman create "${usual[@]}" box echo again)
	is again "$(podman start -a "$id")" && is again "$(podman start -a "$id")" && podman rm "$id" >/dev/null
}
two_containers_share_a_namespace() {
	local id ours theirs
	id=$(run -d box sleep 1000)
	ours=$(run --rm --ipc "container:$id" box readlink /proc/self/ns/ipc)
	theirs=$(podman exec "$id" readlink /proc/self/ns/ipc)
	podman rm -f -t 0 "$id" >/dev/null
	is "$theirs" "$ours"
}
build_runs_commands() {
	printf 'FROM localhost/box\nRUN echo built >/file && id -u >>/file\nUSER 1000\nRUN id -u >/tmp/who\nCMD cat /file /tmp/who\n' >"$WORK/Containerfile"
	podman build -q --network none --isolation oci -t built -f "$WORK/Containerfile" "$WORK/shared" >/dev/null && is $'built\n0\n1000' "$(run --rm built)"
}
limits_bite() {
	[ "$limited" ] || return 77
	status 137 run --rm --memory 32m --memory-swap 32m --tmpfs /t box sh -c 'head -c 100m /dev/zero >/t/file; exit $?' &&
		is "20" "$(run --rm --pids-limit 20 box cat /sys/fs/cgroup/pids.max)" &&
		is "50000 100000" "$(run --rm --cpus 0.5 box cat /sys/fs/cgroup/cpu.max)"
}
disks_cannot_be_opened() {
	[ "$limited" ] || return 77
	local device
	device=$(cat /sys/block/*/dev | head -1)
	status 1 run --rm --cap-add mknod box sh -c "busybox mknod /disk b ${device/:/ } && cat /disk"
}
pause_stops_and_continues() {
	[ "$limited" ] || return 77
	local id got=0
	id=$(run -d box sleep 1000)
	podman pause "$id" >/dev/null && is paused "$(podman inspect -f '{{.State.Status}}' "$id")" &&
		podman unpause "$id" >/dev/null && is running "$(podman inspect -f '{{.State.Status}}' "$id")" || got=1
	podman rm -f -t 0 "$id" >/dev/null
	return $got
}
nothing_is_left() { is "" "$(podman ps -aq)" && is "" "$(ls "$WORK/run/$(basename "$RUNTIME")" 2>/dev/null)"; }

mkdir "$WORK/shared"
image || exit 1
for name in $(declare -F | cut -d' ' -f3); do
	case $name in
	podman | run | is | status | typed | logged | image | capabilities) continue ;;
	esac
	[[ $name == *${1:-}* ]] || continue
	got=0
	output=$("$name" 2>&1) || got=$?
	case $got in
	0) echo "ok $name" ;;
	77) echo "ok $name # skip" ;;
	*) printf 'not ok %s\n%s\n' "$name" "$output" ;;
	esac
done
