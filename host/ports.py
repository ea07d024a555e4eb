"""Ports of 127.0.0.1 that lead into a VM: which ones are free, and which come next."""

from __future__ import annotations

import dataclasses
import socket

from host.errors import LabError


@dataclasses.dataclass(frozen=True)
class Ports:
    """Names the ports of 127.0.0.1 that lead to the VM's ssh and JupyterLab."""

    ssh: int
    web: int


USUAL = Ports(2222, 8888)
ANY = Ports(0, 0)  # the kernel chooses


def free_port(first: int, taken: tuple[int, ...] = ()) -> int:
    """Returns the first free port of 127.0.0.1 from this one on; 0 leaves the choice to
    the kernel."""
    for port in range(first, 65536):
        with socket.socket() as probe:
            # QEMU sets this too, so a connection that has just ended blocks no port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                probe.listen(1)
            except OSError:
                continue
            number: int = probe.getsockname()[1]
            if number not in taken:
                return number
    raise LabError(f"no port of 127.0.0.1 from {first} on is free")


def free_ports(wanted: Ports, move_web_port: bool = True) -> Ports:
    """Returns the wanted ports, or the next free ones. Raises LabError if the port to
    JupyterLab is in use and must not move."""
    web = free_port(wanted.web)
    if web != wanted.web and not move_web_port:
        raise LabError(f"port {wanted.web} is in use on this machine")
    return Ports(free_port(wanted.ssh, taken=(web,)), web)


def next_ports(refused: Ports, error: str) -> Ports:
    """Returns the ports to try next. QEMU names the one that another program has just
    taken: "host forwarding rule 'tcp:127.0.0.1:8888-:8888'"."""
    if f":{refused.web}-" in error:
        return Ports(refused.ssh, refused.web + 1)
    return Ports(refused.ssh + 1, refused.web)
