#!/usr/bin/python3
"""Break-out 06: take more of the machine than one's share, from a container."""

import os
import sys

sys.path.append(os.path.join(sys.path[0], ".."))
from attack import USAGE, end, inside, tell

# Bounded, so that it does no harm where it works: 200 processes, 200 MB.
FORK = """
for (1..200) { my $pid = fork; die "fork number $_: $!\n" unless defined $pid;
               unless ($pid) { sleep 60; exit } }
print "200 processes\n"; kill 9, -1;
"""
HOG = 'my $x = "x" x (200 << 20); print length($x) >> 20, " MB\n";'

limited = "--memory" in USAGE
process = inside("perl", "-e", FORK, options=["--pids", "32"] if limited else [])
tell("start 200 processes", "200 processes" in process.stdout, process)
process = inside("perl", "-e", HOG, options=["--memory", "64M"] if limited else [])
tell("take 200 MB of memory", "200 MB" in process.stdout, process)

end()
