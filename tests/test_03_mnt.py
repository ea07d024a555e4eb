"""Step 03: the container has its own filesystem: a mount table, a root, /proc, /sys and
/dev. mount_namespaces(7), pivot_root(2)."""

import os
import pathlib
import random

import pytest
from runtime import (
    MASKED,
    READ_ONLY,
    assert_one_line_error,
    eventually,
    namespace,
    shell,
)

ROOTFS = pathlib.Path("/var/lib/workshop/rootfs")

# The classic way out of a chroot: keep a directory above the new root, then climb.
CHROOT_ESCAPE = """
mkdir "/tmp/x"; chroot "/tmp/x" or die "chroot: $!";
for (1..64) { chdir ".." }
chroot "." or die "chroot: $!"; exec "cat", $ARGV[0];
"""


@pytest.fixture
def host_file(tmp_path_factory):
    """A file on the host that contains a secret."""
    path = pathlib.Path(f"/var/tmp/secret-{random.randint(10**6, 10**7)}")
    path.write_text(f"{random.random()}\n")
    yield path
    path.unlink()


@pytest.fixture
def trap():
    """An empty directory on the host, for a link to point to."""
    path = pathlib.Path(f"/var/tmp/trap-{random.randint(10**6, 10**7)}")
    path.mkdir()
    yield path
    shell(f"rm -rf --one-file-system {path}")


def tree(path):
    """Returns every name below a path, with its type, mode, owner and size."""
    return shell(f"find {path} -printf '%P %y %m %U %G %s\\n' | sort").out


@pytest.mark.told("spec", "spec-order", "spec-images")
@pytest.mark.parametrize("name", ["busybox", "debian"])
def test_root_is_the_image(runtime, name):
    """pivot_root(2): the new root becomes / for all processes of the mount namespace.
    It must be a mount point, so the image is bind-mounted first."""
    inside = runtime.ok("ls", "-A", "/", image=name).split()
    assert sorted(inside) == sorted(os.listdir(ROOTFS / name))


@pytest.mark.told("spec", "swap-why", given=["Debian", "No such file"])
def test_swapping_the_image_swaps_the_system(runtime):
    """pivot_root(2): "another Linux" means other files below /. The kernel stays the
    same."""
    assert "Debian" in runtime.ok("cat /etc/os-release", image="debian")
    result = runtime.run("cat", "/etc/os-release", image="busybox")
    assert result.status != 0 and "No such file" in result.err, result


@pytest.mark.told("spec", "spec-order")
def test_image_can_be_given_as_a_path(runtime, image):
    """mount(2): MS_BIND shows a directory in a second place, and it can be any
    directory."""
    mark = f"mark-{random.random()}"
    (image / mark).touch()
    assert mark in runtime.ok("ls", "/", image=image)
    relative = f"./{image.name}"
    assert mark in runtime.ok("ls", "/", image=relative, popen={"cwd": image.parent})


@pytest.mark.told("spec-order", given=["No such file"])
def test_file_of_the_host_is_out_of_reach(runtime, host_file):
    """pivot_root(2): once the old root is unmounted, no path leads to the host's
    files."""
    result = runtime.run("cat", str(host_file))
    assert result.status == 1 and "No such file" in result.err, result
    assert host_file.read_text() not in result.out
    # The root of a host process does not lead there either.
    result = runtime.run(f"cat /proc/{os.getpid()}/root{host_file}")
    assert result.status == 1 and "No such file" in result.err, result


@pytest.mark.told(
    "spec-order", "escape-why", given=["cat: ", ": No such file or directory"]
)
def test_chroot_escape_finds_no_way_out(runtime, host_file):
    """chroot(2) "does not change the current working directory", so root can climb out.
    pivot_root(2) leaves nothing above to climb to."""
    result = runtime.run("perl", "-e", CHROOT_ESCAPE, str(host_file), image="debian")
    # It climbed as far as it could, and cat found no such file there.
    error = f"cat: {host_file}: No such file or directory\n"
    assert (result.status, result.err) == (1, error), result


@pytest.mark.told("spec-order")
def test_working_directory_is_the_new_root(runtime):
    """chdir(2): a working directory in the old root would be a way back to it."""
    assert (
        runtime.ok("pwd; ls -di . / | sed 's/ *\\([0-9]*\\).*/\\1/' | uniq | wc -l")
        == "/\n1\n"
    )


