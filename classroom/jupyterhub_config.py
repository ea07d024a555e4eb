"""A class on one server: JupyterHub, and for each student a VM of the lab's image.

`./lab classroom up` runs it, on the loopback interface, with the project on Python's path.
docs/classroom.md says what is where, and how to open the hub to a room. Your own settings go
into .lab/classroom/config.py, which is read last.
"""

import os
import pathlib
import sys

from classroom.roster import Roster
from classroom.seat import Seat
from host import passwords

PROJECT = pathlib.Path(__file__).resolve().parent.parent
STATE = pathlib.Path(os.environ["CLASSROOM_STATE"])
PORT = int(os.environ["CLASSROOM_PORT"])

c = get_config()  # type: ignore[name-defined]  # noqa: F821 - JupyterHub defines it

c.JupyterHub.authenticator_class = Roster
c.Roster.file = str(STATE / "class")
c.Roster.allow_all = True  # everybody in the class
c.JupyterHub.spawner_class = Seat
c.Seat.students = str(STATE / "students")
# setpriv(1): the kernel kills these when the hub ends, no matter how it ends.
with_hub = ["setpriv", "--pdeathsig", "TERM"]
c.Seat.cmd = [*with_hub, sys.executable, str(PROJECT / "host"), "seat"]
c.Seat.env_keep = ["PATH", "HOME", "LANG", "LAB_DIR", "LAB_MEMORY", "LAB_CPUS"]
c.Seat.env_keep += ["XDG_RUNTIME_DIR"]
c.Seat.default_url = "/lab/tree/notebooks/00_what_is_a_container.ipynb"
# Seconds. An emulated VM takes a while, and the last student waits for all the others.
c.Seat.start_timeout, c.Seat.http_timeout = 1800, 300
c.JupyterHub.concurrent_spawn_limit = 0  # a page explains the wait to the students

# The pages of each student have their own origin, which means their own host name, here
# NAME.localhost. Otherwise, a page from one student's server could act as anybody who opens it.
c.JupyterHub.bind_url = f"http://127.0.0.1:{PORT}"
c.JupyterHub.subdomain_host = f"http://localhost:{PORT}"
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{PORT + 81}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{PORT + 1}"
proxy = STATE / "node_modules/.bin/configurable-http-proxy"
c.ConfigurableHTTPProxy.command = [*with_hub, str(proxy)]
c.ConfigurableHTTPProxy.pid_file = str(STATE / "proxy.pid")

c.JupyterHub.db_url = f"sqlite:///{STATE}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(STATE / "cookie_secret")

# VMs that nobody uses are stopped, to make room. Their contents are lost, but the student's
# directory stays. Seconds after the page is closed:
idle = int(os.environ.get("CLASSROOM_IDLE", "3600"))
often = max(10, min(300, idle // 4))
c.JupyterHub.last_activity_interval = often
culler = [*with_hub, sys.executable, "-m", "jupyterhub_idle_culler"]
culler += [f"--timeout={idle}", f"--cull-every={often}"]
c.JupyterHub.services = [{"name": "idle-culler", "command": culler}]
watching = ["list:users", "read:users:activity", "read:servers", "delete:servers"]
c.JupyterHub.load_roles = [
    {"name": "idle-culler", "services": ["idle-culler"], "scopes": watching},
    # A teacher is not an admin of JupyterHub, who may enter every student's server.
    {
        "name": "teacher",
        "users": sorted(passwords.teachers(STATE / "class")),
        "scopes": ["admin-ui", *watching],
    },
]

if (STATE / "config.py").exists():
    load_subconfig(str(STATE / "config.py"))  # type: ignore[name-defined]  # noqa: F821
