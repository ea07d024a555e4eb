"""Connects the user's terminal to the container's own, as ssh(1) does."""

import _signal as signal  # for the reason in process.py
import fcntl
import os
import select
import termios
import tty


def relay(terminal: int, ended: int, woken: int) -> None:
    """Copies between the user's terminal and the container's until the container closes its
    own or ends.

    terminal: the parent's end of the container's terminal, which is closed afterwards.
    ended: becomes readable when the container has ended. woken: the pipe that a signal
    writes to. SystemExit, OSError: the user's terminal is gone.
    """

    def resize(*_: object) -> None:
        size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)

    before = termios.tcgetattr(0)
    signal.signal(signal.SIGWINCH, resize)
    resize()
    os.set_blocking(terminal, False)
    try:
        # Every key, Ctrl-C too, is for the container's terminal to interpret. TCSADRAIN
        # keeps what the user has typed ahead.
        tty.setraw(0, termios.TCSADRAIN)
        _copy(terminal, ended, woken)
    finally:
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        except termios.error:
            pass  # the user's terminal is gone
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        os.close(terminal)


def relay_keys(pipe: int, ended: int, woken: int) -> None:
    """Copies what the user types to a container whose stdin is a pipe, until the user types
    Ctrl-D or the container ends or closes it. While we are in the background, the keys are
    for another program.

    pipe: its end for writing, which is closed afterwards. ended, woken: as for relay().
    SystemExit: the user's terminal is gone.
    """
    typed = b""  # what the pipe has no room for yet
    try:
        while True:
            ours = _in_foreground()
            sources = [ended, woken] + ([0] if ours and not typed else [])
            # Nothing says when a shell brings us to the foreground, so look now and then.
            ready, room, _ = select.select(
                sources, [pipe] if typed else [], [], None if ours else 0.5
            )
            if woken in ready:
                os.read(woken, 4096)
            if ended in ready:
                return
            if room:
                os.write(pipe, typed)
                typed = b""
            if 0 in ready and _in_foreground():
                typed = os.read(0, 4096)  # PIPE_BUF, which is written at once: pipe(7)
                if not typed:
                    termios.tcgetattr(0)  # fails if this is the end of the terminal
                    return
    except BrokenPipeError:
        pass  # the container reads no more
    except (OSError, termios.error):
        raise SystemExit("the terminal is gone") from None
    finally:
        os.close(pipe)


def _in_foreground() -> bool:
    """Returns whether the keys are for us: tcgetpgrp(3)."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:  # a terminal, but not the one that controls us
        return True


def _copy(terminal: int, ended: int, woken: int) -> None:
    """Copies in both directions. Neither stops the other when its buffer is full."""
    typed = b""  # what the container's terminal has no room for yet
    while True:
        sources = [terminal, ended, woken]
        sources += [0] if len(typed) <= 65536 else []
        ready = select.select(sources, [terminal] if typed else [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
        if terminal in ready:
            try:
                output = os.read(terminal, 65536)
            except OSError:  # EIO: nobody has the other end open any more
                return
            while output:  # if the user's terminal is gone, EIO ends it in process.main
                output = output[os.write(1, output) :]
        elif ended in ready:  # and all of its output has been read
            return
        if 0 in ready:
            keys = os.read(0, 65536)
            if not keys:
                raise SystemExit("the terminal is gone")
            typed += keys
        if typed:
            try:
                typed = typed[os.write(terminal, typed) :]
            except BlockingIOError:
                pass
