"""Configures JupyterLab in the lab's VM. The host forwards it to its own 127.0.0.1 only."""

from pathlib import Path

FIRST = "notebooks/00_what_is_a_container.ipynb"

c = get_config()  # noqa: F821
c.IdentityProvider.token = Path("/etc/workshop/token").read_text().strip()
c.ServerApp.ip = "0.0.0.0"  # forwarded ports do not reach the guest's loopback
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.allow_root = True
c.ServerApp.open_browser = False
c.ServerApp.root_dir = "/workshop"
c.ServerApp.allow_remote_access = True
# The lessons use no language servers, and searching for them slows the start.
c.ServerApp.jpserver_extensions = {"jupyter_lsp": False}
c.ServerApp.terminado_settings = {"shell_command": ["/bin/bash", "-l"]}
c.LabApp.extension_manager = "readonly"  # the default one needs the internet
if Path("/workshop", FIRST).exists():
    c.LabApp.default_url = "/lab/tree/" + FIRST
