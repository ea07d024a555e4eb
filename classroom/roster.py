"""Who may log in to the hub."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import Unicode

from host import passwords

DELAY = 1  # seconds after a wrong password, so that guessing takes long


class Roster(Authenticator):  # type: ignore[misc]
    """The names and passwords of the class: host/passwords.py."""

    file = Unicode(help="the file with the class").tag(config=True)

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Returns the name if the password is right, and otherwise None."""
        name, password = data["username"], data["password"]
        # In a thread, because it takes a while by design, and the hub must answer others.
        if await asyncio.to_thread(passwords.knows, Path(self.file), name, password):
            return name
        await asyncio.sleep(DELAY)
        return None
