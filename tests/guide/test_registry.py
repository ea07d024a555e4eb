"""`workshop image pull`, `push`, `import` and `export` with a real registry, and podman as the
judge: the same image is the same tree, in names, types, modes, owners, sizes, times, contents,
extended attributes and links."""

import contextlib
import gzip
import json
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import urllib.request

import pytest
import registry as registries
from archives import (
    Entry,
    Model,
    Refused,
    any_archive,
    device,
    digest,
    directory,
    fifo,
    file,
    hardlink,
    pax,
    symlink,
    tar,
)
from image_layers import tree
from registry import Layer, Podman
from runtime import FULL, LAST, LIMIT, PROJECT, Result, Runtime, shell

sys.path += [str(PROJECT), str(PROJECT / "steps")]
import linux

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ALPINE = os.environ.get(
    "WORKSHOP_ALPINE"
)  # an archive of its files: tests/lab/test_alpine.py
TOOLS = "docker-registry", "podman", "skopeo"

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"this needs {', '.join(TOOLS)}"
)

STATE = pathlib.Path("/var/lib/workshop")
PLACES = "layers", "images", "origins", "blobs/sha256"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{PROJECT}:{PROJECT / 'steps'}",
    "COLUMNS": "200",
}
BEGIN = time.time()
STEPS_OF_A_PULL = 12 if FULL else 4  # at which it is interrupted
CAPABILITY = "SCHILY.xattr.security.capability"
NET_RAW = "\x01\x00\x00\x02\x00 \x00\x00" + "\x00" * 12  # cap_net_raw=ep


def argv(*words):
    return [sys.executable, "-P", "-m", "workshop", "image", *map(str, words)]


def image(*words, **options):
    """Runs `workshop image` with these words. Returns its Result."""
    options = {"capture_output": True, "text": True, "timeout": 5 * LIMIT, **options}
    done = subprocess.run(argv(*words), env=ENVIRONMENT, **options)
    return Result(argv(*words), done.returncode, done.stdout, done.stderr)


def stored():
    return {name: sorted(os.listdir(STATE / name)) for name in PLACES}


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with registries.serve(tmp_path_factory.mktemp("registry")) as one:
        yield one


@pytest.fixture(scope="module")
def podman():
    """podman, whose storage is not on the tmpfs or overlay that /tmp can be."""
    folder = pathlib.Path("/var/tmp", f"podman-{random.randint(10**6, 10**7)}")
    folder.mkdir()
    one = Podman(folder)
    try:
        yield one
    finally:
        one.close()
        shell(f"rm -rf {folder}")


@pytest.fixture
def name():
    """A name for an image. Afterwards, everything that is stored is as before."""
    for place in PLACES:
        (STATE / place).mkdir(parents=True, exist_ok=True)
    before = stored()
    name = f"image-{random.randint(10**6, 10**7)}"
    yield name
    for path in (STATE / "images").glob(f"{name}*"):
        assert image("rm", path.name).status == 0
    assert stored() == before


def packed(data, how="gzip"):
    """Returns a plain archive as a layer."""
    if how == "plain":
        return Layer(data, data, "application/vnd.oci.image.layer.v1.tar")
    if how == "zstd":
        kind = "application/vnd.oci.image.layer.v1.tar+zstd"
        return Layer(zstd.compress(data), data, kind)
    return Layer(gzip.compress(data, 1, mtime=0), data)


def whole(name):
    """Returns a layer of the lab as GNU tar packs it."""
    words = "--sort=name --xattrs --xattrs-include=* --numeric-owner --format=posix"
    command = f"tar {words} --pax-option=delete=atime,delete=ctime -C {STATE}/layers/{name} -c ."
    return packed(
        subprocess.run(command.split(), capture_output=True, check=True).stdout
    )


def times(number):
    return {"mtime": 1_600_000_000 + number, "uid": number % 70, "gid": number % 7}


