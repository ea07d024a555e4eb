"""Step 10: the kernel refuses system calls that the container does not need. seccomp(2)"""

import errno
import os
import pathlib
import re

import linux
import pytest
from runtime import Runtime, shell

# What the lesson's table refuses, by the capability that a container needs for it.
REFUSED = {
    "": "add_key keyctl request_key migrate_pages move_pages io_uring_setup io_uring_enter "
    "io_uring_register userfaultfd kexec_load kexec_file_load swapon swapoff",
    "SYS_ADMIN": "mount umount2 pivot_root fsopen fspick fsmount fsconfig open_tree "
    "move_mount mount_setattr setns unshare sethostname setdomainname quotactl quotactl_fd "
    "fanotify_init",
    "BPF": "bpf",
    "PERFMON": "perf_event_open",
    "SYSLOG": "syslog",
    "SYS_BOOT": "reboot",
    "SYS_MODULE": "init_module finit_module delete_module",
    "SYS_TIME": "settimeofday clock_settime",
    "SYS_PACCT": "acct",
    "SYS_PTRACE": "kcmp process_madvise",
    "DAC_READ_SEARCH": "open_by_handle_at",
    "SYS_TTY_CONFIG": "vhangup",
}
NAMES = {kind: names.split() for kind, names in REFUSED.items()}
# Prints the error of each call that its arguments name by number, 0 if the call succeeds.
# Numbers that are no descriptors, pointers or flags, so that no call does anything.
TRY = "for (@ARGV) { my $n = $_ + 0; my $r = syscall($n, -1, -1, -1, -1, -1, -1);"
TRY += ' print $r < 0 ? $! + 0 : 0, "\\n" }'
NAMESPACES = {
    "mount": linux.CLONE_NEWNS,
    "cgroup": linux.CLONE_NEWCGROUP,
    "uts": linux.CLONE_NEWUTS,
    "ipc": linux.CLONE_NEWIPC,
    "user": linux.CLONE_NEWUSER,
    "pid": linux.CLONE_NEWPID,
    "net": linux.CLONE_NEWNET,
}
CLONE = "my $r = syscall($ARGV[0] + 0, $ARGV[1] + 0, 0, 0, 0, 0); exit if $r == 0; "
CLONE += 'print $r < 0 ? $! + 0 : "child", "\\n"; wait'


def perl(runtime, script, *words, **options):
    """Returns the lines that a Perl script prints in a container of debian, with the name of an
    error for its number, such as EPERM."""
    texts = map(str, words)
    out = runtime.ok("perl", "-e", script, *texts, image="debian", **options)
    names = {str(number): name for number, name in errno.errorcode.items()}
    return [names.get(line, line) for line in out.split()]


def answers(runtime, names, **options):
    """Returns {name: error} of system calls in a container."""
    numbers = [linux.SYSCALL[name] for name in names]
    return dict(zip(names, perl(runtime, TRY, *numbers, **options), strict=True))


@pytest.mark.told("spec", "spec-table")
def test_system_calls_of_the_table_are_refused(runtime):
    """seccomp(2): SECCOMP_RET_ERRNO with EPERM, before the kernel looks at any argument."""
    names = [name for kind in NAMES.values() for name in kind]
    assert answers(runtime, names) == dict.fromkeys(names, "EPERM")


@pytest.mark.told("spec-table")
def test_system_calls_without_a_capability_are_refused_with_all_capabilities(runtime):
    """seccomp(2), keyctl(2), userfaultfd(2), io_uring_setup(2)"""
    found = answers(runtime, NAMES[""], cap_add="ALL")
    assert found == dict.fromkeys(NAMES[""], "EPERM")


@pytest.mark.also_before
@pytest.mark.told("spec-table")
@pytest.mark.parametrize(
    ("capability", "names"),
    [
        (
            "SYS_ADMIN",
            "mount umount2 fsmount open_tree move_mount setns unshare".split(),
        ),
        ("SYS_PTRACE", ["kcmp", "process_madvise"]),
        ("SYS_TIME", ["clock_settime"]),
    ],
    ids=["SYS_ADMIN", "SYS_PTRACE", "SYS_TIME"],
)
def test_capability_brings_its_system_calls_back(runtime, capability, names):
    """seccomp(2), capabilities(7): then the kernel complains about the arguments."""
    found = answers(runtime, names, cap_add=capability)
    refused = {name: error for name, error in found.items() if error == "EPERM"}
    assert refused == {}


@pytest.mark.told("spec-table", given=["EFAULT"])
def test_chroot_is_refused_without_its_capability(runtime):
    """chroot(2), CAP_SYS_CHROOT: the arguments are not even looked at."""
    assert answers(runtime, ["chroot"]) == {"chroot": "EFAULT"}
    dropped = answers(runtime, ["chroot"], cap_drop="SYS_CHROOT")
    assert dropped == {"chroot": "EPERM"}


@pytest.mark.told("spec", given=["Operation not permitted"])
@pytest.mark.parametrize("who", ["root", "nobody"])
def test_nobody_inside_gets_all_capabilities_in_a_new_user_namespace(runtime, who):
    """user_namespaces(7), unshare(1), CVE-2022-0185"""
    words = ["setpriv", "--reuid", who, "--clear-groups", "unshare", "--user", "id"]
    result = runtime.run(*words, image="debian")
    assert result.status == 1 and "Operation not permitted" in result.err, result


