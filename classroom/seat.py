"""The VM of each student, as the hub sees it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyterhub.spawner import LocalProcessSpawner
from traitlets import Unicode

from classroom import events
from classroom.events import Event

# So many VMs start at once; the others wait for their turn.
TURNS = asyncio.Semaphore(2 * (os.cpu_count() or 1))
PORT = 8888  # of the notebook server, in the VM


class Seat(LocalProcessSpawner):  # type: ignore[misc]
    """A VM for each student. host/commands/seat.py starts it, and runs the notebook server in
    it. The hub looks after that process, which dies with the hub, and the VM with it."""

    students = Unicode(help="the directory of all students").tag(config=True)

    def get_args(self) -> list[str]:
        """Returns the arguments of `seat`."""
        return [self.user.name, str(self.port)]

    def make_preexec_fn(self, name: str) -> None:
        """Returns None: the process stays ours. No student has a user account on this
        machine, because the VM is what separates them."""

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Returns the environment as it is, because the student has no account here."""
        return env

    def get_env(self) -> dict[str, str]:
        """Returns the environment, with the address where the server listens in the VM. A
        port of this machine leads there."""
        address = f"http://0.0.0.0:{PORT}{self.server.base_url}"
        environment: dict[str, str] = super().get_env()
        return environment | {"JUPYTERHUB_SERVICE_URL": address}

    def load_state(self, state: dict[str, Any]) -> None:
        """Does nothing, because no VM outlives its hub, and another process could have its
        pid by now."""

    @property
    def log_file(self) -> Path:
        return Path(str(self.students), str(self.user.name), "log")

    def events(self) -> list[Event]:
        """Returns what `seat` has reported so far. While it waits for its turn, that is
        nothing."""
        try:
            return events.parse(self.log_file.read_text(errors="replace"))
        except FileNotFoundError:
            return []

    async def start(self) -> tuple[str, int]:
        """Starts the VM. Returns the IP address and the port where its server is, or will be
        in a moment. Raises RuntimeError if the VM does not get that far."""
        self.log_file.parent.mkdir(exist_ok=True)
        self.log_file.unlink(missing_ok=True)
        async with TURNS:
            with self.log_file.open("wb") as log:
                self.popen_kwargs = {
                    "stdin": subprocess.DEVNULL,
                    "stdout": log,
                    "stderr": subprocess.STDOUT,
                }
                address: tuple[str, int] = await super().start()
            while not any(event.ready for event in self.events()):
                if await self.poll() is not None:
                    raise self.failure()
                await asyncio.sleep(0.2)
        return address

    def failure(self) -> RuntimeError:
        """Returns the error that the page shows: the last one that `seat` has reported."""
        errors = [event.error for event in self.events() if event.error]
        text = errors[-1] if errors else "it ended without saying why"
        error: Any = RuntimeError(text)
        error.jupyterhub_message = f"Your VM does not start: {text}"
        failure: RuntimeError = error
        return failure

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yields what the page shows while the VM starts."""
        shown = 0
        while True:
            texts = [event.text for event in self.events() if event.text]
            for text in texts[shown:]:
                shown += 1
                yield {"progress": min(20 * shown, 90), "message": text}
            await asyncio.sleep(0.5)
