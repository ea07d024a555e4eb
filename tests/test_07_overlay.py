"""Step 07: an image is a stack of layers, and a container is one more layer on top. The
kernel's filesystems/overlayfs.

The tests look at overlayfs from both sides: what the container sees, and what is on the
host's disk."""

import concurrent.futures
import hashlib
import os
import pathlib
import random
import re
import stat
import statistics
import time
from collections import namedtuple

import pytest
from runtime import (
    Running,
    Runtime,
    assert_one_line_error,
    eventually,
    shell,
)

STATE = pathlib.Path("/var/lib/workshop")
LAYERS, IMAGES, CONTAINERS = STATE / "layers", STATE / "images", STATE / "containers"

# The layers are only the test's own, the top one first.
Image = namedtuple("Image", "name layers")


def unique(word):
    return f"{word}-{random.randint(10**6, 10**7)}"


def layers_of(name):
    """Returns the directories that an image's file lists."""
    return [pathlib.Path(word) for word in (IMAGES / name).read_text().split()]


def digest(directory):
    """Returns a checksum of everything that makes up the files of a directory: names,
    modes, owners, sizes, times, contents and extended attributes."""
    found = hashlib.blake2b()
    for place, directories, files in os.walk(directory):
        directories.sort()
        for path in [place, *sorted(os.path.join(place, name) for name in files)]:
            status = os.lstat(path)
            words = [path, status.st_mode, status.st_uid, status.st_gid]
            words += [status.st_rdev, status.st_mtime_ns, status.st_nlink]
            if not stat.S_ISDIR(status.st_mode):
                words.append(status.st_size)
            for name in sorted(os.listxattr(path, follow_symlinks=False)):
                words += [name, os.getxattr(path, name, follow_symlinks=False)]
            if stat.S_ISLNK(status.st_mode):
                words.append(os.readlink(path))
            found.update(repr(words).encode())
            if stat.S_ISREG(status.st_mode):
                found.update(pathlib.Path(path).read_bytes())
    return found.hexdigest()


def own(box):
    """Returns the running container's own directory, which contains upper and work."""
    return CONTAINERS / str(box.process.pid)


def used(directory):
    """Returns how many kilobytes a directory takes on disk."""
    return int(shell(f"du -sk {directory}").out.split()[0])


def is_whiteout(path):
    status = os.lstat(path)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def remove(*directories):
    """Removes what a test created. A broken runtime may have left mounts there, perhaps
    of other layers, and these must not be removed as well."""
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    targets = [pathlib.Path(line.split()[1]) for line in reversed(mounts)]
    for target in targets:
        if any(target.is_relative_to(directory) for directory in directories):
            shell(f"umount -l {target}")
    shell(f"rm -rf --one-file-system {' '.join(map(str, directories))}")


@pytest.fixture
def image():
    """An image of one layer, given by its path: a copy of busybox's layer, plus files
    to change."""
    path = LAYERS / unique("test")
    shell(f"mkdir -p {LAYERS}; cp -a {layers_of('busybox')[0]} {path}")
    shell(
        f"cd {path}; mkdir -p d/e; echo old >d/one; echo old >d/e/two; echo old >file"
    )
    yield path
    remove(path)


@pytest.fixture
def build():
    """A function that makes an image of layers on top of busybox. build(script...) runs
    each script in an empty directory, the top layer's script first. Returns the
    Image."""
    made = []

    def build(*scripts):
        image = Image(unique("test"), [])
        made.append(image)
        for number, script in enumerate(scripts):
            path = LAYERS / f"{image.name}-{number}"
            path.mkdir(parents=True)
            image.layers.append(path)
            shell(f"cd {path}; set -e; {script}")
        stack = [*image.layers, *layers_of("busybox")]
        (IMAGES / image.name).write_text("".join(f"{path}\n" for path in stack))
        return image

    yield build
    for image in made:
        (IMAGES / image.name).unlink()
        remove(*image.layers)