def odd():
    """Returns layers with all that a layer can have."""
    base = tar(
        directory("./", mode=0o755),
        directory("bin", **times(1)),
        file("bin/su", b"su", mode=0o4755, mtime=5),
        file("bin/wall", b"wall", mode=0o2755, gid=5, mtime=6),
        Entry("bin/ping", data=b"ping", pax={CAPABILITY: NET_RAW}),
        hardlink("bin/ping6", "bin/ping"),
        directory("tmp", mode=0o1777, **times(2)),
        directory("secret", mode=0, uid=65534, gid=65534),
        file("secret/x", b"x", mode=0, uid=65535, gid=65535),
        pax("exact", b"time", mtime="1600000000.123456789"),
        pax("before", b"time", mtime="-5"),
        Entry("attributes", data=b"x", pax={"SCHILY.xattr.user.mime": "a\0b\udcff"}),
        directory("dev", **times(3)),
        device("dev/null", 1, 3),
        device("dev/sda", 8, 0, b"4"),
        fifo("dev/initctl"),
        symlink("link", "../../etc/passwd"),
        symlink("dangling", "nowhere"),
        symlink("lib", "usr/lib"),
        directory("usr"),
        directory("usr/lib"),
        file("usr/lib/one", b"1"),
        file("lib/two", b"2"),
        file("näme \n\udcff", b"not UTF-8"),
        directory("long"),
        directory("long/" + "n" * 200),
        file("long/" + "n" * 200 + "/" + "m" * 200, b"long"),
        file("empty", b""),
        *[file(f"many/{n}", b"x" * n, **times(n)) for n in range(50)],
    )
    top = tar(
        directory("bin", mode=0o711, **times(9)),
        file("bin/.wh.wall", b""),
        file("many/.wh.7", b""),
        file("many/.wh.8", b""),
        directory("many", **times(10)),
        directory("secret", mode=0o700),
        file("secret/.wh..wh..opq", b""),
        file("secret/new", b"new"),
        file("usr/lib/one", b"one"),
        file(".wh.tmp", b""),
        symlink("empty", "exact"),
    )
    return [packed(base), packed(top)]


def over_and_over():
    """Returns layers with whiteouts of whiteouts, and what comes back."""
    layers = [tar(directory("d"), *[file(f"d/{n}", b"0") for n in range(8)])]
    layers += [tar(directory("d"), *[file(f"d/.wh.{n}", b"") for n in range(6)])]
    layers += [tar(directory("d"), *[file(f"d/{n}", b"2") for n in range(4)])]
    layers += [tar(directory("d"), *[file(f"d/.wh.{n}", b"") for n in range(2)])]
    layers += [tar(file(".wh.d", b""))]
    layers += [tar(directory("d", mode=0o700), file("d/9", b"5"))]
    layers += [tar(directory("d", mode=0o700), file("d/.wh.1", b""), file("d/1", b"6"))]
    return [packed(layer) for layer in layers]


def many_layers():
    """Returns 40 layers, compressed in three ways."""
    layers = []
    for number in range(40):
        entries = [directory("d", **times(number)), file(f"d/{number}", b"x")]
        entries += [file("top", b"%d" % number), file(f"d/.wh.{number - 9}", b"")]
        how = ("gzip", "zstd", "plain")[number % 3]
        layers.append(packed(tar(*entries), how))
    return layers


def twice():
    """Returns layers of which one occurs twice, as an empty one often does."""
    one, other = tar(file("x", b"1"), file(".wh.y")), tar(file("x", b"2"), file("y"))
    return [packed(data) for data in (one, other, bytes(1024), one, bytes(1024))]


IMAGES = {
    "busybox": lambda: [whole("busybox")],
    "app": lambda: [whole("debian"), whole("python"), whole("app")],
    "odd": odd,
    "over and over": over_and_over,
    "many layers": many_layers,
    "twice": twice,
}
if ALPINE:
    IMAGES["alpine"] = lambda: [packed(pathlib.Path(ALPINE).read_bytes())]


def about(root):
    """Returns, by the path of each file below a directory, a line with all that matters."""
    found, links = {}, {}
    for path in ["", *tree(str(root))]:
        place = os.path.join(root, path)
        status = os.lstat(place)
        kind, what = stat.S_IFMT(status.st_mode), ""
        if kind == stat.S_IFLNK:
            what = os.readlink(place)
        elif kind == stat.S_IFREG:
            what = f"{status.st_size} {digest(pathlib.Path(place).read_bytes())}"
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            what = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        # No entry of an archive describes this directory.
        is_new = kind == stat.S_IFDIR and status.st_mtime > BEGIN
        names = os.listxattr(place, follow_symlinks=False)
        attributes = {
            name: os.getxattr(place, name, follow_symlinks=False)
            for name in sorted(names)
            if ".overlay." not in name
        }
        if kind != stat.S_IFDIR and status.st_nlink > 1:
            links.setdefault(status.st_ino, []).append(path)
        found[repr(path)] = (
            f"{status.st_mode:o} {status.st_uid}:{status.st_gid} "
            f"{'new' if is_new else status.st_mtime_ns} {what} {attributes or ''}"
        )
    for paths in links.values():
        found |= {repr(path): f"{found[repr(path)]} {sorted(paths)}" for path in paths}
    return found


