"""What can go wrong: the error that a subcommand reports in one line, and unreadable JSON."""

# What parsing raises if JSON has other contents than it should have.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

# What to do about a full disk.
MAKE_ROOM = "The disk is full: `workshop image rm NAME` and `workshop clean` make room"


class Failure(Exception):
    """Something cannot be done. Its text, one line, says what, why, and what to do."""