@pytest.fixture
def small_disk():
    """A function that mounts a small filesystem, with the given limits, where the thin
    layers are kept."""
    CONTAINERS.mkdir(parents=True, exist_ok=True)
    mounted = []

    def mount(options):
        shell(f"mount -t tmpfs -o {options} small {CONTAINERS}")
        mounted.append(options)

    def umount():
        if mounted:
            shell(f"umount {CONTAINERS}")
            mounted.clear()

    mount.undo = umount
    yield mount
    umount()


# ---- writes


@pytest.mark.told("spec", "spec-child", given=["/ overlay rw", "/new"])
def test_root_is_an_overlay(runtime):
    """The kernel's filesystems/overlayfs, mount(8): lowerdir, upperdir and workdir are
    merged into one tree."""
    with runtime.running() as box:
        assert " / overlay rw" in box.ask("cat /proc/self/mounts")
        # findmnt, which reads the container's own table, agrees.
        seen = shell(f"findmnt -N {box.pid} -n -o FSTYPE,OPTIONS /").out
        assert seen.split()[0] == "overlay" and "upperdir=" in seen
        assert box.ask("touch /new && ls /new") == "/new\n"
        assert (own(box) / "upper" / "new").exists()


@pytest.mark.told(
    "spec",
    given=["old\nmore\n/d:\ne\nf", "/home: No such file", "old\nold\n644:0\n/home"],
)
def test_writes_vanish_with_the_container(runtime, image):
    """mount(8), overlayfs: writes go to upperdir, which belongs to the container and is
    removed with it."""
    script = """
    echo new >/new; echo more >>/file; rm /d/one; chmod 600 /d/e/two
    chown 1:1 /etc/passwd; rm -rf /home; ln -s nowhere /link; mkdir /d/f
    cat /file; ls /d /home
    """
    before = digest(image)
    result = runtime.run(script, image=image)
    assert result.out == "old\nmore\n/d:\ne\nf\n", result
    assert "/home: No such file" in result.err, result
    assert digest(image) == before
    seen = runtime.ok(
        "cat /file /d/one; stat -c %a:%u /d/e/two; ls -d /home", image=image
    )
    assert seen == "old\nold\n644:0\n/home\n"


@pytest.mark.told("spec", "spec-image", given=["not found", "run.sh"])
def test_layers_of_a_named_image_stay_unchanged(runtime):
    """mount(8), overlayfs: nothing is ever written to the lower layers."""
    layers = layers_of("app")[:2]
    before = [digest(layer) for layer in layers]
    script = "echo x >>/usr/local/bin/run.sh; rm -r /usr/lib/python3* /usr/bin/python3*"
    result = runtime.run(f"{script}; run.sh", image="app")
    assert result.status == 127 and "not found" in result.err, result
    assert [digest(layer) for layer in layers] == before
    assert "run.sh" in runtime.ok("run.sh", image="app")


@pytest.mark.told("spec", given=["old\ne\none", "one\none\ne"])
def test_writes_are_invisible_to_other_containers(runtime, image):
    """mount(8), overlayfs: each container has its own upperdir on the same lower
    layers."""
    with runtime.running(image=image) as one, runtime.running(image=image) as two:
        one.ask("echo one >/file; echo one >/mine; rm /d/one")
        assert two.ask("cat /file; ls /d") == "old\ne\none\n"
        two.ask("echo two >/file")
        assert one.ask("cat /file /mine; ls /d") == "one\none\ne\n"


@pytest.mark.told("spec")
def test_container_takes_no_disk_space_before_its_first_write(runtime, build):
    """mount(8), overlayfs: only a changed file is copied, so the start copies
    nothing."""
    image = build("fallocate -l 100M large")
    with runtime.running(image=image.name) as box:
        assert box.ask("stat -c %s /large") == f"{100 << 20}\n"
        assert list((own(box) / "upper").iterdir()) == []
        assert used(own(box)) < 100
        box.ask("head -c 1000000 /dev/zero >/zeros")
        assert 900 < used(own(box)) < 1200


@pytest.mark.told("spec", "spec-parent")
def test_thin_layer_is_removed_with_the_container(runtime, image):
    """process.temporary_directory removes at the end what it created, as rmdir(2) does,
    but with the whole tree."""
    with runtime.running(image=image) as box:
        box.ask("mkdir -m 0 /x; touch /x/y; rm /file")
        place = own(box)
        assert (place / "upper" / "x" / "y").exists()
    assert not place.exists()