class Shown:
    """Shows an image's layers as step 07 stacks them."""

    def __init__(self, name, folder):
        self.layers = (STATE / "images" / name).read_text().split()
        self.folder = folder

    def __enter__(self):
        for part in "upper", "work", "merged":
            (self.folder / part).mkdir(parents=True)
        upper, work = self.folder / "upper", self.folder / "work"
        options = f"lowerdir={':'.join(self.layers)},upperdir={upper},workdir={work}"
        merged = self.folder / "merged"
        linux.mount("overlay", merged, "overlay", 0, f"{options},userxattr")
        return merged

    def __exit__(self, *_):
        linux.umount(self.folder / "merged", linux.MNT_DETACH)


@pytest.mark.parametrize("kind", IMAGES)
def test_pulled_image_is_the_same_tree_as_in_podman(registry, podman, name, kind):
    reference = registry.push(f"{kind.replace(' ', '-')}:1", IMAGES[kind]())
    assert_same_tree(podman, reference, name)


def test_image_that_was_built_is_the_same_tree_as_in_podman(
    registry, podman, name, tmp_path
):
    """`podman build` is buildah: its layers are differences that overlayfs has found."""
    (tmp_path / "base.tar").write_bytes(whole("busybox").plain)
    lines = [
        "FROM scratch",
        "ADD base.tar /",
        "RUN mkdir -p /srv/data /gone && echo one >/srv/data/one && ln /srv/data/one /srv/two",
        "COPY --chown=7:8 --chmod=4750 Containerfile /srv/data/",
        "RUN rm -r /gone /bin/wget && chown 5:6 /srv/data/one && chmod 1777 /srv",
        "RUN rm -r /srv/data && mkdir /srv/data && touch /srv/data/new && mknod /srv/p p",
        'ENTRYPOINT ["echo", "built"]',
    ]
    (tmp_path / "Containerfile").write_text("\n".join(lines) + "\n")
    reference = f"{registry.address}/test/built:1"
    words = ["build", "-q", "--tls-verify=false", "--isolation=chroot", "--layers"]
    podman.run(*words, "--network=host", "-t", reference, str(tmp_path))
    podman.run("push", "-q", "--tls-verify=false", reference)
    podman.run("rmi", "-f", reference)
    assert_same_tree(podman, reference, name)
    assert len(list_of(name)) > 3


def assert_same_tree(podman, reference, name):
    """Asserts that an image which is pulled as `name` shows what it shows with podman."""
    done = image("pull", reference, "--name", name)
    assert done.status == 0, done
    podman.pull(reference)
    folder = pathlib.Path("/var/tmp", name)
    try:
        with podman.mounted(reference) as theirs, Shown(name, folder) as ours:
            expected, found = about(theirs), about(ours)
    finally:
        shell(f"rm -rf {folder}")
    # No engine takes the mode of / from an image: with podman it is 0555, with Docker and in
    # step 07 it is 0755.
    assert found.pop("''") and expected.pop("''")
    different = {p: (found.get(p), line) for p, line in expected.items()}
    different = {p: both for p, both in different.items() if both[0] != both[1]}
    assert different == {}
    assert found and found.keys() == expected.keys()


@pytest.mark.needs("debian13")  # which has a newer podman
def test_pulled_image_is_the_same_tree_in_a_container_as_in_podman(
    registry, podman, name
):
    """Step 07 itself, with its map of users."""
    reference = registry.push("inside:1", [whole("busybox"), *odd()])
    assert image("pull", reference, "--name", name).status == 0
    podman.pull(reference)
    own = " -o ".join(f"-path {path}" for path in ("dev", "proc", "sys", "tmp"))
    find = f"find * \\( {own} \\) -prune -o"
    look = "stat -c '%n %f %u:%g %t:%T'"  # and of all but directories, which can be new
    more = f"{find} ! -type d -exec {look[:-1]} %s %Y %h' {{}} +"
    script = f"cd /; {{ {find} -exec {look} {{}} +; {more}; }} | cat -v | sort"
    found = Runtime(LAST).ok(script, image=name).splitlines()
    with podman.mounted(reference) as theirs:
        words = ["chroot", theirs, "/bin/sh", "-c", script]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    expected = done.stdout.splitlines()
    assert found == expected and len(found) > 500


