"""Step 01: the container has its own host name and its own message queues.
uts_namespaces(7), ipc_namespaces(7)."""

import os
import random
import re

import pytest
from runtime import Runtime, assert_one_line_error, eventually, namespace, shell


@pytest.fixture
def queue():
    """A System V message queue on the host. Yields its id."""
    made = shell("ipcmk -Q").out
    number = re.search(r"id: (\d+)", made)[1]
    yield number
    shell(f"ipcrm -q {number}")


def queues_of_the_host():
    """Returns the lines of the host's list of message queues, without the heading."""
    return open("/proc/sysvipc/msg").read().splitlines()[1:]


def random_name():
    return f"box-{random.randint(10**6, 10**7)}"


@pytest.mark.told("spec")
def test_container_has_a_host_name_of_its_own(runtime):
    """uts_namespaces(7): the host name and the domain name belong to the namespace. A
    new namespace starts with copies, until sethostname(2) changes them."""
    host = os.uname().nodename
    assert runtime.ok("hostname").strip() == "container" != host
    assert os.uname().nodename == host


@pytest.mark.told("spec")
def test_option_hostname_sets_the_host_name(runtime):
    """sethostname(2) sets the name of the caller's UTS namespace, so call it in child,
    before execute."""
    name = random_name()
    assert runtime.ok("hostname", hostname=name).strip() == name
    assert os.uname().nodename != name


@pytest.mark.told("spec")
def test_host_name_changed_inside_stays_inside(runtime):
    """uts_namespaces(7): only the processes in the same namespace see a changed
    name."""
    host, name = os.uname().nodename, random_name()
    with runtime.running(cap_add="SYS_ADMIN") as box:
        assert box.ask(f"hostname {name}; hostname") == f"{name}\n"
        assert os.uname().nodename == host


@pytest.mark.told("spec")
def test_domain_name_changed_inside_stays_inside(runtime):
    """uts_namespaces(7): the namespace isolates two names, the host name and the NIS
    domain name."""
    domain = "/proc/sys/kernel/domainname"
    before, name = shell(f"cat {domain}").out, random_name()
    with runtime.running() as box:
        # The host changes the name: from step 05 on, root inside may not write this file.
        assert box.ask(f"cat {domain}") == before
        assert namespace("uts", box.pid) != namespace("uts")
        assert shell(
            f"nsenter -t {box.pid} -u sh -c 'echo {name} >{domain}; cat {domain}'"
        ).out == (f"{name}\n")
        assert shell(f"cat {domain}").out == before


@pytest.mark.parametrize("kind", ["uts", "ipc"])
@pytest.mark.told("spec")
def test_namespace_is_new(runtime, kind):
    """namespaces(7): two processes with the same number in /proc/PID/ns are in the same
    namespace. CLONE_NEWUTS and CLONE_NEWIPC create new ones."""
    with runtime.running() as box:
        inside = namespace(kind, box.pid)
        assert inside != namespace(kind)
        # lsns agrees.
        listed = shell(f"lsns -n -t {kind} -o NS -p {box.pid}").out.split()
        assert listed == [inside]


@pytest.mark.told("spec")
def test_two_containers_have_two_host_names(runtime):
    """uts_namespaces(7): every clone(2) with CLONE_NEWUTS creates one more
    namespace."""
    names = [random_name(), random_name()]
    with (
        runtime.running(hostname=names[0]) as one,
        runtime.running(hostname=names[1]) as two,
    ):
        assert [box.ask("hostname").strip() for box in (one, two)] == names


@pytest.mark.told("spec")
def test_message_queue_of_the_host_is_invisible(runtime, queue):
    """ipc_namespaces(7): System V queues, semaphores and shared memory are visible only
    in the namespace in which they were created."""
    assert queue in [line.split()[1] for line in queues_of_the_host()]
    out = runtime.ok("cat", "/proc/sysvipc/msg")
    assert len(out.splitlines()) == 1, out  # the heading


@pytest.mark.told("spec")
def test_message_queue_of_the_host_cannot_be_removed(runtime, queue):
    """ipc_namespaces(7): the id of a queue is valid only in the queue's own
    namespace."""
    result = runtime.run("ipcrm", "-q", queue, image="debian")
    assert result.status != 0, result
    assert re.search(
        r"invalid id|Invalid argument|already removed", result.out + result.err
    ), result
    assert queue in [line.split()[1] for line in queues_of_the_host()]


@pytest.mark.told("spec", given=["Message queue id: 0"])
def test_message_queue_made_inside_stays_inside_and_ends_with_the_container(runtime):
    """ipc_namespaces(7): the kernel destroys all queues of a namespace when its last
    process ends."""
    before = queues_of_the_host()
    with runtime.running(image="debian") as box:
        made = box.ask("ipcmk -Q")
        assert "id: " in made, made
        assert len(box.ask("cat /proc/sysvipc/msg").splitlines()) == 2
        assert queues_of_the_host() == before
        inside = namespace("ipc", box.pid)
        assert inside in shell("lsns -n -t ipc -o NS").out.split()
    assert eventually(lambda: inside not in shell("lsns -n -t ipc -o NS").out.split())
    assert queues_of_the_host() == before


@pytest.mark.told("spec")
def test_host_name_of_64_bytes_is_accepted(runtime):
    """sethostname(2): a host name has at most 64 bytes."""
    name = "h" * 64
    assert runtime.ok("hostname", hostname=name).strip() == name


@pytest.mark.told("spec-errors")
def test_host_name_of_65_bytes_is_refused(runtime):
    """sethostname(2): EINVAL. The parent reports the child's error, in one line."""
    result = runtime.run("hostname", hostname="h" * 65)
    assert_one_line_error(result, "at most 64 bytes")


@pytest.mark.told("spec", "spec-errors")
def test_option_without_its_value_is_refused(runtime):
    """process.main reads the command line as USAGE describes it: "[--hostname NAME]"
    takes a value, as in getopt(1)."""
    result = runtime.run("run", "--hostname", raw=True)
    assert_one_line_error(result, "--hostname needs a value")


@pytest.mark.told("spec-errors")
def test_ordinary_user_gets_an_error_that_says_what_to_do(runtime, tmp_path):
    """clone(2): EPERM for a user who may not create the namespaces. Up to step 04 that
    needs root, capabilities(7). From step 05 on it does not, but the kernel refuses it
    in a chroot, which is where this test puts the user."""
    image = tmp_path / "root"
    shell(f"cp -a /var/lib/workshop/rootfs/busybox {image}; chown -R nobody {tmp_path}")
    shell(f"chmod 755 {tmp_path} {tmp_path.parent} {tmp_path.parent.parent}")
    script = 'mount --rbind / /mnt; exec chroot /mnt "$@"'
    user = ["unshare", "--mount", "sh", "-ec", script, "sh"]
    user += ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    user += ["env", f"HOME={tmp_path}"]
    result = Runtime(runtime.path, user).run("hostname", image=image, hostname="mine")
    assert_one_line_error(result, "Operation not permitted", "sudo")


@pytest.mark.told("spec-errors")
def test_kernel_limit_on_namespaces_gives_a_one_line_error(runtime):
    """namespaces(7): ENOSPC, because of a limit in /proc/sys/user."""
    # A new user namespace has its own limit, so nothing else is affected.
    script = 'echo 0 >/proc/sys/user/max_uts_namespaces; exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    result = Runtime(runtime.path, prefix).run("hostname")
    assert_one_line_error(result, "max_*_namespaces")
