"""What is seen of a fact that does not hold, and its usual cause: for mistakes that the container
of diagnose.py does not show, because it is started by root, from an image with a name, and only
for a moment."""

from __future__ import annotations

import dataclasses
import re

from workshop.facts import Fact
from workshop.refusals import ALL_REFUSED, FILTERED, NO_EXIT


@dataclasses.dataclass(frozen=True)
class Symptom:
    """A symptom of a mistake."""

    fact: str  # a part of the fact's name, in lower case
    seen: str  # a pattern for what has happened, or what the runtime has printed
    cause: str
    command: str = ""  # a pattern for the command that failed
    step: str = ""  # the step whose suite has the fact; "": any


# The command: the runtime itself has reported no error, and something has ended.
RAN = r"^(?!status 12[567]|nothing came back)"
SYMPTOMS = [
    Symptom(
        "",  # of any fact, because an earlier suite is the first to see it
        f"^status {FILTERED} ",
        "the filter ends every program. Is it (EQUAL, 1, 0, linux.AUDIT_ARCH)? If the architecture "
        "is this machine's, the filter must skip the answer KILL, which comes next.",
    ),
    Symptom(
        "",  # of any fact, because an earlier suite is the first to see it
        rf"^status ({'|'.join(map(str, NO_EXIT))})\b",
        ALL_REFUSED,
    ),
    Symptom(
        "",  # of any fact, because an earlier suite is the first to see it
        "capset: Operation not permitted",
        "a process can keep only what it still has, and os.setuid takes everything away unless "
        "linux.prctl(linux.PR_SET_KEEPCAPS, 1) comes before it.",
    ),
    Symptom(
        "",  # as above
        "prctl: Operation not permitted",
        "PR_CAPBSET_DROP needs CAP_SETPCAP, so it comes before os.setuid. PR_CAP_AMBIENT_RAISE "
        "needs a capability that is inheritable, too: the third argument of linux.capset.",
    ),
    Symptom(
        "capabilities",
        "'NoneType'",
        "write [--cap-add CAPABILITY,...] [--cap-drop CAPABILITY,...] in USAGE, word for word: then "
        "args.cap_add and args.cap_drop are sets, and empty without the options.",
        step="09",
    ),
    Symptom(
        "",  # of any fact
        "object cannot be interpreted as an integer",
        "parent must return what process.wait returns, which is the command's exit status.",
    ),
    Symptom(
        "exits with the status of its command",
        r"^status (?!12[567])",
        "parent must return what process.wait returns, which is the command's exit status.",
    ),
    Symptom(
        "image can be given as a path",
        "",
        "a relative path counts from the working directory of the process that uses it, so "
        "child must not call os.chdir before it has mounted the image.",
        command=r"container\.py run (--\S+ \S+ )*\./",
    ),
    Symptom(
        "missing bridge says what to type",
        r"^'(?!.*sudo steps/network\.sh on).*workshop0",
        "process.run(..., hint=...) adds a text to the tool's own error: say there what to type.",
    ),
    Symptom(
        "address is in the pool of network sh",
        r"100\.64\.",
        "the first two numbers of the address and of the gateway come from "
        "/run/workshop/pool, which process.read returns.",
    ),
    Symptom(
        "without a network has loopback only",
        "eth0|ip link add|Cannot find device",
        "with --net none, parent must not connect the container, and child needs no name "
        "servers.",
    ),
    Symptom(
        "ordinary user",
        r"setgroups|line \d+: Operation not permitted",
        "an ordinary user may not call os.setgroups: call it only if BY_ROOT.",
        command="^setpriv --reuid=nobody",
    ),
    Symptom(
        "ordinary user has loopback only",
        "ip link add",
        "an ordinary user cannot connect a cable on the host: without --net, give the bridge "
        "only to root, and none to others.",
    ),
    Symptom(
        "ordinary user can use layers",
        "/var/lib/workshop",
        "an ordinary user may not use /var/lib/workshop: their images and containers are in "
        "~/.workshop.",
    ),
    Symptom(
        "memory hog is killed at its limit",
        "stderr is not one line",
        "if memory.events of the cgroup counts an oom_kill after process.wait, parent must say "
        "so, with process.complain.",
    ),
    Symptom(
        "cgroup is removed with the container",
        " exists",
        "process.temporary_directory(CGROUPS, os.rmdir, mode=0o755) makes a directory and "
        "removes it at the end.",
    ),
    Symptom(
        "thin layer is removed with the container",
        " exists",
        "process.temporary_directory makes the container's own directory. At the end it "
        "calls the function that you give it, and process.remove_tree removes the whole tree.",
    ),
    Symptom(
        "app finds its interpreter",
        "missing|no such command|No such file",
        "every line of the image's file is a layer, and lowerdir= needs every layer.",
    ),
    Symptom(
        "top one wins",
        r"^\['(middle|bottom)'",
        "lowerdir= takes the top layer first, as the image's file does.",
    ),
    Symptom(
        "of the image",
        "COMMAND is missing",
        "the command is optional now: write [COMMAND...] in USAGE.",
        step="08",
    ),
    Symptom(
        "without a config",
        r"origins/\S*: No such file|No such file.*origins/",
        "an image that was not pulled has no file in origins, and a path has no name. Neither has "
        "a config, so use {}.",
        step="08",
    ),
    Symptom(
        "",
        "NoneType",
        "each key of a config can be missing or None: use config.get(KEY) or [].",
        step="08",
    ),
    Symptom(
        "descriptor",
        "",
        "os.path.realpath reads a link in /proc/self/fd as text. Call it for WorkingDir, after "
        "enter_root, before anything else follows the path.",
        step="08",
    ),
    Symptom(
        "working directory is that of the image",
        "No such file or directory",
        "make the directory first, with os.makedirs(directory, exist_ok=True).",
        step="08",
    ),
    Symptom(
        "user is that of the image",
        "Operation not permitted",
        "only root may set groups and ids: first the groups, then the group, and the user last. "
        "linux.capset (lesson 9) comes after them.",
        step="08",
    ),
    Symptom(
        "user is that of the image",
        "no such user|no such group",
        "process.find_user reads /etc/passwd of what is / at the time: call it after enter_root.",
        step="08",
    ),
    Symptom(
        "user of the image has no capabilities",
        "",
        "os.setuid(user.uid) must come last: with it the kernel takes away all capabilities.",
        step="08",
    ),
    Symptom(
        "",
        r"line \d+: Operation not permitted",
        "os.setgroups, os.setgid and os.setuid need CAP_SETGID and CAP_SETUID: call linux.capset "
        "after os.setuid.",
        step="09",
    ),
    Symptom(
        "eleven capabilities",
        RAN,
        "linux.capset sets what the process has now. What no program can have ever again is in the "
        "bounding set: linux.prctl(linux.PR_CAPBSET_DROP, linux.CAP[name]), for each name.",
        step="09",
    ),
    Symptom(
        "user of the image has",
        "permitted[^;]* too many",
        "users other than root keep only what --cap-add names: args.capabilities & args.cap_add.",
        step="09",
    ),
    Symptom(
        "user of the image has exactly",
        RAN,
        "a program that starts as another user than root keeps only ambient capabilities: "
        "linux.prctl(linux.PR_CAP_AMBIENT, linux.PR_CAP_AMBIENT_RAISE, linux.CAP[name]).",
        step="09",
    ),
    Symptom(
        "set user id bit gives nothing",
        RAN,
        "linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1) makes such a bit have no effect.",
        step="09",
    ),
    Symptom(
        "settings of the kernel are read only",
        RAN,
        'attach each place to itself, read-only: linux.open_tree(path, "ro") is the tree.',
        step="09",
    ),
    Symptom(
        "places about the machine are empty",
        RAN,
        "cover them after /proc and /sys are attached, which otherwise hide the covers.",
        step="09",
    ),
    Symptom(
        "system calls of the table are refused",
        RAN,
        "each call takes a question and an answer: (EQUAL, 0, 1, number), (RETURN, 0, 0, EPERM). If "
        "the answer is yes, no instruction is skipped, and if it is no, one.",
        step="10",
    ),
    Symptom(
        "newer than the filter",
        RAN,
        "the filter's second question is whether the number is GREATER than "
        'linux.SYSCALL["fchmodat2"]. If so, its answer is ENOSYS.',
        step="10",
    ),
    Symptom(
        "number of another machine",
        RAN,
        "the same number means another call in a 32-bit program, so the filter's first question "
        "is whether ARCHITECTURE is linux.AUDIT_ARCH. If not, its answer is KILL.",
        step="10",
    ),
    Symptom(
        "capability brings its system calls back",
        RAN,
        "a call is refused only to containers that lack the capability of its row.",
        step="10",
    ),
    Symptom(
        "clone3 looks like",
        RAN,
        "answer clone3 with ENOSYS unless the container has SYS_ADMIN, because its flags are out of "
        "the filter's sight. The C library then uses clone.",
        step="10",
    ),
    Symptom(
        "child in new namespaces is refused",
        RAN,
        "the flags of clone are its FIRST_ARGUMENT: load them, and refuse the call if they have "
        "ANY_BIT of NAMESPACES.",
        step="10",
    ),
    Symptom(
        "programs of images work",
        RAN,
        "clone is also how a program forks: refuse it only with a flag of NAMESPACES, and answer "
        "clone3 with ENOSYS.",
        step="10",
    ),
]


