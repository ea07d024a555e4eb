# shellcheck shell=sh disable=SC2154 # shares its variables with lab
# `./lab doctor`: what this machine has for the lab, and what to type where it lacks
# something. Read by `lab`, with whose functions and variables it works; starts and changes
# nothing, except that it tries once whether hardware virtualization works.

# row MARK WHAT FOUND [TYPE]: MARK is ok, slow (it works) or NO.
row() {
	colour=
	if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
		case $1 in ok) colour=32 ;; slow) colour=33 ;; NO) colour=31 ;; esac
	fi
	printf '%s%-4s%s  %-22s  %s\n' "${colour:+$(printf '\033[1;%sm' $colour)}" "$1" \
		"${colour:+$(printf '\033[0m')}" "$2" "$3"
	[ -z "${4-}" ] || printf '%30stype: %s\n' '' "$4"
	[ "$1" != NO ] || missing=$((missing + 1))
}

# at_least HAVE NEED: compares versions, number by number.
at_least() {
	awk -v have="$1" -v need="$2" 'BEGIN {
		split(have, h, "."); n = split(need, w, ".")
		for (i = 1; i <= n; i++) if (h[i] + 0 != w[i] + 0) exit h[i] + 0 < w[i] + 0
	}'
}

# version COMMAND…: the first thing in its output that looks like one.
version() { "$@" 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+' | head -n 1; }

# version_row WHAT HAVE NEED TYPE
version_row() {
	if at_least "$2" "$3"; then row ok "$1" "$2"; else row NO "$1" "$2, but $3 or newer is needed" "$4"; fi
}

# tool COMMAND PACKAGE
tool() {
	if command -v "$1" >/dev/null || [ -x "/sbin/$1" ] || [ -x "/usr/sbin/$1" ]; then
		row ok "$1" 'is there'
	elif command -v apt-get >/dev/null; then
		row NO "$1" 'is missing' "sudo apt-get install $2   (./lab up does it, too)"
	else
		row NO "$1" "is missing: Debian's name for it is $2"
	fi
}

# room WHAT HAVE NEED TYPE: in megabytes
room() {
	if [ "$2" -ge "$3" ]; then row ok "$1" "$2 MB free, $3 needed"; else row NO "$1" "$2 MB free, $3 needed" "$4"; fi
}

free_memory() {
	if [ -r /proc/meminfo ]; then
		awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo
	else
		echo $(($(sysctl -n hw.memsize) / 1048576)) # macOS: all there is
	fi
}

doctor_machine() {
	case $(uname -m) in
	x86_64 | aarch64 | arm64) row ok processor "$(uname -m)" ;;
	*) row NO processor "$(uname -m): it has to be x86_64 or ARM, 64 bits" ;;
	esac
	need=3500
	if [ -e "$image/megabytes" ] || [ "$way" = vagrant ]; then need=1000; fi
	room disk "$(free_disk)" $need "df -h $state   # and make room there"
	if ! running; then room memory "$(free_memory)" 2300 'free -h   # and close something big'; fi
}

# doctor_root REASON
doctor_root() {
	if [ "$(id -u)" = 0 ]; then
		row ok root 'you are'
	elif command -v sudo >/dev/null; then
		row ok root "by sudo, to $1"
	else
		row NO root "is needed to $1, and there is no sudo" 'su -c "./lab up"'
	fi
}

doctor_qemu() {
	if [ "$(uname -s)" != Linux ]; then
		row NO system "$(uname -s): plain QEMU is for Linux; Vagrant is the way here"
		return
	fi
	architecture
	doctor_root 'make the image'
	tool "$qemu" "$package"
	tool qemu-img qemu-utils
	tool mmdebstrap mmdebstrap
	tool mkfs.ext4 e2fsprogs
	tool ssh openssh-client
	tool setpriv util-linux
	if [ "$arch" = arm64 ]; then
		row slow virtualization 'not tried'
	elif [ -e "$image/initrd" ] && command -v "$qemu" >/dev/null; then
		choose_accel >/dev/null
		case $accel in
		kvm) row ok virtualization 'KVM works' ;;
		*) row slow virtualization "all is emulated: $reason" ;;
		esac
	elif [ -w /dev/kvm ]; then
		row ok virtualization 'there is /dev/kvm; ./lab up tries it'
	else
		row slow virtualization 'no /dev/kvm that you may use: all will be emulated' 'sudo usermod -aG kvm YOUR-NAME   (where there is one)'
	fi
}

