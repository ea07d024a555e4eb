"""Which facts a finding about a container explains: a check shows no hint that is true but has
nothing to do with the fact that does not hold."""

from __future__ import annotations

import dataclasses

from workshop.facts import Fact

ALL = ""  # a part of every fact's name
SET_UP_BY_NETWORK: tuple[str, ...] = (
    "bridge",
    "internet",
    "dns name",
    "resolv conf",
    "ip address",
)
SET_UP_BY_NETWORK += ("address is in the pool", "network is ready", "veth pair")
SET_UP_BY_NETWORK += (
    "containers reach each other",
    "containers at once have different",
)

# What a finding is about: the facts that it explains. Those are all facts of a step ("step 03"),
# or those with one of these texts in their name, or in the command that failed ("--net"), or a
# sort of change on the host, as tests/runtime.py calls it ("host: mounts").
TOPICS: dict[str, tuple[str, ...]] = {
    "start": (ALL,),
    "tree": (ALL,),
    "IMAGE": (ALL,),
    "--hostname": ("--hostname", "option hostname", "option without its value"),
    "--net": ("--net", "network"),
    "--memory": ("--memory", "memory"),
    "--pids": ("--pids", "pids"),
    "--cpus": ("--cpus", "cpu"),
    "--cap-add": ("--cap-add", "capabilities can be added"),
    "--cap-drop": ("--cap-drop", "capabilities can be added"),
    "options": ("--net bridge", "--memory", "--pids", "--cpus", *SET_UP_BY_NETWORK),
    "CLONE_NEWUTS": ("host name", "domain name", "(uts)", "limit on namespaces"),
    "CLONE_NEWIPC": ("message queue", "(ipc)", "host: message queues"),
    "CLONE_NEWPID": ("step 02", "containers processes"),
    "CLONE_NEWNS": ("step 03", "host: mounts"),
    "CLONE_NEWNET": ("step 04", "host: network devices"),
    "CLONE_NEWUSER": ("step 05", "limit cannot be raised"),
    "CLONE_NEWCGROUP": ("sees its cgroup as the root",),
    "host name": ("host name", "option hostname", "host: host name", "domain name"),
    "propagation": (
        "host: mounts",
        "mount table",
        "mount inside",
        "mount made",
        "root is the image",
    ),
    "root": ("step 03",),
    "old root": ("root is the image", "host is out of reach", "mount table", "escape"),
    "working directory": ("working directory", "escape"),
    "/proc": ("proc shows", "mount table", "lacks are made", "(proc)"),
    "/sys": ("sys is read only", "mount table", "lacks are made", "(sys)"),
    "/dev": (
        "in dev",
        "dev has",
        "devices work",
        "terminal",
        "mount table",
        "lacks are made",
        "(dev)",
    ),
    "/dev/pts": ("terminal", "mount table", "dev has"),
    "/dev/shm": ("shm", "mount table", "dev has", "files in dev", "lacks are made"),
    "/dev/mqueue": ("mqueue", "mount table", "dev has"),
    "/tmp": (
        "own tmp",
        "dev and tmp",
        "mount table",
        "lacks are made",
        "(tmp)",
        "in a tmpfs",
    ),
    "nosuid": ("set user id bits",),
    "read-only": ("sys is read only",),
    "mode=755": ("create files in dev",),
    "ptmxmode=666": ("can open a terminal",),
    "devices": ("devices work", "dev has", "mount table", "lacks are made", "in dev"),
    "links": ("links in dev", "dev has", "pseudo terminals", "open a terminal"),
    "loopback": ("loopback", "same port"),
    "cable": (*SET_UP_BY_NETWORK, "host: network devices"),
    "address": SET_UP_BY_NETWORK,
    "route": ("default network", "internet", "dns name", "address is in the pool"),
    "name servers": ("dns name", "resolv conf"),
    "maps": ("step 05", "belong", "owner"),
    "ids": ("root inside", "ids are mapped", "namespace is new and owns", "files of"),
    "groups": ("groups of the caller",),
    "owners": ("files of", "file written", "protected from each other", "owner"),
    "limits": ("step 06",),
    "memory.max": ("memory", "sees its cgroup", "stress ng", "limit cannot be raised"),
    "memory.swap.max": ("memory", "sees its cgroup", "stress ng"),
    "pids.max": ("pids", "fork bomb"),
    "cpu.max": ("cpu", "stress ng"),
    "/sys/fs/cgroup": ("sees its cgroup", "limit cannot be raised"),
    "overlay": ("step 07",),
    "whiteouts": ("whiteout", "opaque", "can become a layer"),
    "thin layer": ("thin layer", "disk space", "overlay", "upper", "whiteout"),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something that a container lacks, in a sentence."""

    topic: str  # one of TOPICS
    text: str

    def explains(self, fact: Fact) -> bool:
        """Returns whether this can be the reason why a fact does not hold."""
        text = f"step {fact.step}: {fact.name.lower()}\n{fact.command or ''}\n"
        change = "the host is not as it was: {'"
        if fact.happened and fact.happened.startswith(change):
            text += f"host: {fact.happened.removeprefix(change)}"
        return any(part in text for part in TOPICS[self.topic])
