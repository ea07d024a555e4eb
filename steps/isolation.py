"""Takes from a child what it inherited from its caller and no namespace takes away.

From step 00 on every container relies on this: `process.start` leaves the caller's session and
its keys, and `process.execute` leaves its environment, its terminal and its open files.
docs/attacks.md has the attacks that work without it.
"""

import errno
import os

import linux

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def leave_session() -> None:
    """Leaves the caller's session: setsid(2), session-keyring(7). Its keys are then out of
    reach, and its terminal refuses TIOCSTI, which types on behalf of the user, unless we have
    CAP_SYS_ADMIN on the host."""
    os.setsid()
    try:
        linux.join_session_keyring()
    except OSError as error:
        # If this kernel has no keys, or does not give us any, the child has none either.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise


def environment() -> dict[str, str]:
    """Returns the command's environment, without what the caller's may hold, such as
    passwords: environ(7)."""
    variables = {"PATH": PATH, "HOME": "/root" if os.getuid() == 0 else "/"}
    return variables | {k: os.environ[k] for k in ("LANG", "TERM") if k in os.environ}


def is_interactive() -> bool:
    """Returns whether somebody types at our terminal, so that the command needs one, too."""
    if not (os.isatty(0) and os.isatty(1)):
        return False
    try:
        return os.tcgetpgrp(0) == os.getpgrp()  # not if the shell started us with &
    except OSError:  # a terminal, but not the one that controls us
        return True


def own_terminal() -> int:
    """Puts a new terminal of the filesystem as it is now in the place of descriptors 0, 1
    and 2. Returns a descriptor of its other end, for the parent: pty(7).
    OSError, ENOSPC: the machine has no more terminals."""
    for_parent, own = os.openpty()
    os.login_tty(own)
    return for_parent


def own_keys() -> int:
    """Puts a pipe in the place of descriptor 0, which is the user's terminal. Our session is not
    the terminal's, so job control does not stop us when the keys are for somebody else.
    Returns the pipe's other end, for the parent, whom it does stop."""
    own, for_parent = os.pipe()
    os.dup2(own, 0)
    os.close(own)
    return for_parent


def close_descriptors(kept: int) -> None:
    """Closes all descriptors but 0, 1, 2 and kept. An open directory of the host is a way out
    of every container: close_range(2), CVE-2024-21626."""
    if kept > 3:
        linux.close_range(3, kept - 1)
    linux.close_range(kept + 1)