doctor_local() {
	doctor_root 'make containers'
	tool python3 python3
	tool mmdebstrap mmdebstrap
	row ok kernel "$(uname -r); ./lab up tries what each step needs of it"
}

# The least versions are in docs/providers.md, with the reasons.
doctor_vagrant() {
	if ! command -v vagrant >/dev/null; then
		row NO Vagrant 'is not installed' 'see https://developer.hashicorp.com/vagrant/install'
		return
	fi
	vagrant=$(version vagrant --version)
	version_row Vagrant "$vagrant" 2.3.4 'see https://developer.hashicorp.com/vagrant/install'
	providers=0
	plugins=$(vagrant plugin list 2>/dev/null || true)
	if command -v VBoxManage >/dev/null; then doctor_virtualbox; fi
	if command -v prlctl >/dev/null; then doctor_plugin Parallels vagrant-parallels 2.4.0; fi
	if command -v vmrun >/dev/null; then doctor_plugin VMware vagrant-vmware-desktop 3.0.3; fi
	if command -v virsh >/dev/null; then doctor_libvirt; fi
	[ $providers != 0 ] || row NO provider 'none is installed' 'see docs/providers.md'
}

doctor_virtualbox() {
	providers=1
	box=$(version VBoxManage --version)
	need=2.3.4
	if at_least "$box" 7.1; then need=2.4.2; fi
	if at_least "$box" 7.2; then need=2.4.9; fi
	case $(uname -m) in
	aarch64 | arm64)
		version_row VirtualBox "$box" 7.1.6 'see https://www.virtualbox.org/wiki/Downloads'
		at_least $need 2.4 || need=2.4
		;;
	*) version_row VirtualBox "$box" 6.1 'see https://www.virtualbox.org/wiki/Downloads' ;;
	esac
	version_row "Vagrant for it" "$vagrant" $need 'see https://developer.hashicorp.com/vagrant/install'
}

# doctor_plugin PROVIDER PLUGIN LEAST
doctor_plugin() {
	providers=1
	have=$(printf '%s\n' "$plugins" | sed -n "s/^$2 (\([0-9.]*\).*/\1/p")
	if [ -z "$have" ]; then
		row NO "$1" "is there, but Vagrant's plugin $2 is not" "vagrant plugin install $2"
	else
		version_row "$1, $2" "$have" "$3" "vagrant plugin update $2"
	fi
}

doctor_libvirt() {
	doctor_plugin libvirt vagrant-libvirt 0.11.0
	if virsh -q -c qemu:///system uri >/dev/null 2>&1; then
		row ok libvirtd 'answers'
	else
		row NO libvirtd 'does not answer, or not to you' 'sudo systemctl start libvirtd; sudo usermod -aG libvirt YOUR-NAME'
	fi
}

doctor() {
	mkdir -p "$state/log"
	chmod 700 "$state"
	choose_way
	missing=0
	echo "The lab here: $way"
	doctor_machine
	"doctor_$way"
	needed=$missing
	for other in qemu vagrant; do
		[ "$other" != "$way" ] || continue
		printf '\nThe other way, LAB=%s, is not needed:\n' "$other"
		"doctor_$other"
	done
	echo
	if [ "$needed" = 0 ]; then
		echo 'All that is needed is there: ./lab up'
	else
		echo "Missing: $needed, marked NO above."
		return 1
	fi
}
