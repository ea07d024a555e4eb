"""The errors that commands raise when they cannot do something."""

from __future__ import annotations


class LabError(Exception):
    """One sentence on what failed and why, then lines on what to type."""

    def __init__(self, sentence: str, *advice: str, status: int = 1) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.advice = advice
        self.status = status


class UsageError(LabError):
    """The command line is wrong; the advice shows how to write it."""

    def __init__(self, sentence: str, *advice: str) -> None:
        super().__init__(sentence, *advice, status=2)