@pytest.mark.told("spec-parent")
def test_next_run_removes_the_thin_layer_of_a_killed_runtime(runtime, image):
    """signal(7): a runtime cannot clean up after SIGKILL, so the next run sweeps."""
    with runtime.running(image=image) as box:
        box.ask("echo x >/x")
        place, pid = own(box), box.pid
        box.kill()
        box.process.wait(10)
        assert eventually(lambda: not os.path.exists(f"/proc/{pid}"))
        assert (place / "upper" / "x").exists()
    runtime.sweep()
    assert not place.exists()
    assert runtime.run("cat /x", image=image).status == 1


# ---- overlayfs itself


@pytest.mark.told("whiteout-why", "spec", given=["No such file", "old"])
def test_deleted_file_leaves_a_whiteout(runtime, image):
    """The kernel's filesystems/overlayfs: a device file 0, 0 in upperdir, mknod(2),
    hides the file of the layer below."""
    with runtime.running(image=image) as box:
        assert "No such file" in box.ask("rm /file; cat /file")
        assert is_whiteout(own(box) / "upper" / "file")
        assert (image / "file").read_text() == "old\n"
        assert box.ask("ls /file; echo new >/file; cat /file").endswith("new\n")
        assert (own(box) / "upper" / "file").read_text() == "new\n"


@pytest.mark.told("opaque-why", "spec-child", given=["new"])
def test_recreated_directory_is_opaque(runtime, image):
    """The kernel's filesystems/overlayfs: the attribute overlay.opaque, xattr(7), hides
    the contents of the layers below."""
    with runtime.running(image=image) as box:
        assert box.ask("rm -r /d; mkdir /d; touch /d/new; ls /d") == "new\n"
        upper = own(box) / "upper" / "d"
        assert os.getxattr(upper, "user.overlay.opaque") == b"y"
        assert sorted(os.listdir(image / "d")) == ["e", "one"]


@pytest.mark.told(
    "spec", given=["/moved\n/moved/e\n/moved/e/two\n/moved/one\nold", "old\n/g"]
)
def test_directory_of_a_layer_can_be_renamed(runtime, image):
    """rename(2) fails with EXDEV here, so mv(1) copies the directory. The kernel's
    filesystems/overlayfs."""
    before = digest(image)
    with runtime.running(image=image) as box:
        assert box.ask("mv /d /moved; find /moved | sort; cat /moved/e/two") == (
            "/moved\n/moved/e\n/moved/e/two\n/moved/one\nold\n"
        )
        gone = "ls: /d: No such file or directory\nstatus 1\n"
        assert box.ask("ls -d /d") == gone
        # Rename it back, then rename a directory that no layer has.
        assert box.ask("mv /moved /d; cat /d/one; mkdir /f; mv /f /g; ls -d /g") == (
            "old\n/g\n"
        )
        assert digest(image) == before


@pytest.mark.told("spec", given=["old\nmore\n2", "old\nmore\n1"])
def test_hard_links_made_inside_are_one_file(runtime, image):
    """link(2): the file is copied to upperdir first, and linked there."""
    before = digest(image)
    with runtime.running(image=image) as box:
        box.ask("ln /file /d/link; echo more >>/d/link")
        assert box.ask("cat /file; stat -c %h /file") == "old\nmore\n2\n"
        upper = own(box) / "upper"
        assert os.stat(upper / "file").st_ino == os.stat(upper / "d/link").st_ino
        assert box.ask("rm /file; cat /d/link; stat -c %h /d/link") == "old\nmore\n1\n"
        assert digest(image) == before


