"""Says in words why a runtime has ended: what the kernel has refused, and the usual cause."""

from __future__ import annotations

import re

ENDS = "your runtime ends before the command runs"

NOT_ROOT = (
    "the kernel refuses a call of child, which is not root in its user namespace yet: call "
    "os.setgid(0) and os.setuid(0) right after process.await_parent(), before anything that "
    "needs root."
)
# What the kernel's refusal looks like, as a pattern: its usual cause.
REFUSED = {
    "pivot_root: ": (
        "the kernel refuses pivot_root: the new root must be a mount point, and neither it nor "
        "/ may be shared. Does child first make / private, with MS_REC as well, and mount the "
        "image on /mnt?"
    ),
    "mount_setattr: Invalid argument": (
        "the kernel refuses mount_setattr: does parent write the uid_map and the gid_map "
        "before it calls linux.idmapped?"
    ),
    "not permitted: '/proc/.*/gid_map': '0 [1-9]": (
        "an ordinary user may write a gid_map only after writing deny to /proc/PID/setgroups."
    ),
    "not permitted: '/proc/.*/[ug]id_map'": (
        "the kernel refuses the map: is CLONE_NEWUSER among the flags? And does parent write "
        "the map, once? The child must not choose ids of the host."
    ),
    "(mount|open_tree): Permission denied: '/var/lib/workshop": (
        "the child is already user 100000, who may not enter /var/lib/workshop: parent opens "
        "the image with linux.idmapped and hands it over with process.wait(container, trees), "
        "and process.await_parent() returns it to the child."
    ),
    r"line \d+: (Operation not permitted|Invalid argument)": (
        "until its map is written, child is the user nobody and cannot change that: call "
        "os.setgid(0) and os.setuid(0) after process.await_parent(), and os.setgroups([]) "
        "before these two, but only if BY_ROOT. The ids are those inside."
    ),
    "RTNETLINK answers: Operation not permitted": NOT_ROOT,
    "Value too large for defined data type": NOT_ROOT,
}


def why_refused(said: str) -> str | None:
    """Returns the usual cause of a refusal by the kernel that a runtime has printed, or None
    if it is not a known one."""
    causes = (why for pattern, why in REFUSED.items() if re.search(pattern, said))
    return next(causes, None)


def why_ended(status: int, said: str) -> str:
    """Returns why a runtime has ended with this status, after it printed `said`."""
    last = said.splitlines()[-1] if said else ""
    if "Traceback" in said:
        return f"your runtime raises{line_raised(said)}: {last}"
    if why := why_refused(said):
        return why
    message = last.removeprefix("container.py: ")
    printed = f"it prints: {message}" if message else "it prints nothing"
    return f"{ENDS} (status {status}); {printed}"


def line_raised(said: str) -> str:
    """Returns the last line of the learner's in a traceback, as ", line 12", or ""."""
    lines = re.findall(r'container\.py", line (\d+)', said)
    return f", line {lines[-1]}" if lines else ""
