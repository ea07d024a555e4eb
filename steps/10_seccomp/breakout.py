#!/usr/bin/python3
"""Break-out 10: reach parts of the kernel that no container needs, from a container."""

import os
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
import linux
from attack import Attack

attack = Attack()

# Every user may make a user namespace, and has all capabilities in it: user_namespaces(7).
# From there, fsopen(2) led to an overflow in the kernel, and that to the host: CVE-2022-0185.
MOUNT = "grep CapEff /proc/self/status && mount -t tmpfs tmpfs /mnt"
process = attack.inside(
    "unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT
)
attack.report(
    "be root with all capabilities, and mount", process.returncode == 0, process
)

# The kernel keeps keys for programs; they are not in any file. keyctl(2), CVE-2016-0728
KEYS = """
my ($add, $get) = splice @ARGV; my ($kind, $name, $text) = ("user", "key", "secret");
my $key = syscall($add, $kind, $name, $text, 6, -3); die "add_key: $!\\n" if $key < 0;
my $seen = " " x 6; syscall($get, 11, $key, $seen, 6) == 6 or die "keyctl: $!\\n";
print "key $key is: $seen\\n";
"""
numbers = [str(linux.SYSCALL[name]) for name in ("add_key", "keyctl")]
process = attack.inside("perl", "-e", KEYS, *numbers)
attack.report("keep a key in the kernel", "is: secret" in process.stdout, process)

# bpf(2) itself refuses those without CAP_BPF, but not before it has looked: CVE-2021-3490
attack.end()
