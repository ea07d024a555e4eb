"""Configures JupyterHub for a class on one server: each student gets a VM of the lab's image.

`./lab classroom up` runs the hub, on loopback. docs/classroom.md describes it, and says how to
open it to a room. Put your own settings into .lab/classroom/config.py, which is read last.
"""

import asyncio
import json
import os
import pathlib
import subprocess
import sys

from jupyterhub.auth import Authenticator
from jupyterhub.spawner import LocalProcessSpawner

PROJECT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))
from host import passwords

STATE = pathlib.Path(os.environ["CLASSROOM_STATE"])
PORT = int(os.environ["CLASSROOM_PORT"])
# Limits how many VMs start at the same time; the others wait for their turn.
STARTS = asyncio.Semaphore(2 * os.cpu_count())

c = get_config()  # noqa: F821


class Roster(Authenticator):
    """Checks the names and passwords of the class, with host/passwords.py."""

    async def authenticate(self, handler, data):
        file, name, password = STATE / "class", data["username"], data["password"]
        # In a thread, because the check is slow by design and the hub must answer others.
        if await asyncio.to_thread(passwords.knows, file, name, password):
            return name
        await asyncio.sleep(1)  # slows down guessing
        return None


class Seat(LocalProcessSpawner):
    """Gives each student a VM. The hub starts host/commands/seat.py, which runs the VM and the
    notebook server in it. That process dies with the hub, and the VM dies with that process."""

    def get_args(self):
        return [self.user.name, str(self.port)]

    def make_preexec_fn(self, name):
        # Students have no user accounts on this machine, because the VMs separate them.
        return None

    def user_env(self, env):
        return env

    def get_env(self):
        # The address inside the VM, to which this machine forwards a port.
        where = f"http://0.0.0.0:8888{self.server.base_url}"
        return super().get_env() | {"JUPYTERHUB_SERVICE_URL": where}

    def load_state(self, state):
        """Does nothing, because no VM outlives its hub, and its pid may be another process's
        now."""

    @property
    def log_file(self):
        return STATE / "students" / self.user.name / "log"

    def events(self):
        """Returns what seat.py has reported so far, as a list of dicts."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except FileNotFoundError:  # it is still waiting for its turn
            return []
        found = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # another program's message
                continue
            if isinstance(event, dict):
                found.append(event)
        return found

    async def start(self):
        """Starts the VM. Returns the address at which the server is, or will be in a moment.
        Raises RuntimeError if the VM does not start."""
        self.log_file.parent.mkdir(exist_ok=True)
        self.log_file.unlink(missing_ok=True)
        async with STARTS:
            with self.log_file.open("wb") as log:
                self.popen_kwargs = {
                    "stdin": subprocess.DEVNULL,
                    "stdout": log,
                    "stderr": subprocess.STDOUT,
                }
                address = await super().start()
            while not any(event.get("ready") for event in self.events()):
                if await self.poll() is not None:
                    raise self.failure()
                await asyncio.sleep(0.2)
        return address

    def failure(self):
        """Returns the error that the page shows: the last one that seat.py reported."""
        errors = [event["error"] for event in self.events() if "error" in event]
        text = errors[-1] if errors else "it ended without an error message"
        error = RuntimeError(text)
        error.jupyterhub_message = f"Your VM did not start: {text}"
        return error

    async def progress(self):
        """Yields the messages that the page shows while the VM starts."""
        shown = 0
        while True:
            texts = [event["text"] for event in self.events() if "text" in event]
            for text in texts[shown:]:
                shown += 1
                yield {"progress": min(20 * shown, 90), "message": text}
            await asyncio.sleep(0.5)


c.JupyterHub.authenticator_class = Roster
c.Roster.allow_all = True  # everyone who has a password
c.JupyterHub.spawner_class = Seat
# setpriv(1) makes the kernel end these processes when the hub ends, for whatever reason.
with_hub = ["setpriv", "--pdeathsig", "TERM"]
c.Seat.cmd = [*with_hub, sys.executable, str(PROJECT / "host"), "seat"]
c.Seat.env_keep = ["PATH", "HOME", "LANG", "LAB_DIR", "LAB_MEMORY", "LAB_CPUS"]
c.Seat.env_keep += ["XDG_RUNTIME_DIR"]
c.Seat.default_url = "/lab/tree/notebooks/00_what_is_a_container.ipynb"
# Seconds. An emulated VM takes a while, and the last student waits for all the others.
c.Seat.start_timeout, c.Seat.http_timeout = 1800, 300
c.JupyterHub.concurrent_spawn_limit = 0  # no error: STARTS makes them wait

# Each student's server needs an origin of its own. Otherwise a page from one student's server
# could act as another student who looks at it. So each server has its own host name, here
# NAME.localhost.
c.JupyterHub.bind_url = f"http://127.0.0.1:{PORT}"
c.JupyterHub.subdomain_host = f"http://localhost:{PORT}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{PORT + 81}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{PORT + 1}"
proxy = STATE / "node_modules/.bin/configurable-http-proxy"
c.ConfigurableHTTPProxy.command = [*with_hub, str(proxy)]
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")

c.JupyterHub.db_url = f"sqlite:///{STATE}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")

# The hub stops a VM that no one uses for a while, and throws its disk away; the student's
# directory stays. Seconds after its page was closed:
idle = int(os.environ.get("CLASSROOM_IDLE", "3600"))
interval = max(10, min(300, idle // 4))
c.JupyterHub.last_activity_interval = interval
culler = [*with_hub, sys.executable, "-m", "jupyterhub_idle_culler"]
culler += [f"--timeout={idle}", f"--cull-every={interval}"]
c.JupyterHub.services = [{"name": "idle-culler", "command": culler}]
watching = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
c.JupyterHub.load_roles = [
    {"name": "idle-culler", "services": ["idle-culler"], "scopes": watching},
    # Teachers are not admins of JupyterHub, because an admin can enter every student's server.
    {
        "name": "teacher",
        "users": sorted(passwords.teachers(STATE / "class")),
        "scopes": ["admin-ui", *watching],
    },
]

if (STATE / "config.py").exists():
    load_subconfig(str(STATE / "config.py"))  # noqa: F821
