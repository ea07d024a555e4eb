"""A class on one server: JupyterHub, and for each student a VM of the lab's image.

`./lab classroom up` runs it, on loopback. docs/classroom.md says what is where, and how to
open it to a room. Settings of your own go into .lab/classroom/config.py, which is read last.
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
# So many VMs start at once; the others wait for their turn.
TURNS = asyncio.Semaphore(2 * os.cpu_count())

c = get_config()  # noqa: F821


class Roster(Authenticator):
    """Names and passwords of the class: host/passwords.py."""

    async def authenticate(self, handler, data):
        file, name, password = STATE / "class", data["username"], data["password"]
        # In a thread: it takes a while by design, and the hub has others to answer to.
        if await asyncio.to_thread(passwords.knows, file, name, password):
            return name
        await asyncio.sleep(1)  # so that guessing takes longer than that
        return None


class Seat(LocalProcessSpawner):
    """A VM for each student. host/commands/seat.py starts it, runs the notebook server in it,
    and is the process that the hub looks after; it dies with the hub, and the VM with it."""

    def get_args(self):
        return [self.user.name, str(self.port)]

    def make_preexec_fn(self, name):
        # No student has a user account on this machine: the VM is what separates them.
        return None

    def user_env(self, env):
        return env

    def get_env(self):
        # The address in the VM, to which this machine's port leads.
        where = f"http://0.0.0.0:8888{self.server.base_url}"
        return super().get_env() | {"JUPYTERHUB_SERVICE_URL": where}

    def load_state(self, state):
        """Does nothing: no VM outlives its hub, and another process has its pid by now."""

    @property
    def log_file(self):
        return STATE / "students" / self.user.name / "log"

    def events(self):
        """What the seat has reported so far: a list of dicts."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except FileNotFoundError:  # it waits for its turn
            return []
        found = []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:  # a message of another program
                continue
            if isinstance(event, dict):
                found.append(event)
        return found

    async def start(self):
        """Returns where the server is, or will be in a moment.
        RuntimeError when the VM does not get that far."""
        self.log_file.parent.mkdir(exist_ok=True)
        self.log_file.unlink(missing_ok=True)
        async with TURNS:
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
        """The error that the page shows: what the seat reported last."""
        errors = [event["error"] for event in self.events() if "error" in event]
        text = errors[-1] if errors else "it ended without saying why"
        error = RuntimeError(text)
        error.jupyterhub_message = f"Your VM does not start: {text}"
        return error

    async def progress(self):
        """What the page shows meanwhile."""
        shown = 0
        while True:
            texts = [event["text"] for event in self.events() if "text" in event]
            for text in texts[shown:]:
                shown += 1
                yield {"progress": min(20 * shown, 90), "message": text}
            await asyncio.sleep(0.5)


c.JupyterHub.authenticator_class = Roster
c.Roster.allow_all = True  # everybody in the class
c.JupyterHub.spawner_class = Seat
# setpriv(1): the kernel ends these when the hub is gone, in whatever way.
with_hub = ["setpriv", "--pdeathsig", "TERM"]
c.Seat.cmd = [*with_hub, sys.executable, str(PROJECT / "host"), "seat"]
c.Seat.env_keep = ["PATH", "HOME", "LANG", "LAB_DIR", "LAB_MEMORY", "LAB_CPUS"]
c.Seat.env_keep += ["XDG_RUNTIME_DIR"]
c.Seat.default_url = "/lab/tree/notebooks/00_what_is_a_container.ipynb"
# Seconds: an emulated VM takes a while, and the last of a class has waited for all others.
c.Seat.start_timeout, c.Seat.http_timeout = 1800, 300
c.JupyterHub.concurrent_spawn_limit = 0  # a page shows those who wait why they do

# Each student's pages are of an origin of their own, or what one student's server sends could
# act as another who looks at it. So there is a host name for each: NAME.localhost, here.
c.JupyterHub.bind_url = f"http://127.0.0.1:{PORT}"
c.JupyterHub.subdomain_host = f"http://localhost:{PORT}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{PORT + 81}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{PORT + 1}"
proxy = STATE / "node_modules/.bin/configurable-http-proxy"
c.ConfigurableHTTPProxy.command = [*with_hub, str(proxy)]
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")

c.JupyterHub.db_url = f"sqlite:///{STATE}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")

# VMs that nobody uses make room; what is in them is thrown away, the student's folder stays.
idle = int(
    os.environ.get("CLASSROOM_IDLE", "3600")
)  # seconds, after the page is closed
often = max(10, min(300, idle // 4))
c.JupyterHub.last_activity_interval = often
culler = [*with_hub, sys.executable, "-m", "jupyterhub_idle_culler"]
culler += [f"--timeout={idle}", f"--cull-every={often}"]
c.JupyterHub.services = [{"name": "idle-culler", "command": culler}]
watching = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
c.JupyterHub.load_roles = [
    {"name": "idle-culler", "services": ["idle-culler"], "scopes": watching},
    # Not JupyterHub's admin, who may enter every student's server.
    {
        "name": "teacher",
        "users": sorted(passwords.teachers(STATE / "class")),
        "scopes": ["admin-ui", *watching],
    },
]

if (STATE / "config.py").exists():
    load_subconfig(str(STATE / "config.py"))  # noqa: F821
