"""Step 05: root inside is an ordinary user outside. user_namespaces(7),
mount_setattr(2)."""

import os
import pathlib
import re

import pytest
from runtime import (
    Runtime,
    assert_one_line_error,
    children,
    eventually,
    namespace,
    shell,
    slowed,
)

ROOTFS = pathlib.Path("/var/lib/workshop/rootfs")


@pytest.fixture
def user(tmp_path):
    """A function that turns a runtime into one that an ordinary user starts. The user
    owns the image at user.image."""
    home = tmp_path / "home"
    home.mkdir()
    shell(f"cp -a {ROOTFS}/busybox {home}/root; chown -R nobody:nogroup {home}")
    shell(f"chmod 755 {tmp_path} {tmp_path.parent} {tmp_path.parent.parent}")
    words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=0,24"]
    words += ["env", f"HOME={home}"]

    def by_user(runtime):
        return Runtime(runtime.path, words)

    by_user.image = home / "root"
    return by_user


def on_disk(path, image, box):
    """Returns where a file is that a running container wrote to /path: in the image, or
    from step 07 on in the thin layer on top."""
    thin = pathlib.Path("/var/lib/workshop/containers", str(box.process.pid), "upper")
    [found] = [root / path for root in (thin, image) if (root / path).exists()]
    return found


@pytest.mark.told("spec", "spec-parts")
def test_root_inside_is_user_100000_outside(runtime):
    """user_namespaces(7): uid_map says which user outside is user 0 inside. Call
    setuid(2) after the map is written."""
    with runtime.running() as box:
        assert box.ask("id -u; id -g").split() == ["0", "0"]
        status = pathlib.Path(f"/proc/{box.pid}/status").read_text()
        for line in ("Uid", "Gid"):
            ids = re.search(rf"^{line}:\s+(.*)$", status, re.MULTILINE)[1].split()
            assert set(ids) == {"100000"}, status
        assert shell(f"stat -c %u /proc/{box.pid}").out == "100000\n"


@pytest.mark.told("spec", "spec-parts")
def test_uid_and_gid_maps_are_as_specified(runtime):
    """user_namespaces(7): a line of uid_map has the first id inside, the first id
    outside, and the number of ids. The parent writes it."""
    with runtime.running() as box:
        for name in ("uid_map", "gid_map"):
            lines = [
                pathlib.Path(f"/proc/{box.pid}/{name}").read_text().split(),
                box.ask(f"cat /proc/self/{name}").split(),
            ]
            assert lines == [["0", "100000", "65536"]] * 2


@pytest.mark.told("spec-parts")
def test_command_waits_until_its_ids_are_mapped(runtime):
    """user_namespaces(7): before the map is written, setuid(2) fails with EINVAL, and a
    program that starts loses all capabilities. So child waits for parent:
    process.await_parent()."""
    found = slowed(runtime).ok("id -u; cat /proc/self/uid_map").split()
    assert found == ["0", "0", "100000", "65536"]


@pytest.mark.told("spec", "spec-parts")
def test_user_namespace_is_new_and_owns_the_others(runtime):
    """user_namespaces(7): if one clone(2) creates a user namespace and others, it owns
    the others. So root inside has power over them."""
    with runtime.running() as box:
        inside = namespace("user", box.pid)
        assert inside != namespace("user")
        assert shell(f"lsns -n -t user -o NS -p {box.pid}").out.split() == [inside]
        # The host's nsenter becomes root in there, in all of its namespaces.
        out = shell(
            f"nsenter -t {box.pid} -a id -u; nsenter -t {box.pid} -a hostname"
        ).out
        assert out.split() == ["0", "container"]


@pytest.mark.told("spec", "spec-parts")
def test_files_of_the_image_belong_to_root_inside_and_on_disk(runtime):
    """mount_setattr(2): an idmapped mount shows the owners through the map. Nothing
    changes on disk."""
    assert runtime.ok("stat -c %u:%g /bin /etc/passwd").split() == ["0:0", "0:0"]
    assert os.stat(ROOTFS / "busybox" / "bin").st_uid == 0
    # The map does this, not a chown: inside, the host's own files belong to user nobody.
    assert runtime.ok("stat -c %u /proc/sys /sys").split() == ["65534", "65534"]


@pytest.mark.told("spec")
@pytest.mark.also_before
def test_file_written_inside_has_the_same_owner_on_disk(runtime, image):
    """mount_setattr(2): the map works in both directions, so what root inside writes
    belongs to root on disk."""
    with runtime.running(image=image) as box:
        assert box.ask("touch /roots /users; chown 1000:1001 /users") == ""
        assert box.ask("stat -c %u:%g /roots /users").split() == ["0:0", "1000:1001"]
        for name, ids in (("roots", (0, 0)), ("users", (1000, 1001))):
            found = os.stat(on_disk(name, image, box))
            assert (found.st_uid, found.st_gid) == ids


