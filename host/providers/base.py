"""The interface that all providers have in common."""

from __future__ import annotations

import abc
import contextlib
import pathlib
from collections.abc import Iterator

from host.errors import LabError
from host.guest import Guest
from host.lab import Lab


class Provider(Guest):
    """Makes, starts and stops the lab; as a Guest, runs commands in it."""

    name: str

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @abc.abstractmethod
    def up(self, source: pathlib.Path | None = None) -> None:
        """Makes the lab if need be, and starts it. Called with the lab's lock held.
        The source is a directory that ./lab pack filled."""

    @abc.abstractmethod
    def welcome(self) -> int:
        """Shows a container, and where JupyterLab is. Returns the exit status."""

    @abc.abstractmethod
    def down(self) -> None:
        """Stops the lab; its disk stays."""

    @abc.abstractmethod
    def destroy(self, everything: bool) -> None:
        """Removes the lab, and its image too if that is asked for."""

    @abc.abstractmethod
    def status(self) -> int:
        """Prints what is there. Returns 0 if the lab runs, 3 if it does not."""

    @abc.abstractmethod
    def is_running(self) -> bool:
        """Returns whether commands can be run in the lab."""

    @abc.abstractmethod
    def ssh_config(self) -> tuple[pathlib.Path, str]:
        """Returns an ssh_config(5) file, and the name of the VM in it."""

    @abc.abstractmethod
    def throwaway(
        self, memory: int | None = None
    ) -> contextlib.AbstractContextManager[Guest]:
        """Gives the block a place for tests and figures: a separate VM if possible,
        without internet and with the project read-only, gone afterwards."""

    def need_running(self) -> None:
        if not self.is_running():
            raise LabError("the lab is not running", "./lab up starts it.")


@contextlib.contextmanager
def kept(guest: Guest) -> Iterator[Guest]:
    """Gives the block a guest that is not thrown away."""
    yield guest
