"""The error that a subcommand reports in one line."""


class Failure(Exception):
    """Something cannot be done. The text is one line that says what, why, and what to do."""