@pytest.mark.told("spec", given=["cat: /root/file: Permission denied"])
@pytest.mark.also_before
def test_users_inside_are_protected_from_each_other(runtime):
    """user_namespaces(7): 65536 ids are enough for all users of an image. For example,
    apt needs the user _apt, 42."""
    script = """
    echo secret >/root/file; chmod 600 /root/file; chmod 755 /root
    install -d -o _apt /var/tmp/apt
    su -s /bin/bash _apt -c 'id -u; touch /var/tmp/apt/x; stat -c %U /var/tmp/apt/x;
                             cat /root/file'
    rm -r /var/tmp/apt /root/file; chmod 700 /root
    """
    result = runtime.run("bash", "-c", script, image="debian")
    assert result.out.split() == ["42", "_apt"], result
    assert "cat: /root/file: Permission denied" in result.err, result


@pytest.mark.told("spec", given=["Invalid argument"])
def test_id_beyond_the_map_cannot_be_used(runtime):
    """user_namespaces(7): an id that is not in the map cannot be used, so chown(2)
    fails with EINVAL."""
    result = runtime.run("touch /tmp/x; chown 65536 /tmp/x")
    assert result.status != 0 and "Invalid argument" in result.err, result
    runtime.ok("touch /tmp/x; chown 65535 /tmp/x")


@pytest.mark.told("spec", "spec-parts")
def test_groups_of_the_caller_are_dropped(runtime):
    """setgroups(2): otherwise the container's processes would keep the caller's groups,
    such as disk."""
    caller = Runtime(runtime.path, ["setpriv", "--groups", "0,6,24"])
    with caller.running() as box:
        assert box.ask("id -G") == "0\n"
        status = pathlib.Path(f"/proc/{box.pid}/status").read_text()
        assert re.search(r"^Groups:\s*$", status, re.MULTILINE), status


@pytest.mark.told("spec-parts")
def test_device_file_cannot_be_made(runtime):
    """mknod(2) needs CAP_MKNOD in the first user namespace. The container has it only
    in its own: capabilities(7)."""
    result = runtime.run("mknod /tmp/disk b 254 0; ls /tmp")
    error = "mknod: /tmp/disk: Operation not permitted\n"
    assert (result.status, result.out, result.err) == (0, "", error), result


@pytest.mark.told("spec-parts")
def test_disk_cannot_be_mounted(runtime):
    """user_namespaces(7): inside a user namespace, only harmless filesystems such as
    tmpfs and proc can be mounted."""
    result = runtime.run("mkdir /tmp/x; mount -t ext4 /dev/zero /tmp/x; echo inside")
    assert result.out == "inside\n", result
    assert re.search("permission denied|Operation not permitted", result.err), result
    script = "mkdir /tmp/x; mount -t tmpfs x /tmp/x"  # a harmless one is allowed
    runtime.ok(script, cap_add="SYS_ADMIN")


@pytest.mark.told("spec-parts", given=["Operation not permitted"])
def test_clock_of_the_host_cannot_be_set(runtime):
    """capabilities(7): setting the clock needs CAP_SYS_TIME in the first user
    namespace, because there is no other clock."""
    result = runtime.run('echo inside; date -s "$(date "+%Y-%m-%d %H:%M:%S")"')
    assert result.out.startswith("inside\n"), result
    assert "Operation not permitted" in result.err, result


@pytest.mark.told("spec", given=["Permission denied"])
@pytest.mark.parametrize("name", ["kernel/core_pattern", "vm/overcommit_memory"])
def test_kernel_settings_cannot_be_changed(runtime, name):
    """capabilities(7): for the kernel's files in /proc, root inside is user 100000."""
    path = pathlib.Path("/proc/sys", name)
    before = path.read_text()
    # If it is writable, this does no harm: the value stays the same.
    result = runtime.run(f"read value <{path}; echo $value; echo $value >{path}")
    assert result.status != 0 and result.out == before, result
    covered = "Read-only file system" if runtime.has_covers() else ""
    assert (covered or "Permission denied") in result.err, result


@pytest.mark.told("spec-parts", given=["Operation not permitted"])
def test_root_inside_cannot_inspect_or_signal_the_hosts_processes(runtime):
    """ptrace(2): access needs the same user, or a capability over the target. This
    holds even if root inside can see the processes: here it has the container's user
    namespace, but the host's mount and PID namespaces."""
    with runtime.running() as box:
        enter = f"nsenter -t {box.pid} -U -S 0 -G 0"
        assert shell(f"{enter} id -u; {enter} cat /proc/1/comm").lines[0] == "0"
        result = shell(f"{enter} cat /proc/1/environ", check=False)
        error = "cat: /proc/1/environ: Permission denied\n"
        assert (result.status, result.err) == (1, error), result
        result = shell(f"{enter} kill -0 1", check=False)
        assert result.status != 0 and "kill" in result.err, result
        assert "Operation not permitted" in result.err, result


@pytest.mark.told("spec", given=["Permission denied"])
def test_resolv_conf_shared_by_all_containers_cannot_be_written(runtime, network):
    """mount(2): MS_BIND shows a file of the host. Its owner, root outside, is not in
    the map, user_namespaces(7). Until step 04, root inside can write to this file,
    which all containers share."""
    dns = pathlib.Path("/run/workshop/dns")
    before = dns.read_text()
    result = runtime.run("echo inside; echo x >/etc/resolv.conf", net="bridge")
    assert result.status != 0 and result.out == "inside\n", result
    assert "Permission denied" in result.err and dns.read_text() == before, result