def test_random_image_is_the_same_tree_as_in_podman(registry, podman, name):
    """podman refuses an archive with the same name twice."""
    hypothesis = pytest.importorskip("hypothesis")
    archive = any_archive(hypothesis.strategies, unique_by=lambda entry: entry.name)
    compared = []

    @hypothesis.settings(
        deadline=None,
        derandomize=True,
        max_examples=60 if FULL else 6,
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(hypothesis.strategies.tuples(archive, archive))
    def check(archives):
        number = len(compared)
        try:
            model = Model()
            for entries in archives:
                model.add(entries)
        except Refused:
            return
        layers = [packed(tar(*entries)) for entries in archives]
        reference = registry.push(f"random:{number}", layers)
        done = image("pull", reference, "--name", f"{name}.{number}")
        assert done.status == 0, done
        try:
            podman.pull(reference)
        except AssertionError:  # podman refuses more archives than we do
            assert image("rm", f"{name}.{number}").status == 0
            return
        folder = pathlib.Path("/var/tmp", f"{name}.{number}")
        try:
            with (
                podman.mounted(reference) as theirs,
                Shown(f"{name}.{number}", folder) as ours,
            ):
                expected, found = about(theirs), about(ours)
        finally:
            shell(f"rm -rf {folder}")
        del expected["''"], found["''"]
        compared.append(len(expected))
        assert found == expected

    check()
    assert sum(compared) > 3


if ALPINE:

    def test_alpine_runs(registry, name):
        reference = registry.push("alpine:1", IMAGES["alpine"]())
        assert image("pull", reference, "--name", name).status == 0
        script = ". /etc/os-release; echo $ID; apk --print-arch"
        out = Runtime(LAST).ok(script, image=name)
        assert out.split() == ["alpine", os.uname().machine]


def refused(result, *words):
    """Asserts that a command printed one line about an error, with these words."""
    assert result.status == 1 and result.out == "", result
    assert len(result.err.splitlines()) == 1, result
    assert result.err.startswith("workshop: "), result
    missing = [word for word in words if word not in result.err]
    assert not missing, result


def small(text="x"):
    return packed(tar(file("file", text.encode())))


def origin(name):
    """Returns the digest of an image's manifest."""
    about = json.loads((STATE / "origins" / name).read_text())
    return about["manifest"]["digest"]


def list_of(name):
    return (STATE / "images" / name).read_text().split()


def test_second_pull_fetches_only_the_manifest(registry, name):
    reference = registry.push("second:1", odd())
    assert image("pull", reference, "--name", name).status == 0
    before, layers = len(registry.requests()), list_of(name)
    changed = {path: os.stat(path).st_ctime_ns for path in layers}
    done = image("pull", reference, "--name", name)
    assert done.status == 0 and "all here already" in done.out, done
    assert registry.requests()[before:] == ["/v2/test/second/manifests/1"]
    assert {path: os.stat(path).st_ctime_ns for path in layers} == changed


def test_images_share_layers_on_disk_and_on_the_way(registry, name):
    base = packed(tar(file("base", bytes(100000))))
    first = registry.push("first:1", [base, small("1")])
    second = registry.push("second:2", [base, small("2")])
    assert image("pull", first, "--name", name).status == 0
    before = len(registry.requests())
    assert image("pull", second, "--name", f"{name}.2").status == 0
    fetched = registry.requests()[before:]
    assert not [path for path in fetched if digest(base.blob) in path], fetched
    assert [path for path in fetched if digest(small("2").blob) in path], fetched
    assert list_of(name)[1] == list_of(f"{name}.2")[1]
    assert list_of(name)[0] != list_of(f"{name}.2")[0]
    # Removing one image leaves the other whole.
    assert image("rm", f"{name}.2").status == 0
    assert all(os.path.isdir(path) for path in list_of(name))
    done = image("pull", first, "--name", name)
    assert "all here already" in done.out, done


def test_layer_is_the_same_however_it_is_compressed(registry, name):
    data, layers = tar(file("x", b"x" * 5000)), []
    for how in "gzip", "zstd", "plain":
        reference = registry.push(f"how:{how}", [packed(data, how)])
        assert image("pull", reference, "--name", f"{name}.{how}").status == 0
        layers.append(list_of(f"{name}.{how}"))
    expected = f"{STATE}/layers/{digest(data).replace(':', '-')}"
    assert layers == [[expected]] * 3
    assert pathlib.Path(expected, "x").read_bytes() == b"x" * 5000


def test_tag_that_has_moved_brings_the_new_image(registry, name):
    reference = registry.push("moved:1", [small("old")])
    assert image("pull", reference, "--name", name).status == 0
    [old] = list_of(name)
    registry.push("moved:1", [small("new")])
    assert image("pull", reference, "--name", name).status == 0
    [new] = list_of(name)
    assert pathlib.Path(new, "file").read_text() == "new" and new != old
    done = subprocess.run(
        [*argv()[:-1], "clean"], env=ENVIRONMENT, text=True, stdout=-1
    )
    assert f"removed {old}," in done.stdout and not os.path.exists(old)
    assert os.path.exists(new)


def test_name_of_another_image_is_not_taken(registry, name):
    reference = registry.push("other:1", [small("1")])
    other = registry.push("other:2", [small("2")])
    assert image("pull", reference, "--name", name).status == 0
    before = list_of(name)
    refused(image("pull", other, "--name", name), f"is from {reference}", "--name")
    refused(image("pull", other, "--name", "busybox"), "was made here")
    refused(image("pull", other, "--name", "a/b"), "not a valid name")
    assert list_of(name) == before
    refused(image("rm", "busybox"), "came with the lab")
    refused(image("rm", "missing"), "there is no image missing")
    refused(image("rm", "../images/busybox"), "not a valid name")


def test_list_shows_where_an_image_comes_from(registry, name):
    reference = registry.push("listed:1", [small()])
    assert image("pull", reference, "--name", name).status == 0
    [line] = [line for line in image("ls").lines if name in line]
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    raw = registries.skopeo(
        "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"
    )
    assert cells[4:] == [digest(raw.encode())[7:19], reference], cells
    label = pathlib.Path(list_of(name)[0]).name[7:19]
    assert cells[1] == label, cells


def test_progress_is_drawn_on_a_terminal_only(registry, name):
    reference = registry.push("bars:1", [small(str(n) * 999999) for n in range(3)])
    leader, follower = pty.openpty()
    words = argv("pull", reference, "--name", name)
    with subprocess.Popen(
        words, stdout=follower, stderr=follower, env={**ENVIRONMENT, "TERM": "xterm"}
    ) as process:
        os.close(follower)
        drawn = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while data := os.read(leader, 65536):
                drawn += data
    os.close(leader)
    text = drawn.decode()
    assert process.returncode == 0, text
    for stage in "fetch", "unpack":
        assert re.search(rf"{stage}.*?kB.*?3 of 3 layers", text), text
    assert image("rm", name).status == 0
    done = image("pull", reference, "--name", name)
    assert len(done.lines) == 1 and done.err == "", done


def push_list(registry, name, platforms):
    """Pushes a list of images, each with one file that names its platform."""
    items = []
    for platform in platforms:
        system, architecture = platform.split("/")
        document = {"os": system, "architecture": architecture}
        tag = platform.replace("/", "-")
        reference = registry.push(f"{name}:{tag}", [small(platform)], **document)
        raw = registries.skopeo(
            "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"
        ).encode()
        item = {"mediaType": "application/vnd.oci.image.manifest.v1+json"}
        item |= {"digest": digest(raw), "size": len(raw), "platform": document}
        items.append(item)
    kind = "application/vnd.oci.image.index.v1+json"
    data = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": items})
    request = urllib.request.Request(
        f"http://{registry.address}/v2/test/{name}/manifests/all",
        data.encode(),
        {"Content-Type": kind},
        method="PUT",
    )
    urllib.request.urlopen(request).close()
    return registry.reference(f"{name}:all")


def test_list_of_platforms_brings_the_one_of_this_machine_or_the_given_one(
    registry, name
):
    platforms = ["linux/amd64", "linux/arm64", "linux/s390x", "windows/amd64"]
    reference = push_list(registry, "platforms", platforms)
    own = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[os.uname().machine]
    for number, wanted in enumerate([own, "linux/s390x"]):
        options = ["--platform", wanted] if number else []
        done = image("pull", reference, "--name", f"{name}.{number}", *options)
        assert done.status == 0, done
        [layer] = list_of(f"{name}.{number}")
        assert pathlib.Path(layer, "file").read_text() == wanted
    done = image("pull", reference, "--name", name, "--platform", "riscv64")
    refused(done, "no image for linux/riscv64", "linux/s390x")
    done = image("pull", reference, "--name", name, "--platform", "windows/amd64")
    refused(done, "windows/amd64", "run Linux")
    refused(image("pull", reference, "--platform", "a/b/c/d"), "not a platform")


def test_image_for_another_machine_is_refused(registry, name):
    reference = registry.push("foreign:1", [small()], architecture="s390x")
    done = image("pull", reference, "--name", name)
    refused(done, "for linux/s390x", "--platform linux/s390x")
    assert not (STATE / "images" / name).exists()
    done = image("pull", reference, "--name", name, "--platform", "linux/s390x")
    assert done.status == 0, done


@pytest.mark.parametrize(
    "what",
    ["missing", "no registry", "no host", "capitals", "no reference", "an artifact"],
)
def test_what_is_no_image_is_refused_in_one_line(registry, name, what):
    reference, words = {
        "missing": (registry.reference("missing:1"), ["unknown", "Check the name and"]),
        "no registry": ("127.0.0.1:9/x/y", ["refused", "whether it runs"]),
        "no host": ("registry.invalid/x", ["lookup", "the internet connection"]),
        "capitals": (registry.reference("X:1"), ["lowercase", "looks like alpine"]),
        "no reference": ("-x", ["not a reference"]),
        "an artifact": (registry.reference("artifact:1"), ["not a container image"]),
    }[what]
    if what == "an artifact":
        layout = registry.folder / "artifact"
        registries.lay_out(layout, [small()], {})
        index = json.loads((layout / "index.json").read_text())
        blob = layout / "blobs/sha256" / index["manifests"][0]["digest"][7:]
        manifest = json.loads(blob.read_text())
        manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
        data = json.dumps(manifest).encode()
        (blob.parent / digest(data)[7:]).write_bytes(data)
        index["manifests"][0] |= {"digest": digest(data), "size": len(data)}
        (layout / "index.json").write_text(json.dumps(index))
        target = f"docker://{reference}"
        registries.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:x", target)
    refused(image("pull", "--name", name, "--", reference), *words)
    assert not (STATE / "images" / name).exists()


def test_layer_with_another_diff_id_is_refused_and_leaves_no_image(registry, name):
    wrong = {"type": "layers", "diff_ids": [digest(b"something else")]}
    reference = registry.push("wrong:1", [small()], rootfs=wrong)
    refused(
        image("pull", reference, "--name", name), "cannot be unpacked", "the digest"
    )
    assert not (STATE / "images" / name).exists()
    assert subprocess.run([*argv()[:-1], "clean"], env=ENVIRONMENT).returncode == 0


def test_blob_that_was_damaged_on_the_disk_is_noticed(registry, name):
    reference = registry.push("damaged:1", [small(), small("2")])
    assert image("pull", reference, "--name", name).status == 0
    shell(f"rm -r {list_of(name)[0]}")
    blob = STATE / "blobs/sha256" / digest(small("2").blob)[7:]
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    done = image("pull", reference, "--name", name)
    refused(done, "cannot be unpacked", "repeat the command")
    before = len(registry.requests())
    assert image("pull", reference, "--name", name).status == 0
    assert pathlib.Path(list_of(name)[0], "file").read_text() == "2"
    fetched = "".join(registry.requests()[before:])
    assert blob.name in fetched and digest(small().blob)[7:] not in fetched
    # The power failed before all of it was on the disk.
    data = blob.read_bytes()
    os.truncate(blob, 5)
    assert image("pull", reference, "--name", name).status == 0
    assert blob.read_bytes() == data
    # What is missing comes back, too.
    for path in (blob, STATE / "blobs" / origin(name).replace(":", "/")):
        path.unlink()
        assert image("pull", reference, "--name", name).status == 0
        assert path.exists()


def test_image_in_the_format_of_docker_is_the_same(registry, podman, name):
    """Docker Image Manifest V2, Schema 2, which skopeo makes an OCI manifest of."""
    reference = registry.push("ours:1", odd(), {"Cmd": ["/bin/su"]})
    other = registry.reference("dockers:1")
    words = [
        "copy",
        "--format=v2s2",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
    ]
    registries.skopeo(*words, f"docker://{reference}", f"docker://{other}")
    assert image("pull", other, "--name", name).status == 0
    assert image("pull", reference, "--name", f"{name}.2").status == 0
    assert list_of(name) == list_of(f"{name}.2")
    assert "all here already" in image("pull", other, "--name", name).out
    assert image("push", name, registry.reference("back:1")).status == 0


def test_pull_to_a_full_disk_is_an_error_of_one_line(registry, name):
    reference = registry.push("large:1", [packed(tar(file("x", os.urandom(5 << 20))))])
    for place, options in ("layers", "size=1m"), ("images", "nr_inodes=1"):
        shell(f"mount -t tmpfs -o {options} small {STATE / place}")
        try:
            done = image("pull", reference, "--name", name)
            advice = ["workshop clean"] if place == "layers" else []
            refused(done, "o space left on device", *advice)
            assert os.listdir(STATE / place) == [] or place == "images"
        finally:
            shell(f"umount {STATE / place}")
    assert image("pull", reference, "--name", name).status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted_pull_leaves_no_half_image(registry, name, number):
    """At any moment: there is no image, or a whole one; every layer is whole; what is left over
    goes with the next `clean`, and the next pull succeeds."""
    layers = [packed(tar(*many_files(n))) for n in range(5)]
    reference = registry.push("interrupted:1", layers)
    begin = time.monotonic()
    assert image("pull", reference, "--name", name).status == 0
    duration = time.monotonic() - begin
    whole = {path: tree(path) for path in list_of(name)}
    assert image("rm", name).status == 0
    for step in range(STEPS_OF_A_PULL):
        process = subprocess.Popen(
            argv("pull", reference, "--name", name),
            stdout=-1,
            stderr=-1,
            env=ENVIRONMENT,
        )
        time.sleep(duration * (step + 1) / (STEPS_OF_A_PULL + 1))
        process.send_signal(number)
        process.communicate(timeout=LIMIT)
        for path, expected in whole.items():
            if os.path.exists(path):
                assert tree(path) == expected
        if (STATE / "images" / name).exists():
            assert list_of(name) == list(whole)
        if step % 2:
            assert image("pull", reference, "--name", name).status == 0
            assert {path: tree(path) for path in list_of(name)} == whole
            assert image("rm", name).status == 0
        else:
            subprocess.run([*argv()[:-1], "clean"], env=ENVIRONMENT, check=True)
        hidden = [
            n for place in PLACES for n in os.listdir(STATE / place) if n[0] == "."
        ]
        assert hidden == []


def many_files(number):
    return [file(f"{number}/{n}", os.urandom(20000)) for n in range(30)]


# ---- out


@pytest.mark.parametrize("kind", ["app", "busybox"] if FULL else ["busybox"])
def test_image_of_ours_that_was_pushed_is_the_same_tree_in_podman(
    registry, podman, name, kind
):
    reference = registry.reference(f"ours-{kind}:1")
    done = image("push", kind, reference)
    assert done.status == 0 and "sha256:" in done.out, done
    podman.pull(reference)
    folder = pathlib.Path("/var/tmp", name)
    try:
        with podman.mounted(reference) as theirs, Shown(kind, folder) as ours:
            expected, found = about(ours), about(theirs)
    finally:
        shell(f"rm -rf {folder}")
    del expected["''"], found["''"]
    assert found == expected


def test_what_was_pulled_goes_out_as_it_came(registry, name):
    """The same digests, so a registry that has the layers gets no second copy."""
    reference = registry.push("came:1", odd(), {"Cmd": ["x"]}, history=[{}, {}])
    assert image("pull", reference, "--name", name).status == 0
    target = registry.reference("went:1")
    assert image("push", name, target).status == 0
    first, second = (
        registries.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{place}")
        for place in (reference, target)
    )
    assert first == second


@pytest.mark.parametrize("format", ["oci", "docker"])
def test_exported_image_is_loaded_by_podman_and_by_us(registry, podman, name, format):
    reference = registry.push("export:1", odd(), {"Cmd": ["/bin/su"]})
    assert image("pull", reference, "--name", name).status == 0
    archive = registry.folder / f"{name}:{format}.tar"
    assert image("export", name, archive, "--format", format).status == 0
    done = image("import", archive, "--name", f"{name}.2")
    assert done.status == 0, done
    assert list_of(f"{name}.2") == list_of(name)
    plain = registry.folder / f"{name}.{format}.tar"
    archive.rename(plain)
    out = podman.run("load", "-q", "-i", str(plain))
    loaded = out.strip().rpartition(": ")[2]
    with podman.mounted(loaded) as theirs:
        assert (theirs / "bin/su").stat().st_mode == 0o104755
    assert podman.run("inspect", "-f", "{{.Config.Cmd}}", loaded) == "[/bin/su]\n"


@pytest.mark.parametrize("data", [b"", b"x" * 5000, tar(file("x"))])
def test_file_that_is_no_archive_of_an_image_is_refused(name, tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    refused(
        image("import", tmp_path / "file", "--name", name), "neither an OCI archive"
    )
    refused(image("import", tmp_path / "missing", "--name", name), "No such file")


def test_committed_layer_goes_on_top_of_the_image_that_was_pulled(
    registry, podman, name
):
    """Commit, push, and podman's view of it: our layer, whiteouts included, on top of the
    layers as they came, with the config of the image."""
    base = packed(tar(directory("d"), file("d/old"), file("d/kept")))
    pulled = [whole("busybox"), base]
    config = {"Env": ["PATH=/bin"], "Cmd": ["/bin/cat", "/new"]}
    reference = registry.push("base:1", pulled, config)
    assert image("pull", reference, "--name", name).status == 0
    container = Runtime(LAST)
    with container.running(image=name, hostname=name) as box:
        box.ask("echo new >/new; rm /d/old; mkdir /e; ln /new /link; chown 5:6 /new")
        words = [*argv()[:-1], "commit", name, f"{name}.2"]
        assert subprocess.run(words, env=ENVIRONMENT).returncode == 0
    target = registry.reference("committed:1")
    pushed = [image("push", f"{name}.2", target) for _ in range(2)]
    assert pushed[0].status == 0 and pushed[0].out == pushed[1].out, pushed
    raw = registries.skopeo(
        "inspect", "--raw", "--tls-verify=false", f"docker://{target}"
    )
    layers = [layer["digest"] for layer in json.loads(raw)["layers"]]
    assert layers[:2] == [digest(layer.blob) for layer in pulled] and len(layers) == 3
    podman.pull(target)
    with podman.mounted(target) as theirs:
        assert (theirs / "new").read_text() == "new\n"
        assert (theirs / "new").stat().st_nlink == 2
        assert (theirs / "new").stat().st_uid == 5
        assert sorted(os.listdir(theirs / "d")) == ["kept"]
        assert os.listdir(theirs / "e") == []
    out = podman.run("inspect", "-f", "{{.Config.Cmd}} {{.Config.Env}}", target)
    assert out == "[/bin/cat /new] [PATH=/bin]\n"
    # Pulled again under another name, it is the same image.
    assert image("pull", target, "--name", f"{name}.3").status == 0
    assert container.ok("cat /new; ls /d", image=f"{name}.3") == "new\nkept\n"
    for again in f"{name}.2", name:
        refused(image("pull", target, "--name", again), "there is already an image")


def test_podman_runs_what_was_committed_and_pushed(registry, podman, name):
    container = Runtime(LAST)
    reference = registry.push(
        "run:1", [whole("busybox")], {"Cmd": ["/bin/cat", "/new"]}
    )
    assert image("pull", reference, "--name", name).status == 0
    with container.running(image=name, hostname=name) as box:
        box.ask("echo from ours >/new")
        words = [*argv()[:-1], "commit", name, f"{name}.2"]
        assert subprocess.run(words, env=ENVIRONMENT).returncode == 0
    target = registry.reference("run:2")
    assert image("push", f"{name}.2", target).status == 0
    assert podman.start(target) == "from ours\n"


CONFIGS = {
    "nothing": {"Cmd": ["/bin/show"]},
    "entrypoint": {"Entrypoint": ["/bin/show", "a"], "Cmd": ["b c"]},
    "environment": {"Cmd": ["show"], "Env": ["A=1", "A=2", "PATH=/own:/bin", "B="]},
    "directory": {"Cmd": ["/bin/show"], "WorkingDir": "/not/there"},
    "directory by a link": {"Cmd": ["/bin/show"], "WorkingDir": "/link/x"},
    "user": {"Cmd": ["/bin/show"], "User": "app"},
    "number of a user": {"Cmd": ["/bin/show"], "User": "1000"},
    "user and group": {"Cmd": ["/bin/show"], "User": "app:audio"},
    "numbers": {"Cmd": ["/bin/show"], "User": "4711:12"},
    "number that nobody has": {"Cmd": ["/bin/show"], "User": "4711"},
    "all": {
        "Entrypoint": ["show"],
        "Cmd": ["x"],
        "User": "1000",
        "WorkingDir": "/srv/app",
        "Env": ["HOME=/mine", "PATH=/bin"],
    },
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_config_of_an_image_means_what_it_means_to_podman(registry, podman, name, kind):
    show = (
        '#!/bin/sh\necho "$@"; id -u; id -g; id -G | tr " " "\\n" | sort -u; pwd -P\n'
        'echo "$HOME $PATH $A-$B"\n'
    )
    passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:50:app:/srv:/bin/sh\n"
    files = [
        file("bin/show", show.encode(), mode=0o755),
        file("etc/passwd", passwd.encode()),
        file("etc/group", b"root:x:0:\nstaff:x:50:\naudio:x:29:app\n"),
        directory("srv"),
        symlink("link", "srv"),
    ]
    layers = [whole("busybox"), packed(tar(*files))]
    reference = registry.push(f"config:{len(kind)}", layers, CONFIGS[kind])
    assert image("pull", reference, "--name", name).status == 0
    expected = podman.start(reference)
    result = Runtime(LAST).run("run", "--net", "none", name, raw=True)
    assert (result.status, result.out) == (0, expected), result
