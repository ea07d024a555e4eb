"""What can go wrong: the error that a subcommand reports in one line, and unreadable JSON."""

# What parsing raises if JSON has other contents than it should have.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Failure(Exception):
    """Something cannot be done. Its text, one line, says what, why, and what to do."""