@pytest.mark.told("copy-up-why", "spec")
def test_large_file_is_copied_up_once_and_completely(runtime, build):
    """The kernel's filesystems/overlayfs: copy_up happens at the first open(2) for
    writing."""
    image = build(
        "dd if=/dev/zero of=large bs=1M count=40 status=none; "
        "for n in 0 12345678 41943035; do "
        "echo mark | dd of=large bs=1 seek=$n conv=notrunc status=none; done"
    )
    layer = image.layers[0] / "large"
    with runtime.running(image=image.name) as box:
        assert box.ask("tail -c 5 /large >/dev/null; ls /large") == "/large\n"
        assert used(own(box)) < 100  # reading copies nothing
        assert box.ask("echo end >>/large; tail -c 4 /large") == "end\n"
        copy = own(box) / "upper" / "large"
        assert os.stat(copy).st_size == (40 << 20) + 4
        shell(f"cmp -n {40 << 20} {layer} {copy}")
        box.ask("echo end >>/large")
        assert os.stat(copy).st_size == (40 << 20) + 8
    assert os.stat(layer).st_size == 40 << 20


# ---- a stack of layers


@pytest.mark.told("spec", "spec-child")
def test_every_layer_is_visible_and_the_top_one_wins(runtime, build):
    """mount(8), overlayfs: in lowerdir=top:…:bottom the first layer is the top one."""
    image = build(
        "echo top >all; echo top >top; mkdir d; echo top >d/top",
        "echo middle >all; echo middle >two; mkdir d; echo middle >d/middle",
        "echo bottom >all; echo bottom >two; echo bottom >one; mkdir d; echo b >d/bottom",
    )
    out = runtime.ok("cat /all /top /two /one; ls /d; ls /bin/sh", image=image.name)
    assert out.split() == (
        ["top", "top", "middle", "bottom"] + ["bottom", "middle", "top"] + ["/bin/sh"]
    )


@pytest.mark.told(
    "spec-child", given=["gone: No such file", "merged:\nnew\nold\n\nopaque:\nnew"]
)
def test_whiteouts_and_opaque_directories_in_a_layer_take_effect(runtime, build):
    """mount(8), overlayfs: this needs userxattr. Otherwise the attributes are called
    trusted.*, xattr(7), and only root on the host may use them."""
    image = build(
        "mknod gone c 0 0; mkdir opaque merged; touch opaque/new merged/new",
        "echo x >gone; mkdir opaque merged; touch opaque/old merged/old",
    )
    os.setxattr(image.layers[0] / "opaque", "user.overlay.opaque", b"y")
    result = runtime.run("cd /; ls gone opaque merged", image=image.name)
    assert "gone: No such file" in result.err, result
    assert result.out == "merged:\nnew\nold\n\nopaque:\nnew\n", result


@pytest.mark.told("spec-parent")
def test_files_of_every_layer_keep_their_owners(runtime, build):
    """mount_setattr(2): each layer needs the map, and so does the container's own
    directory."""
    image = build("touch a; chown 7:8 a", "touch b; chown 65534:1000 b", "touch c")
    with runtime.running(image=image.name) as box:
        assert box.ask("stat -c %u:%g /a /b /c /bin/sh").split() == (
            ["7:8", "65534:1000", "0:0", "0:0"]
        )
        box.ask("echo >>/a; echo >>/b; touch /d; chown 9:9 /d")
        upper = own(box) / "upper"
        found = [os.stat(upper / name) for name in "abd"]
        assert [(f.st_uid, f.st_gid) for f in found] == [(7, 8), (65534, 1000), (9, 9)]


@pytest.mark.told("spec", "spec-image", given=["/usr/bin/python3", "Debian"])
def test_app_finds_its_interpreter_in_the_layer_below(runtime):
    """mount(8), overlayfs: an image is a list of layers, and app has three."""
    app, python, debian = layers_of("app")
    assert [debian] == layers_of("debian")
    out = runtime.ok("run.sh", "argument", image="app")
    assert "/usr/bin/python3" in out and "Debian" in out and "overlay" in out, out
    # All three are needed: each has a file that the others lack.
    names = ["usr/local/bin/run.sh", "usr/bin/python3", "etc/os-release"]
    have = [[os.path.lexists(x / n) for n in names] for x in (app, python, debian)]
    assert have == [[True, False, False], [False, True, False], [False, False, True]]