@pytest.mark.told("spec-clone", given=["child"])
@pytest.mark.parametrize("kind", NAMESPACES)
def test_child_in_new_namespaces_is_refused(runtime, kind):
    """clone(2): the filter looks at the flags. Without one, clone is fork."""
    number = linux.SYSCALL["clone"]
    plain, new = 17, NAMESPACES[kind] | 17  # SIGCHLD
    assert perl(runtime, CLONE, number, plain) == ["child"]
    # The user namespace comes with it, or the kernel would refuse the others itself.
    new |= linux.CLONE_NEWUSER if kind != "user" else 0
    assert perl(runtime, CLONE, number, new) == ["EPERM"]
    assert perl(runtime, CLONE, number, new, cap_add="SYS_ADMIN") == ["child"]


@pytest.mark.told("spec-clone")
def test_clone3_looks_like_a_call_that_this_kernel_lacks(runtime):
    """clone3(2): its flags are in memory, and ENOSYS makes libraries use clone(2)."""
    assert answers(runtime, ["clone3"]) == {"clone3": "ENOSYS"}
    found = answers(runtime, ["clone3"], cap_add="SYS_ADMIN")["clone3"]
    assert found not in ("ENOSYS", "EPERM")


@pytest.mark.told("spec-filter")
def test_system_call_that_is_newer_than_the_filter_is_unknown(runtime):
    """syscall(2): 457 is statmount, since Linux 6.8. Numbers of x32 have bit 30."""
    numbers = [457, 500, 0x40000000 | linux.SYSCALL["unshare"], 0xFFFFFFFF]
    found = dict(zip(numbers, perl(runtime, TRY, *numbers), strict=True))
    assert found == dict.fromkeys(numbers, "ENOSYS")


# exit(7) by the numbers of 32-bit programs: mov eax, 1; mov ebx, 7; int 0x80
INT80 = "b801000000 bb07000000 cd80"
ELF = "7f454c46 02010100 0000000000000000 0200 3e00 01000000 7800400000000000"
ELF += "4000000000000000 0000000000000000 00000000 4000 3800 0100 0000 0000 0000"
ELF += "01000000 05000000 0000000000000000 0000400000000000 0000400000000000"
ELF += "8400000000000000 8400000000000000 0010000000000000"


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="int 0x80 is an instruction of x86"
)
@pytest.mark.told("spec-filter")
def test_system_call_by_the_number_of_another_machine_ends_the_program(runtime, image):
    """seccomp(2), SECCOMP_RET_KILL_PROCESS: number 310 is unshare there, and here it is
    process_vm_readv."""
    program = image / "program"
    program.write_bytes(bytes.fromhex(ELF + INT80))
    program.chmod(0o755)
    result = runtime.run("/program", "argument", image=image)
    assert result.status == 128 + 31, result  # SIGSYS


@pytest.mark.told("spec", "spec-child")
def test_filter_is_on_for_every_program_and_cannot_be_taken_off(runtime):
    """proc_pid_status(5): mode 2 is a filter. seccomp(2): execve(2) keeps it."""
    for options in {}, {"cap_add": "ALL"}:
        status = runtime.ok(
            "sh", "-c", "sh -c 'grep Seccomp /proc/self/status'", **options
        )
        assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE)
        assert re.search(r"^Seccomp_filters:\s*1$", status, re.MULTILINE)


@pytest.mark.told("spec", "spec-child")
def test_ordinary_user_of_the_host_starts_containers_with_the_filter(runtime, tmp_path):
    """seccomp(2): with no_new_privs nobody needs a capability to load a filter."""
    home = tmp_path / "home"
    home.mkdir()
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {home}/root")
    shell(f"chown -R nobody:nogroup {home}")
    shell(f"chmod 755 {tmp_path} {tmp_path.parent} {tmp_path.parent.parent}")
    words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    user = Runtime(runtime.path, [*words, "env", f"HOME={home}"])
    status = user.ok("grep Seccomp /proc/self/status", image=home / "root")
    assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE)
    refused = user.run("unshare -U true", image=home / "root")
    assert refused.status == 1, refused


@pytest.mark.also_before
@pytest.mark.told("spec", given=["3", "hello"])
@pytest.mark.parametrize(
    ("image", "command", "out"),
    [
        ("debian", ["bash", "-c", "sleep 0 & wait; echo $(echo hello) | cat"], "hello"),
        ("debian", ["perl", "-e", "if (fork) { wait; print 'hello' }"], "hello"),
        ("debian", ["su", "nobody", "-s", "/bin/sh", "-c", "echo hello"], "hello"),
        ("debian", ["timeout", "9", "chroot", "/", "echo", "hello"], "hello"),
        (
            "app",
            [
                "python3",
                "-c",
                "import threading as t; t.Thread(None, print, args=[3]).start()",
            ],
            "3",
        ),
    ],
    ids=["a pipe", "fork", "su", "chroot", "a thread"],
)
def test_programs_of_images_work(runtime, image, command, out):
    """clone(2), clone3(2), execve(2), futex(2)"""
    assert runtime.ok(*command, image=image).strip() == out


@pytest.mark.also_before
@pytest.mark.told("spec-child")
def test_filter_leaves_the_runtime_and_the_host_alone(runtime):
    """seccomp(2): a filter is inherited, but never by a parent."""
    runtime.ok("true", "argument")
    with runtime.running() as box:
        status = pathlib.Path(f"/proc/{box.process.pid}/status").read_text()
        assert re.search(r"^Seccomp:\s*0$", status, re.MULTILINE)