@pytest.mark.told("spec-mounts")
def test_mount_table_has_the_specified_mounts_and_no_others(runtime):
    """proc_pid_mountinfo(5) has one line for each mount. umount(2) with MNT_DETACH
    removes the old root and everything below it."""
    out = runtime.ok("cat", "/proc/self/mountinfo")
    targets = sorted(line.split()[4] for line in out.splitlines())
    devices = [
        f"/dev/{n}" for n in ("full", "null", "random", "tty", "urandom", "zero")
    ]
    expected = {
        "/",
        "/proc",
        "/sys",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/mqueue",
        "/tmp",
    }
    later = {"/sys/fs/cgroup"}  # step 06 adds it
    if runtime.has_covers():
        later |= {*MASKED, *READ_ONLY}
    assert set(targets) - later == expected | set(devices), out
    assert len(targets) == len(set(targets)), out  # no mount hides another


@pytest.mark.told("spec-order")
def test_mount_inside_stays_inside(runtime):
    """mount_namespaces(7): CLONE_NEWNS copies the mount table. But if / is shared, a
    new mount still propagates to the other table, until MS_REC|MS_PRIVATE stops
    that."""
    with runtime.running(cap_add="SYS_ADMIN") as box:
        before = pathlib.Path("/proc/self/mounts").read_text()
        box.ask(
            "mkdir /tmp/here; mount -t tmpfs inside /tmp/here; touch /tmp/here/file"
        )
        assert box.ask("ls /tmp/here") == "file\n"
        assert pathlib.Path("/proc/self/mounts").read_text() == before
        # findmnt, which reads the container's own table, agrees.
        assert shell(f"findmnt -N {box.pid} -n -o SOURCE /tmp/here").out == "inside\n"


@pytest.mark.told("spec-order", "spec-mounts")
def test_mount_made_on_the_host_does_not_appear_inside(runtime, image):
    """mount_namespaces(7): a private mount does not receive the mounts of others
    either. This holds even in the image, on a mount that the host shares."""
    shell(f"mount --bind {image} {image} && mount --make-shared {image}")
    try:
        with runtime.running(image=image, cap_add="SYS_ADMIN") as box:
            before = box.ask("cat /proc/self/mounts; ls /home")
            shell(f"mount -t tmpfs outside {image}/home && touch {image}/home/outside")
            assert os.listdir(image / "home") == ["outside"]
            assert box.ask("cat /proc/self/mounts; ls /home") == before
            # Nothing propagates in the other direction either.
            assert box.ask("mkdir /srv; mount -t tmpfs inside /srv; touch /srv/x") == ""
            assert box.ask("ls /srv") == "x\n"
            outside = image / "srv/x"
            assert not outside.exists()
    finally:
        shell(f"umount -R {image}")


@pytest.mark.told("spec")
def test_mount_namespace_is_new(runtime):
    """mount_namespaces(7): CLONE_NEWNS gives the child its own mount table, a copy of
    the parent's."""
    with runtime.running() as box:
        inside = namespace("mnt", box.pid)
        assert inside != namespace("mnt")
        assert shell(f"lsns -n -t mnt -o NS -p {box.pid}").out.split() == [inside]


@pytest.mark.told("spec-mounts", "proc-empty-why", given=["COMMAND"])
def test_proc_shows_only_the_containers_processes(runtime):
    """proc(5) shows the PID namespace of the process that mounted it, so mount a new
    one."""
    out = runtime.ok("cd /proc; echo [0-9]*; cat /proc/1/cmdline")
    assert out.split("\n")[0].split() == ["1"], out
    with runtime.running() as box:
        names = box.ask("ps -o comm").split()
        assert sorted(names) == ["COMMAND", "ps", "sh"], names
        assert len([n for n in os.listdir("/proc") if n.isdigit()]) > 2


@pytest.mark.told("spec-mounts", given=["Read-only file system"])
def test_sys_is_read_only(runtime):
    """mount(2): MS_RDONLY. /sys shows the host's devices, and writing there would
    change them."""
    # If it is writable, this does no harm: the value stays the same.
    result = runtime.run(
        "read mtu <$1; echo $mtu >$1".replace("$1", "/sys/class/net/lo/mtu")
    )
    assert result.status != 0 and "Read-only file system" in result.err, result
    assert not os.statvfs("/sys").f_flag & os.ST_RDONLY