@pytest.mark.told("images-why", "spec", given=["/other: No such file"])
def test_shared_layer_is_stored_once(runtime, build):
    """mount(8), overlayfs: two images can list the same directory."""
    shared = build("echo shared >shared")
    other = build("touch other")
    list_of_other = IMAGES / other.name
    list_of_other.write_text(f"{list_of_other.read_text()}{shared.layers[0]}\n")
    before = used(STATE)
    with (
        runtime.running(image=shared.name) as one,
        runtime.running(image=other.name) as two,
    ):
        assert one.ask("cat /shared") == two.ask("cat /shared") == "shared\n"
        assert two.ask("ls /other") == "/other\n"
        assert "/other: No such file" in one.ask("ls /other")
        assert used(STATE) - before < 200
        one.ask("echo one >/shared")
        assert two.ask("cat /shared") == "shared\n"


@pytest.mark.told("ship-commit-why", "spec", "spec-image", given=["/d:", "/home:"])
def test_upper_directory_can_become_a_layer_unchanged(runtime, build, image):
    """The kernel's filesystems/overlayfs: upperdir is the difference, including
    whiteouts, mknod(2), so it can be shipped as a layer."""
    kept = build("touch placeholder")
    stack = [kept.layers[0], image]
    (IMAGES / kept.name).write_text("".join(f"{path}\n" for path in stack))
    with runtime.running(image=image) as box:
        box.ask(
            "echo new >/file; rm /d/one; rm -r /home; mkdir /home; chown 5:6 /d/e/two"
        )
        box.ask("touch /home/mine")
        shell(f"rm -r {kept.layers[0]}; cp -a {own(box)}/upper {kept.layers[0]}")
    out = runtime.ok("cat /file; ls /d /home; stat -c %u:%g /d/e/two", image=kept.name)
    assert out.split() == ["new", "/d:", "e", "/home:", "mine", "5:6"], out
    assert (image / "file").read_text() == "old\n"


# ---- cost


