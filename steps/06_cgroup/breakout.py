#!/usr/bin/python3
"""Break-out 06: take more than a fair share of the machine, from a container."""

import os
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

attack = Attack()

# Both are bounded, so that they do no harm where they work: 200 processes, 200 MB.
FORK = """
for (1..200) { my $pid = fork; die "fork number $_: $!\n" unless defined $pid;
               unless ($pid) { sleep 60; exit } }
print "200 processes\n"; kill 9, -1;
"""
HOG = 'my $x = "x" x (200 << 20); print length($x) >> 20, " MB\n";'

limited = "--memory" in attack.usage
process = attack.inside("perl", "-e", FORK, options=["--pids", "32"] if limited else [])
attack.report("start 200 processes", "200 processes" in process.stdout, process)
process = attack.inside(
    "perl", "-e", HOG, options=["--memory", "64M"] if limited else []
)
attack.report("take 200 MB of memory", "200 MB" in process.stdout, process)

attack.end()