@pytest.mark.told("spec-parts")
def test_root_inside_cannot_join_the_hosts_namespaces(runtime):
    """setns(2) needs CAP_SYS_ADMIN in the user namespace that owns the namespace to
    join. The host's namespaces belong to the host's: user_namespaces(7)."""
    with runtime.running() as box:
        enter = f"nsenter -t {box.pid} -U -S 0 -G 0"
        for kind in ("uts", "mnt", "net", "ipc"):
            flag = {"mnt": "mount"}.get(kind, kind)
            # It may join its own namespaces.
            shell(f"{enter} nsenter -t {box.pid} --{flag} true")
            result = shell(f"{enter} nsenter -t 1 --{flag} true", check=False)
            # Up to Debian 12 nsenter opens a file for setns(2), then a pidfd.
            refused = {
                f"nsenter: cannot open /proc/1/ns/{kind}: Permission denied\n",
                "nsenter: reassociate to namespaces failed: Operation not permitted\n",
            }
            assert result.status == 1 and result.err in refused, result


@pytest.mark.told("spec")
def test_ordinary_user_is_root_inside_and_keeps_their_id_outside(runtime, user):
    """user_namespaces(7): a user who is not root may map one id, their own, and can be
    root inside with it."""
    with user(runtime).running(image=user.image, hostname="mine") as box:
        assert box.ask("id -u; hostname; echo $$").split() == ["0", "mine", "1"]
        pid = children(box.process.pid)[0]
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        assert set(re.search(r"Uid:\s+(.*)", status)[1].split()) == {"65534"}, status
        assert box.ask("touch /mine && stat -c %u /mine") == "0\n"
        places = [user.image, *user.image.parent.glob(".workshop/containers/*/upper")]
        found = [place / "mine" for place in places if (place / "mine").exists()]
        assert [os.stat(path).st_uid for path in found] == [65534]


@pytest.mark.told("spec", given=["Invalid argument"])
def test_container_of_an_ordinary_user_has_loopback_only_and_a_single_id(runtime, user):
    """user_namespaces(7): the map has one id, and "deny" must be written to setgroups
    first."""
    runner = user(runtime)
    out = runner.ok(
        "ip -o link | wc -l; cat /proc/self/setgroups", image=user.image, net=None
    )
    assert out.split() == ["1", "deny"]
    result = runner.run("touch /tmp/x; chown 1 /tmp/x", image=user.image)
    assert result.status != 0 and "Invalid argument" in result.err, result


@pytest.mark.told("spec")
def test_ordinary_user_gets_a_one_line_error_for_the_bridge(runtime, user, network):
    """capabilities(7): one end of the cable is on the host, where a user has no
    CAP_NET_ADMIN."""
    user(runtime).ok("true", "argument", image=user.image, net="none")
    result = user(runtime).run("true", "argument", image=user.image, net="bridge")
    assert_one_line_error(result)


@pytest.mark.told("spec")
def test_container_of_an_ordinary_user_leaves_nothing_behind(runtime, user):
    """user_namespaces(7): everything in the container belonged to the user, and ends
    with its last process."""
    with user(runtime).running(image=user.image) as box:
        assert box.ask("touch /x /tmp/x") == ""
        inside = namespace("user", children(box.process.pid)[0])
        assert inside in shell("lsns -n -t user -o NS").out.split()
    assert box.process.returncode == 0
    assert eventually(lambda: inside not in shell("lsns -n -t user -o NS").out.split())
    assert list(user.image.parent.glob(".workshop/containers/*")) == []


@pytest.mark.told("spec")
def test_filesystem_without_idmapped_mounts_gives_a_one_line_error(runtime):
    """mount_setattr(2): EINVAL if the kernel cannot map the owners on a filesystem.
    Here proc serves as such a root filesystem."""
    runtime.ok("true", "argument")
    result = runtime.run("true", "argument", image="/proc/self")
    assert_one_line_error(result, "no idmapped mounts")


@pytest.mark.told("spec-parts")
@pytest.mark.also_before
def test_descriptors_sent_between_parent_and_child_do_not_reach_the_command(runtime):
    """unix(7): SCM_RIGHTS sends open files to another process. close_range(2) closes
    them before the command starts."""
    out = runtime.ok("ls", "/proc/self/fd")
    assert out.split() == ["0", "1", "2", "3"], out  # 3 is ls reading the directory


@pytest.mark.told("spec", "spec-parts", given=["Operation not permitted"])
def test_error_for_a_covered_proc_says_what_covers_it(runtime):
    """user_namespaces(7): a new user namespace may see no more of /proc than its creator
    does. Container engines cover parts of it, so this is no question of root."""
    hide = 'mount --bind /dev/null /proc/meminfo; exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-ec", hide, "sh"]
    result = Runtime(runtime.path, prefix).run("true", "argument")
    line = assert_one_line_error(
        result, "Operation not permitted", "/proc/meminfo is covered"
    )
    assert "sudo" not in line, line