@pytest.mark.alone
@pytest.mark.also_before  # a bind mount is as cheap: the test rules out a copy
@pytest.mark.told("spec")
def test_large_image_starts_as_fast_as_a_small_one(runtime, image):
    """mount(2) takes the same time for any size, because nothing is copied."""
    large = LAYERS / unique("test")
    try:
        shell(f"cp -a {image} {large}")
        for root, megabytes in (image, 10), (large, 1000):
            (root / "data").mkdir()
            for number in range(100):
                with open(root / "data" / str(number), "w") as file:
                    os.posix_fallocate(file.fileno(), 0, (megabytes << 20) // 100)
        assert used(large) > 1000 << 10
        shell("sync")
        times = {image: [], large: []}
        # On a busy machine this may take more rounds, but with a copy every round would fail.
        for number in range(40):
            # The order is random, because the machine's other work may be periodic.
            for root in random.sample(list(times), 2):
                begin = time.monotonic()
                runtime.ok("true", "argument", image=root)
                times[root].append(time.monotonic() - begin)
            small, big = (statistics.median(times[root]) for root in (image, large))
            if number >= 2 and big / small < 1.3:
                break
        print(f"10 MB {small * 1000:.1f} ms, 1 GB {big * 1000:.1f} ms")
        assert big / small < 1.3, times
    finally:
        remove(large)


@pytest.mark.alone
@pytest.mark.told("spec")
def test_many_containers_of_one_image_do_not_see_each_others_writes(
    runtime, image, under_load
):
    """mount(8), overlayfs: each container has its own upperdir."""
    count = 100 if under_load else 10
    before = digest(image)
    boxes = []

    def start(number):
        box = Running(runtime, "", {}, {"image": image})
        boxes.append(box)
        box.ask(f"echo {number} >/file; touch /mine-{number}")
        return number, box

    def look(pair):
        number, box = pair
        return number, box.ask("cat /file; cd /; echo mine-*")

    try:
        # Eight start at a time, so that no start takes long. All of them stay alive.
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            pairs = list(pool.map(start, range(count)))
            assert len({box.pid for box in boxes}) == count
            assert len(list(CONTAINERS.glob("[0-9]*/upper"))) >= count
            for number, seen in pool.map(look, pairs):
                assert seen == f"{number}\nmine-{number}\n"
        assert digest(image) == before
    finally:
        for box in boxes:
            box.process.stdin.close()
        for box in boxes:
            box.close()
    assert digest(image) == before


# ---- an ordinary user


@pytest.mark.told("spec", "spec-child", given=["old\nnew", "top\nold"])
def test_ordinary_user_can_use_layers(runtime, tmp_path):
    """user_namespaces(7): overlayfs can be mounted in a user namespace, with layers
    that belong to the user."""
    home = tmp_path / "home"
    images = home / ".workshop" / "images"
    images.mkdir(parents=True)
    shell(f"mkdir {home}/top; echo top >{home}/top/top")
    shell(f"cp -a {layers_of('busybox')[0]} {home}/root; echo old >{home}/root/file")
    (images / "mine").write_text(f"{home}/top\n{home}/root\n")
    shell(f"chown -R nobody:nogroup {home}")
    shell(f"chmod 755 {tmp_path} {tmp_path.parent} {tmp_path.parent.parent}")
    words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    user = Runtime(runtime.path, [*words, "env", f"HOME={home}"])
    before = digest(home / "root")
    script = "cat /file; echo new >/file; rm /etc/passwd; rm -r /home; mkdir /home; cat /file"
    assert user.ok(script, image=home / "root") == "old\nnew\n"
    assert digest(home / "root") == before
    assert user.ok("cat /top /file", image="mine") == "top\nold\n"
    assert os.listdir(home / ".workshop" / "containers") == []


# ---- bad input


@pytest.mark.told("spec-image")
def test_unknown_image_gives_status_125_and_a_one_line_error(runtime):
    """open(2): ENOENT for the file that lists the layers."""
    name = unique("missing")
    result = runtime.run("true", "argument", image=name)
    assert_one_line_error(result, "No such file or directory", f"images/{name}")


@pytest.mark.told("spec-image")
def test_missing_layer_gives_status_125_and_a_one_line_error(runtime, build):
    """open_tree(2): ENOENT. The error names the layer's path."""
    image = build("touch top", "touch bottom")
    image.layers[1].joinpath("bottom").unlink()
    image.layers[1].rmdir()
    result = runtime.run("true", "argument", image=image.name)
    assert_one_line_error(result, "No such file or directory", str(image.layers[1]))


@pytest.mark.told("spec-image")
def test_layer_that_is_a_file_gives_status_125_and_a_one_line_error(runtime, build):
    """move_mount(2): ENOTDIR, because a directory can only be mounted on a
    directory."""
    image = build("touch top", "touch bottom")
    runtime.ok("cat /top /bottom", image=image.name)  # so far it is an image
    image.layers[1].joinpath("bottom").unlink()
    image.layers[1].rmdir()
    image.layers[1].write_text("a file\n")
    result = runtime.run("true", "argument", image=image.name)
    assert_one_line_error(result)
    assert image.layers[1].read_text() == "a file\n"


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["layer", "", "layer 2"],
        ["layer", "layer 2", ""],
        ["layer", "layer 2", "layer"],
        [f"layer {n}" for n in range(229)],
        [f"layer {n}" for n in range(300)],
    ],
    ids=["empty", "only a blank", "blank", "blank at the end", "twice", "229", "300"],
)
@pytest.mark.told("spec-image")
def test_bad_list_of_layers_gives_status_125_and_a_short_line(runtime, build, lines):
    """mount(2) takes a page of options, and sendmsg(2) at most 253 descriptors. The kernel's
    own answers, ELOOP, ENOENT and EINVAL, would not say that the list is wrong."""
    image = build("touch top")
    (IMAGES / image.name).write_text("".join(f"{line}\n" for line in lines))
    result = runtime.run("true", "argument", image=image.name)
    line = assert_one_line_error(result, f"images/{image.name}")
    assert len(line) < 150, line


