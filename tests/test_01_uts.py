"""Step 01: a host name, and message queues, of its own. uts_namespaces(7),
ipc_namespaces(7)."""

import os
import random
import re

import pytest
from runtime import Runtime, namespace, shell


@pytest.fixture
def queue():
    """A System V message queue of the host's: its id."""
    made = shell("ipcmk -Q").out
    number = re.search(r"id: (\d+)", made)[1]
    yield number
    shell(f"ipcrm -q {number}")


def random_name():
    return f"box-{random.randint(10**6, 10**7)}"


def test_container_has_a_host_name_of_its_own(runtime):
    """uts_namespaces(7): host name and domain name are the namespace's. A new one
    starts as a copy, until sethostname(2)."""
    host = os.uname().nodename
    assert runtime.ok("hostname").strip() == "container" != host
    assert os.uname().nodename == host


def test_host_name_is_the_one_asked_for(runtime):
    """sethostname(2) sets the name of the caller's UTS namespace: call it in child,
    before execute."""
    name = random_name()
    assert runtime.ok("hostname", hostname=name).strip() == name
    assert os.uname().nodename != name


def test_host_name_changed_inside_stays_inside(runtime):
    """uts_namespaces(7): a changed name is seen by the processes of that namespace, and
    by no other."""
    host, name = os.uname().nodename, random_name()
    with runtime.running() as box:
        assert box.ask(f"hostname {name}; hostname") == f"{name}\n"
        assert os.uname().nodename == host


def test_domain_name_changed_inside_stays_inside(runtime):
    """uts_namespaces(7): it isolates two names, the host's and the NIS domain's."""
    domain = "/proc/sys/kernel/domainname"
    before, name = shell(f"cat {domain}").out, random_name()
    with runtime.running() as box:
        # Not by writing the file: from step 05 it belongs to the host's root.
        out = box.ask(f"cat {domain}; dnsdomainname {name} 2>&1; hostname -F /dev/null")
        assert out.startswith(before), out
        assert namespace("uts", box.pid) != namespace("uts")
        assert shell(
            f"nsenter -t {box.pid} -u sh -c 'echo {name} >{domain}; cat {domain}'"
        ).out == (f"{name}\n")
        assert shell(f"cat {domain}").out == before


@pytest.mark.parametrize("kind", ["uts", "ipc"])
def test_namespace_is_new(runtime, kind):
    """namespaces(7): two processes with the same number in /proc/PID/ns are in the same
    namespace. CLONE_NEWUTS and CLONE_NEWIPC make new ones."""
    with runtime.running() as box:
        inside = namespace(kind, box.pid)
        assert inside != namespace(kind)
        # lsns agrees.
        listed = shell(f"lsns -n -t {kind} -o NS -p {box.pid}").out.split()
        assert listed == [inside]


def test_two_containers_have_two_host_names(runtime):
    """uts_namespaces(7): every clone(2) with CLONE_NEWUTS makes one more namespace."""
    names = [random_name(), random_name()]
    with (
        runtime.running(hostname=names[0]) as one,
        runtime.running(hostname=names[1]) as two,
    ):
        assert [box.ask("hostname").strip() for box in (one, two)] == names


def test_message_queue_of_the_host_is_invisible(runtime, queue):
    """ipc_namespaces(7): System V queues, semaphores and memory are seen in the
    namespace that they were made in, and nowhere else."""
    assert re.search(
        rf"^ *-?\d+ +{queue} ", open("/proc/sysvipc/msg").read(), re.MULTILINE
    )
    out = runtime.ok("cat", "/proc/sysvipc/msg")
    assert len(out.splitlines()) == 1, out  # the heading


def test_message_queue_of_the_host_cannot_be_removed(runtime, queue):
    """ipc_namespaces(7): the number of a queue means something in its own namespace
    only."""
    result = runtime.run("ipcrm", "-q", queue, image="debian")
    assert result.status != 0, result
    assert re.search(
        r"invalid id|Invalid argument|already removed", result.out + result.err
    ), result
    assert shell(f"ipcs -q -i {queue}").status == 0


def test_message_queue_made_inside_stays_inside_and_ends_with_it(runtime):
    """ipc_namespaces(7): with the last process of a namespace all its queues are
    destroyed."""
    with runtime.running(image="debian") as box:
        made = box.ask("ipcmk -Q")
        assert "id: " in made, made
        assert len(box.ask("cat /proc/sysvipc/msg").splitlines()) == 2
        assert len(open("/proc/sysvipc/msg").readlines()) == 1


def test_longest_host_name_has_64_bytes(runtime):
    """sethostname(2): a host name has at most 64 bytes."""
    name = "h" * 64
    assert runtime.ok("hostname", hostname=name).strip() == name


def test_host_name_of_65_bytes_is_refused(runtime):
    """sethostname(2): EINVAL. The child's error is told by its parent, in one line."""
    result = runtime.run("hostname", hostname="h" * 65)
    assert result.status == 125 and result.out == "", result
    assert len(result.err.splitlines()) == 1 and "at most 64 bytes" in result.err, (
        result
    )


def test_option_without_its_value_is_refused(runtime):
    """USAGE is what process.main reads the command line by: "[--hostname NAME]", as in
    getopt(1)."""
    result = runtime.run("run", "--hostname", raw=True)
    assert result.status == 125 and result.out == "", result
    assert "--hostname needs a value: NAME" in result.err, result


def test_ordinary_user_is_told_what_to_do(runtime, tmp_path):
    """clone(2): EPERM. Up to step 04 namespaces need root, capabilities(7); from step
    05 on they do not."""
    image = tmp_path / "root"
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {image}; chown -R nobody {tmp_path}")
    shell(f"chmod 755 {tmp_path} {tmp_path.parent} {tmp_path.parent.parent}")
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    user += ["env", f"HOME={tmp_path}"]
    result = Runtime(runtime.path, user).run("hostname", image=image, hostname="mine")
    if result.status == 0:
        assert result.out == "mine\n" and "CLONE_NEWUSER" in runtime.path.read_text()
    else:
        assert result.status == 125 and result.out == "", result
        assert len(result.err.splitlines()) == 1, result
        assert "Operation not permitted" in result.err and "sudo" in result.err, result


def test_kernel_without_room_for_the_namespace_is_told_in_one_line(runtime):
    """namespaces(7): ENOSPC, a limit in /proc/sys/user."""
    # Of a user namespace of its own, and so of nobody else.
    script = 'echo 0 >/proc/sys/user/max_uts_namespaces; exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    result = Runtime(runtime.path, prefix).run("hostname")
    assert result.status == 125 and result.out == "", result
    assert len(result.err.splitlines()) == 1, result
    assert "max_*_namespaces" in result.err, result