@pytest.mark.told("spec-mounts")
def test_dev_has_the_usual_devices_and_no_disk(runtime):
    """tmpfs(5): /dev starts empty and gets only what programs expect."""
    out = runtime.ok("cd /dev; for n in *; do echo $n; done").split()
    expected = (
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    )
    assert out == expected.split()


@pytest.mark.told("spec-mounts", given=["No space left", "No such device or address"])
@pytest.mark.also_before
def test_devices_work(runtime):
    """mount(2): MS_BIND works for files as well, so each of the host's devices is
    mounted on an empty file."""
    script = """
    test "$(head -c 8 /dev/zero | tr '\\0' 0)" = 00000000 && echo zero
    echo gone >/dev/null && test -z "$(cat /dev/null)" && echo null
    test $(head -c 99 /dev/urandom | wc -c) = 99 && echo urandom
    test $(head -c 9 /dev/random | wc -c) = 9 && echo random
    dd if=/dev/zero of=/dev/full bs=1 count=1 || echo full
    (: >/dev/tty) || echo tty
    """
    result = runtime.run(script)
    assert result.out.split() == ["zero", "null", "urandom", "random", "full", "tty"], (
        result
    )
    assert "No space left" in result.err, result
    assert "No such device or address" in result.err, result  # no terminal here


@pytest.mark.told("spec-mounts")
@pytest.mark.also_before
def test_links_in_dev_lead_to_the_open_files(runtime):
    """symlink(7): /dev/fd is a link to /proc/self/fd, which always belongs to the
    process that reads it: proc_pid_fd(5)."""
    # The pipes are made inside, because not every user may reopen one of the host's root.
    script = """
    cat <(echo fd)
    echo stdin | cat /dev/stdin
    (echo stdout >/dev/stdout) | cat
    (echo stderr >/dev/stderr) 2>&1 | cat
    """
    out = runtime.ok("bash", "-c", script, image="debian")
    assert out.split() == ["fd", "stdin", "stdout", "stderr"]


@pytest.mark.told("spec-mounts")
def test_container_has_its_own_pseudo_terminals(runtime):
    """pts(4): each mount of devpts has its own terminals, counted from 0. /dev/ptmx is
    a link into it."""
    with runtime.terminal("sh") as terminal:
        terminal.type("tty; ls /dev/pts; stty -echo\n")
        assert terminal.wait_for(r"/dev/pts/(\d+)\r\n")[1] == "0"
        terminal.wait_for(r"^0 +ptmx\r\n")
        terminal.type("exit 3\n")
        assert terminal.status() == 3


@pytest.mark.told("spec-mounts")
def test_container_has_its_own_tmp_shm_and_mqueue(runtime):
    """tmpfs(5), mq_overview(7): each new mount is a separate place, in memory."""
    name = f"file-{random.randint(10**6, 10**7)}"
    with runtime.running() as box:
        for place in ("/tmp", "/dev/shm", "/dev/mqueue"):
            assert box.ask(f"touch {place}/{name} && ls {place}") == f"{name}\n"
            assert not os.path.exists(f"{place}/{name}")
    assert name not in runtime.ok("ls /tmp /dev/shm /dev/mqueue")


@pytest.mark.told("spec-mounts")
@pytest.mark.also_before
def test_ordinary_user_inside_cannot_create_files_in_dev(runtime):
    """tmpfs(5): mode=755. Without it, every user may create files there."""
    script = (
        "touch /dev/mine 2>/dev/null || echo refused; echo x >/dev/null && echo null"
    )
    out = runtime.ok("su", "-s", "/bin/sh", "nobody", "-c", script)
    assert out.split() == ["refused", "null"], out


@pytest.mark.told("spec-mounts")
@pytest.mark.also_before
def test_ordinary_user_inside_can_open_a_terminal(runtime):
    """pts(4): the option ptmxmode=666, because in a new mount no user may open ptmx."""
    script = ": <>/dev/ptmx && echo terminal"
    assert runtime.ok("su", "-s", "/bin/sh", "nobody", "-c", script) == "terminal\n"