@pytest.mark.told("spec-image")
def test_layer_that_is_listed_under_two_names_gives_a_one_line_error(runtime, build):
    """The kernel's filesystems/overlayfs: ELOOP if two layers are the same directory."""
    image = build("touch top")
    text = (IMAGES / image.name).read_text()
    (IMAGES / image.name).write_text(f"{image.layers[0]}/.\n{text}")
    result = runtime.run("true", "argument", image=image.name)
    assert_one_line_error(result, "a layer is there twice")


@pytest.mark.told("spec-image", given=["/from-225\n/top"])
def test_image_can_have_228_layers(runtime, build):
    """mount(2): the options take at most one page, 4095 bytes."""
    image = build("touch top")
    layers = [image.layers[0].with_name(f"{image.name}-{n}") for n in range(1, 227)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"from-{number}").touch()
    image.layers.extend(layers)  # so that they are removed
    stack = [*image.layers, layers_of("busybox")[0]]
    (IMAGES / image.name).write_text("".join(f"{path}\n" for path in stack))
    assert runtime.ok("ls /top /from-225", image=image.name) == "/from-225\n/top\n"


@pytest.mark.told("spec-image")
def test_state_directory_on_an_overlay_gives_a_short_true_error(runtime, tmp_path):
    """The kernel's filesystems/overlayfs: upperdir cannot be on another overlay. Home
    directories in containers often are."""
    for name in "lower", "upper", "work", "home":
        (tmp_path / name).mkdir()
    shell(f"chmod 755 {tmp_path} {tmp_path.parent} {tmp_path.parent.parent}")
    options = ",".join(
        f"{name}dir={tmp_path}/{name}" for name in ("lower", "upper", "work")
    )
    home = tmp_path / "home"
    shell(f"mount -t overlay -o {options} home {home}")
    try:
        shell(
            f"cp -a {layers_of('busybox')[0]} {home}/root; chown -R nobody:nogroup {home}"
        )
        words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
        user = Runtime(runtime.path, [*words, "env", f"HOME={home}"])
        result = user.run("true", "argument", image=home / "root")
        line = assert_one_line_error(result, "keep containers on ext4")
        assert len(line) < 150, line
        # Root gets as far as the map, which overlayfs does not support.
        result = runtime.run("true", "argument", image=home / "root")
        assert_one_line_error(result, "overlay has no idmapped mounts")
    finally:
        shell(f"umount {home}")


@pytest.mark.told("spec-child", given=["kernel"])
def test_places_that_an_image_lacks_are_not_made_in_its_layers(runtime, image):
    """mount(8), overlayfs: what the runtime makes in the container's root goes to its own
    upperdir, too."""
    shell(f"cd {image}; rm -rf proc sys dev tmp etc")
    before = digest(image)
    assert "kernel" in runtime.ok("ls /proc/self /sys /dev/null /tmp", image=image)
    assert digest(image) == before


LINUX = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])


@pytest.mark.skipif(
    LINUX < (6, 3),
    reason="the small disk is a tmpfs, and idmapped mounts of tmpfs need Linux 6.3",
)
@pytest.mark.told("spec", given=["No space left on device", "status 1", "old\nnew"])
def test_write_to_a_full_disk_fails_and_does_no_harm(runtime, image, small_disk):
    """write(2): ENOSPC from the filesystem that upperdir is on."""
    small_disk("size=2m")
    before = digest(image)
    with runtime.running(image=image) as box:
        output = box.ask("dd if=/dev/zero of=/big bs=64k count=64")
        assert "No space left on device" in output, output
        assert output.endswith("status 1\n"), output
        assert box.ask("cat /file; rm /big; echo new >/file; cat /file") == "old\nnew\n"
    assert os.listdir(CONTAINERS) == []
    small_disk.undo()
    assert digest(image) == before


@pytest.mark.told("spec-image")
def test_full_disk_at_the_start_gives_status_125_and_a_one_line_error(
    runtime, image, small_disk
):
    """mkdir(2): ENOSPC. The runtime reports it, and removes what it has created."""
    small_disk("nr_inodes=3")  # the root, the container's directory, and one in it
    result = runtime.run("true", "argument", image=image)
    assert_one_line_error(result, "No space left on device")
    assert os.listdir(CONTAINERS) == []