USUAL = {  # if the container lacks nothing: the part of a fact's name, its only likely cause
    "link in an image": (
        "a link in the image may lead to the host as long as the old root is there: attach "
        "nothing to the image before the umount, and then use process.attach."
    ),
    "command waits until its network is ready": (
        "child must call process.await_parent(), which returns when parent calls "
        "process.wait(): then the network is ready."
    ),
    "without limits gets no cgroup": (
        "parent makes a cgroup only if one of the limits is given."
    ),
    "sees its cgroup as the root": (
        "a cgroup namespace takes the cgroup of the moment in which it is made for its root, so "
        "the child must be born in the cgroup: process.start(..., cgroup=cgroup)."
    ),
    "resolv conf inside does not change": (
        "show the container network.sh's file, /run/workshop/dns, not the host's own."
    ),
}


def cause(fact: Fact) -> str | None:
    """Returns the usual cause of what is seen of a fact, or None if it is not a known one."""
    seen = f"{fact.happened or ''}\n{fact.said or ''}"
    for symptom in SYMPTOMS:
        fits = re.search(symptom.seen, seen) and re.search(
            symptom.command, fact.command or ""
        )
        ours = symptom.step in ("", fact.step) and symptom.fact in fact.name.lower()
        if ours and fits:
            return symptom.cause
    return None


def usual_cause(fact: Fact) -> str | None:
    """Returns why a fact does not hold although the container lacks nothing, or None if that
    can have several causes."""
    causes = (cause for part, cause in USUAL.items() if part in fact.name.lower())
    return next(causes, None)