@pytest.mark.told("spec-mounts")
def test_mounts_ignore_set_user_id_bits(runtime):
    """mount(2): MS_NOSUID, so a set-user-ID program has no effect outside the image."""
    out = runtime.ok("cat", "/proc/self/mountinfo")
    fields = [line.split() for line in out.splitlines()]
    options = {f[4]: f[5].split(",") for f in fields}
    for target in ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/tmp"):
        assert "nosuid" in options[target], out


@pytest.mark.told("spec", "spec-images", given=["missing-image"])
@pytest.mark.parametrize("name", ["/var/tmp/missing-image", "missing-image"])
def test_missing_image_gives_status_125_and_a_one_line_error(runtime, name):
    """mount(2): ENOENT. The runtime reports it with its own status, and starts no
    command."""
    result = runtime.run("true", "argument", image=name)
    assert_one_line_error(result, "No such file or directory", "missing-image")


@pytest.mark.told("spec", "spec-images")
def test_error_for_a_directory_without_a_slash_says_what_to_type(runtime, image):
    """USAGE: a word without a slash names an image, and a word with one is a path."""
    here = {"cwd": image.parent}
    result = runtime.run("true", "argument", image=image.name, popen=here)
    assert_one_line_error(result, "No such file", f"type ./{image.name}")
    runtime.ok("true", "argument", image=f"./{image.name}", popen=here)


@pytest.mark.told("spec", "spec-images")
def test_image_that_is_a_file_gives_status_125_and_a_one_line_error(runtime):
    """mount(2): ENOTDIR, because a directory can only be mounted on a directory."""
    result = runtime.run("true", "argument", image="/etc/passwd")
    assert_one_line_error(result)


@pytest.mark.told("spec-images")
def test_empty_image_gives_status_127_and_a_one_line_error(runtime, tmp_path):
    """pivot_root(2) works on an empty directory as well. The runtime makes the usual
    directories, but there is no program."""
    result = runtime.run("true", "argument", image=tmp_path)
    assert_one_line_error(result, "true: no such command", status=127)


WORKS = """
test -r /proc/self/status && test -d /sys/kernel && test -c /dev/null &&
echo x >/tmp/x && echo x >/dev/shm/x && echo x >/dev/null && cat /tmp/x"""


@pytest.mark.told("spec-trees", "spec-images")
@pytest.mark.parametrize("gone", ["proc", "sys", "dev", "tmp", "proc sys dev tmp etc"])
def test_directories_that_an_image_lacks_are_made(runtime, image, gone):
    """mkdir(2): an image can come without places to mount on, as many archives do.
    process.attach makes them."""
    shell(f"cd {image}; rm -rf {gone}")
    assert runtime.ok(WORKS, image=image) == "x\n"


@pytest.mark.told("spec-images")
@pytest.mark.parametrize("name", ["proc", "sys", "dev", "tmp"])
def test_directory_of_an_image_can_be_read_only(runtime, image, name):
    """mount(2), MS_RDONLY: nothing needs to be made, so nothing needs to be written."""
    shell(f"chmod 0 {image}/{name}; chmod a-w {image}")
    shell(f"mount --bind {image} {image}; mount -o remount,bind,ro {image}")
    try:
        assert runtime.ok(WORKS, image=image) == "x\n"
    finally:
        shell(f"umount {image}")


@pytest.mark.told("spec-images")
def test_read_only_image_that_lacks_a_directory_gives_a_one_line_error(runtime, image):
    """mkdir(2): EROFS, as with engines. Only from step 07 on there is a layer to write to."""
    shell(f"rmdir {image}/sys; mount --bind {image} {image}")
    shell(f"mount -o remount,bind,ro {image}")
    try:
        result = runtime.run(WORKS, image=image)
        if result.status:
            assert_one_line_error(result, "Read-only file system: '/sys'")
        assert not (image / "sys").exists()
    finally:
        shell(f"umount {image}")


@pytest.mark.told("spec-images")
@pytest.mark.parametrize("name", ["proc", "sys", "dev", "tmp"])
def test_file_instead_of_a_directory_gives_a_one_line_error(runtime, image, name):
    """mkdir(2): EEXIST. Engines refuse such an image, too."""
    shell(f"cd {image}; rm -rf {name}; echo mine >{name}")
    result = runtime.run("echo started", image=image)
    assert_one_line_error(result, f"File exists: '/{name}'")
    assert (image / name).read_text() == "mine\n"


@pytest.mark.told("spec-images")
def test_files_in_dev_and_tmp_do_not_reach_the_image(runtime, image):
    """tmpfs(5): files in /dev and /tmp are written to memory, not to the image."""
    mark = f"mark-{random.random()}"
    (image / mark).touch()
    before = tree(image)
    assert mark in runtime.ok("touch /tmp/x /dev/shm/x; ls /", image=image)
    assert tree(image) == before


WAYS = {"absolute": "", "above the root": "../..", "dangling": ""}


@pytest.mark.told("spec-order", "spec-images")
@pytest.mark.parametrize("way", WAYS)
def test_link_in_an_image_leads_to_a_place_in_the_image(runtime, image, trap, way):
    """symlink(7): a link is resolved in the root of the process that follows it. So the
    host must be detached before anything is attached to the image."""
    before, names = tree(trap), ("proc", "sys", "dev", "tmp")
    # The image has the same path, so the links have a target inside and outside.
    for name in names:
        shell(f"rm -rf {image}/{name}; ln -s {WAYS[way]}{trap}/{name} {image}/{name}")
        if way != "dangling":
            shell(f"mkdir -p {image}{trap}/{name}")
    out = runtime.ok(f"{WORKS} && cat /proc/self/mounts", image=image)
    assert out.startswith("x\n"), out
    for name in names:
        assert f" {trap}/{name} " in out, out
    assert tree(trap) == before, out


@pytest.mark.told("spec-order", "spec-images")
@pytest.mark.parametrize("target", ["/", "..", "/sys/../..", "/proc/self/root"])
def test_link_in_an_image_never_leads_to_the_host(runtime, image, host_file, target):
    """pivot_root(2): until the umount, the host's tree is at /.., and a mount on top of it
    would be removed in its place."""
    for name in "proc", "sys", "dev", "tmp":
        shell(f"cd {image}; rm -rf {name}; ln -s {target} {name}")
        result = runtime.run(f"cat /..{host_file} {host_file}", image=image)
        assert host_file.read_text() not in result.out, result
        assert result.status in (1, 125) and result.err, result
        shell(f"cd {image}; rm {name}; mkdir {name}")


@pytest.mark.told("spec-images")
def test_links_in_a_circle_give_a_one_line_error(runtime, image):
    """symlink(7): ELOOP, or the place cannot be made."""
    shell(f"cd {image}; rm -rf tmp; ln -s tmp tmp")
    result = runtime.run("echo started", image=image)
    assert_one_line_error(result, "'/tmp'")


@pytest.mark.told("spec-order", given=["mine /tmp/mine tmpfs"])
def test_containers_of_one_image_share_no_mounts(runtime):
    """mount_namespaces(7): each container has its own mount table, even if the files
    are the same."""
    with runtime.running(cap_add="SYS_ADMIN") as one, runtime.running() as two:
        assert one.ask("mkdir /tmp/mine; mount -t tmpfs mine /tmp/mine") == ""
        assert "mine /tmp/mine tmpfs" in one.ask("cat /proc/self/mounts")
        assert "mine" not in two.ask("cat /proc/self/mounts; ls /tmp")


@pytest.mark.told("spec-images")
def test_mounts_disappear_when_the_runtime_is_killed(runtime):
    """mount_namespaces(7): a namespace ends with its last process, and its mounts end
    with it."""
    before = pathlib.Path("/proc/self/mounts").read_text()
    with runtime.running(cap_add="SYS_ADMIN") as box:
        pid, inside = box.pid, namespace("mnt", box.pid)
        assert box.ask("mount -t tmpfs x /tmp") == ""
        assert inside in shell("lsns -n -t mnt -o NS").out.split()
        box.kill()
        assert eventually(lambda: not os.path.exists(f"/proc/{pid}"))
        assert inside not in shell("lsns -n -t mnt -o NS").out.split()
        assert pathlib.Path("/proc/self/mounts").read_text() == before
    runtime.sweep()
