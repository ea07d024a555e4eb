"""Layers from strangers: whatever is in an archive, unpacking it changes nothing but its own
layer, and an archive that cannot be a layer is refused in one line."""

import gzip
import importlib
import io
import os
import pathlib
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
import time

import pytest
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
    unpack_to,
)
from image_layers import tree
from runtime import FULL, PROJECT

sys.path += [str(PROJECT), str(PROJECT / "steps")]
import linux

from workshop import unpacking
from workshop.errors import Failure
from workshop.layers import is_whiteout
from workshop.packing import pack
from workshop.terminal import printable
from workshop.unpacking import HEADER, Limits, Source, unpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SMALL = Limits(data=64 << 20, files=2000, memory=400 << 20, seconds=60)
HOST = "/var/tmp/aimed-at"  # a directory of the host with the file `file`
UP = "../" * 20 + HOST.lstrip("/")
DIR, LINK = tarfile.DIRTYPE, tarfile.SYMTYPE


def zeros(size):
    """Returns an archive with a file of zeros, compressed as well as gzip can."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as packed:
        header = tarfile.TarInfo("zeros")
        header.size = size
        packed.write(header.tobuf(tarfile.PAX_FORMAT))
        for _ in range(size >> 20):
            packed.write(bytes(1 << 20))
        packed.write(bytes(1024))
    return out.getvalue()


def raw(header, data=b""):
    return header.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512)


def extended(kind, data):
    """Returns the header that extends the next one, with this contents."""
    header = tarfile.TarInfo("extension")
    header.type, header.size = kind, len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512)


def negative(data):
    """Returns an archive whose first file has a size below 0, in base 256."""
    head = bytearray(data[:512])
    head[124:136] = b"\xff" * 11 + b"\x00"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + data[512:]


def damaged(data, place):
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def sparse(size):
    name = "GNU.sparse.name"
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", name: "sparse"}
    headers["GNU.sparse.realsize"] = str(size)
    return tar(Entry("x", data=b"0\n".ljust(512, b"\0"), pax=headers))


THREE = tar(file("a"), file("b", bytes(3000)), file("c"))
LONG_WINDOW = {
    zstd.CompressionParameter.window_log: 30,
    zstd.CompressionParameter.enable_long_distance_matching: 1,
}


def long_window(data):
    """Returns data as zstd that wants its reader to keep a gigabyte in memory."""
    compressor = zstd.ZstdCompressor(options=LONG_WINDOW)
    return compressor.compress(data) + compressor.flush()


# By name: the archive, and what the refusal says.
REFUSED = {
    "name with ..": (tar(file(f"{UP}/evil")), "leads out of the layer"),
    "name with .. inside": (tar(directory("d"), file("d/../../x")), "leads out"),
    "absolute name with ..": (tar(file("/../x")), "leads out"),
    "name with a NUL": (tar(pax("ok", path="a\0b")), "null byte"),
    "below an absolute link": (
        tar(symlink("x", HOST), file("x/evil")),
        "x/evil: File exists",
    ),
    "below a relative link": (
        tar(symlink("x", UP), file("x/evil")),
        "x/evil: File exists",
    ),
    "below a circle of links": (
        tar(symlink("x", "y"), symlink("y", "x"), file("x/evil")),
        "x/evil",
    ),
    "below a file": (tar(file("x"), file("x/y")), "x/y: (File exists|Not a directory)"),
    "below a FIFO": (tar(fifo("x"), file("x/y")), "x/y: (File exists|Not a directory)"),
    "hard link out": (tar(hardlink("x", f"{HOST}/file")), "x: No such file"),
    "hard link with ..": (tar(hardlink("x", f"{UP}/file")), "leads out"),
    "hard link below a link": (
        tar(symlink("d", HOST), hardlink("x", "d/file")),
        "x: No such file",
    ),
    "hard link to a directory": (tar(directory("d"), hardlink("x", "d")), "x: "),
    "hard link to itself": (tar(file("x"), hardlink("x", "x")), "a link to itself"),
    "hard link to the root": (tar(hardlink("x", "/")), "x: "),
    "whiteout of ..": (tar(file(".wh...", b"")), "hides no name"),
    "whiteout of .": (tar(file(".wh..", b"")), "hides no name"),
    "whiteout of nothing": (tar(file("d/.wh.", b"")), "hides no name"),
    "whiteout with ..": (tar(file("../.wh.file", b"")), "leads out"),
    "whiteout below a link": (
        tar(symlink("x", HOST), file("x/.wh.file", b"")),
        "x/.wh.file: File exists",
    ),
    "opaque below a link": (
        tar(symlink("x", HOST), file("x/.wh..wh..opq", b"")),
        "x/.wh..wh..opq: File exists",
    ),
    "root is a link": (tar(symlink(".", HOST)), "its root is not a directory"),
    "root is a file": (tar(file("./")), "its root is not a directory"),
    "root is a FIFO": (tar(fifo("/")), "its root is not a directory"),
    "root is a hard link": (tar(file("x"), hardlink(".", "x")), "its root is not"),
    "no name": (tar(file("")), "its root is not a directory"),
    "user 65536": (tar(file("x", uid=65536)), "belongs to 65536"),
    "group 2 to the 31": (tar(file("x", gid=1 << 31)), f"belongs to {1 << 31}"),
    "user below 0": (tar(pax("x", uid="-1")), "belongs to -1"),
    "attribute of a link": (
        tar(Entry("x", LINK, linkname=HOST, pax={"SCHILY.xattr.user.a": "b"})),
        "x: Operation not permitted",
    ),
    "long name": (tar(file("n" * 256)), "File name too long"),
    "long path": (tar(file("d/" * 2100 + "x")), "File name too long|too deeply"),
    "deep path": (tar(file("d/" * 1500 + "x")), "too deeply"),
    "unknown type": (tar(Entry("x", b"Z")), "unknown type"),
    "device number": (tar(device("x", 0o7777777, 0)), "x: Invalid argument"),
    "size below 0": (negative(THREE), "bytes"),
    "time that is none": (tar(pax("x", mtime="nan")), "is of the time 'nan'"),
    "time without end": (tar(pax("x", mtime="1e999999999")), "is of the time"),
    "huge header": (
        tar(pax("x", comment="a" * (30 << 20))),
        r"a header has \d+ bytes",
    ),
    "huge long name": (
        extended(tarfile.GNUTYPE_LONGNAME, b"n" * (HEADER + 1)) + THREE,
        r"a header has \d+ bytes",
    ),
    "headers upon headers": (
        extended(tarfile.XHDTYPE, b"11 a=bcdef\n") * 5000 + THREE,
        "nested too deeply",
    ),
    "header that lies": (
        extended(tarfile.XHDTYPE, b"99999999 path=x\n") + THREE,
        ".",
    ),
    "later header that lies": (
        tar(file("a"))[:1024] + extended(tarfile.XHDTYPE, b"0 a=b\n") + THREE,
        "damaged",
    ),
    "gzip bomb": (zeros(200 << 20), f"more than {SMALL.data} bytes"),
    "zstd bomb": (
        zstd.compress(gzip.decompress(zeros(200 << 20))),
        f"more than {SMALL.data} bytes",
    ),
    "zstd that wants memory": (long_window(THREE * 1000), "(?i)memory|window|zstd"),
    "sparse file of 1 TiB": (sparse(1 << 40), "File too large"),
    "sparse file of 1 EiB": (sparse(1 << 60), "File too large|Invalid argument"),
    "too many files": (
        gzip.compress(tar(*[file(f"{n}", b"") for n in range(3000)]), 1),
        f"more than {SMALL.files} files",
    ),
    "too many directories": (
        tar(*[file(f"{n}/" + "d/" * 300 + "x") for n in range(10)]),
        f"more than {SMALL.files} files",
    ),
    "cut in a file": (THREE[:2000], "unexpected end of data"),
    "cut in a header": (THREE[:1100], "damaged|unexpected end"),
    "cut gzip": (gzip.compress(THREE)[:-12], "ended before|CRC|end"),
    "cut zstd": (zstd.compress(THREE)[:-8], "ended before|end"),
    "damaged gzip": (damaged(gzip.compress(THREE), 60), "."),
    "damaged first header": (damaged(THREE, 10), "damaged"),
    "damaged later header": (damaged(THREE, 1030), "damaged"),
    "no archive": (b"#!/bin/sh\nrm -rf /\n" * 40, "damaged"),
}

# By name: the archive, and what is then in the layer: the type and mode of each path, or the
# text that a file has or that a link leads to.
HARMLESS = {
    "absolute name": (tar(file(f"{HOST}/evil")), {f"{HOST[1:]}/evil": b"evil"}),
    "name with dots and slashes": (tar(file(".//a/./b")), {"a/b": b"evil"}),
    "below a link to the root": (
        tar(symlink("x", "/"), file("x/evil")),
        {"x": "/", "evil": b"evil"},
    ),
    "below a link up": (
        tar(symlink("x", "../.."), file("x/evil")),
        {"x": "../..", "evil": b"evil"},
    ),
    "link, directory, file": (
        tar(symlink("x", HOST), directory("x"), file("x/evil")),
        {"x": stat.S_IFDIR | 0o755, "x/evil": b"evil"},
    ),
    "file in place of a link": (
        tar(symlink("x", f"{HOST}/file"), file("x")),
        {"x": b"evil"},
    ),
    "file in place of a hard link to a link": (
        tar(symlink("x", f"{HOST}/file"), hardlink("y", "x"), file("y")),
        {"x": f"{HOST}/file", "y": b"evil"},
    ),
    "mode in place of a link": (
        tar(symlink("x", HOST), directory("x", mode=0o777)),
        {"x": stat.S_IFDIR | 0o777},
    ),
    "owner of a link": (
        tar(Entry("x", LINK, linkname=f"{HOST}/file", more={"uid": 7, "mode": 0o777})),
        {"x": f"{HOST}/file"},
    ),
    "more mode than there is": (
        tar(file("x", mode=0o7777777)),
        {"x": stat.S_IFREG | 0o7777},
    ),
    "FIFO, then a file": (tar(fifo("x"), file("x")), {"x": b"evil"}),
    "FIFO in place of a directory": (
        tar(directory("d"), file("d/x"), fifo("d")),
        {"d": stat.S_IFIFO | 0o644},
    ),
    "file in place of a directory": (
        tar(directory("d"), file("d/x"), file("d")),
        {"d": b"evil"},
    ),
    "file in place of a directory with directories": (
        tar(directory("d"), directory("d/e"), file("d")),
        {"d": b"evil"},
    ),
    "directory in place of a file": (
        tar(file("d"), file("d", b"x"), directory("d"), file("d/x")),
        {"d": stat.S_IFDIR | 0o755, "d/x": b"evil"},
    ),
    "same path twice": (
        tar(file("x", b"first", mode=0o4755, uid=5), file("x", b"second")),
        {"x": b"second"},
    ),
    "same file by another link": (
        tar(file("x", b"first"), hardlink("y", "x"), file("x", b"second")),
        {"x": b"second", "y": b"first"},
    ),
    "device of the host's disk": (
        tar(device("disk", 254, 0, tarfile.BLKTYPE), file("disk")),
        {"disk": b"evil"},
    ),
    "device": (tar(device("null", 1, 3)), {"null": stat.S_IFCHR | 0o644}),
    "whiteout that is spelt as a device": (
        tar(device("x", 0, 0)),
        {"x": stat.S_IFCHR},
    ),
    "whiteout of what the layer has": (
        tar(file("x"), directory("d"), file("d/y"), file(".wh.x"), file(".wh.d")),
        {"x": b"evil", "d": stat.S_IFDIR | 0o755, "d/y": b"evil"},
    ),
    "notes of aufs": (tar(file(".wh..wh.plnk/1"), file(".wh..wh.aufs")), {}),
    "orders to overlayfs": (
        tar(
            Entry(
                "d",
                DIR,
                pax={
                    "SCHILY.xattr.user.overlay.redirect": "/etc",
                    "SCHILY.xattr.user.overlay.opaque": "y",
                    "SCHILY.xattr.trusted.overlay.opaque": "y",
                    "SCHILY.xattr.security.selinux": "root",
                },
            )
        ),
        {"d": stat.S_IFDIR | 0o755},
    ),
    "sparse file": (sparse(1 << 20), {"sparse": bytes(1 << 20)}),
    "two gzips in one": (
        gzip.compress(THREE[:1000]) + gzip.compress(THREE[1000:]),
        {"a": b"evil", "b": bytes(3000), "c": b"evil"},
    ),
    "text after the end": (
        tar(file("a")) + b"rm -rf /" * 64,
        {"a": b"evil"},
    ),
    "nothing": (bytes(1024), {}),
    "not even an end": (b"", {}),
}


def aimed_at():
    """Returns all that a hostile archive could have changed."""
    place = pathlib.Path(HOST)
    status = place.stat()
    about = status.st_mode, status.st_uid, status.st_nlink, os.listxattr(place)
    return tree(HOST), about, sorted(os.listdir(place.parent))


@pytest.fixture
def host():
    """The directory that a hostile archive aims at. It must stay as it is."""
    os.mkdir(HOST)
    try:
        pathlib.Path(HOST, "file").write_text("safe")
        before = aimed_at()
        yield
        assert aimed_at() == before
    finally:
        subprocess.run(["rm", "-rf", HOST], check=True)


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_archive_is_refused_in_one_line(host, tmp_path, name):
    data, message = REFUSED[name]
    with pytest.raises(Failure) as failed:
        unpack_to(tmp_path / "layer", data, SMALL)
    line = str(failed.value)
    assert re.search(message, line), line
    assert len(line) < 1200 and "\n" not in printable(line)
    assert os.listdir(tmp_path) == ["layer.blob"]


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_archive_changes_only_its_own_layer(host, tmp_path, name):
    data, expected = HARMLESS[name]
    layer = tmp_path / "layer"
    unpack_to(layer, data, SMALL)
    for path, what in expected.items():
        status = os.lstat(layer / path)
        if isinstance(what, bytes):
            assert (layer / path).read_bytes() == what
            assert (status.st_mode, status.st_uid) == (stat.S_IFREG | 0o644, 0)
        elif isinstance(what, str):
            assert os.readlink(layer / path) == what
        else:
            assert status.st_mode == what
    for path in tree(str(layer)):
        assert any(f"{end}/".startswith(f"{path}/") for end in expected), path
        names = os.listxattr(layer / path, follow_symlinks=False)
        assert not names or (path, names) == ("d", ["user.overlay.opaque"])


@pytest.mark.parametrize(
    "entries",
    [
        [file(".wh.d", b""), directory("d")],
        [file(".wh.d", b""), file("d/x")],
        [directory("d"), file(".wh.d", b"")],
        [file(".wh.d", b""), file("d"), directory("d")],
        [device("d", 0, 0), directory("d")],
        [directory("d"), file("d/.wh..wh..opq", b"")],
        [file("d/.wh..wh..opq", b""), directory("d")],
    ],
)
def test_directory_whose_name_the_layer_hides_as_well_is_opaque(tmp_path, entries):
    """Nothing of the directory in the layers below shows through: image-spec, layer.md"""
    unpack_to(tmp_path / "layer", tar(*entries))
    assert os.getxattr(tmp_path / "layer/d", "user.overlay.opaque") == b"y"


def test_at_least_forty_hostile_archives_are_tried():
    assert len(REFUSED) + len(HARMLESS) >= 40


@pytest.mark.parametrize("which", ["contents", "file"])
def test_archive_with_another_digest_is_refused(tmp_path, which):
    other = digest(b"other")
    with pytest.raises(Failure, match=f"the digest {digest(THREE)}, not {other}"):
        if which == "contents":
            unpack_to(tmp_path / "layer", THREE, diff_id=other)
        else:
            blob = tmp_path / "blob"
            blob.write_bytes(THREE)
            unpack(Source(blob, other, digest(THREE)), tmp_path / "layer")
    assert not (tmp_path / "layer").exists()


def test_archive_that_takes_too_long_is_refused(tmp_path):
    begin = time.monotonic()
    with pytest.raises(Failure, match=r"takes more than 0\.3 s"):
        unpack_to(tmp_path / "layer", zeros(3 << 30), Limits(seconds=0.3), "sha256:0")
    assert time.monotonic() - begin < 30
    assert not (tmp_path / "layer").exists()


def test_archive_that_needs_too_much_memory_is_refused(tmp_path):
    """The map of a sparse file is read into memory: 4 million numbers take 150 MB."""
    header = tarfile.TarInfo("x")
    numbers = b"4000000\n" + b"1000\n" * 4000000
    numbers += bytes(-len(numbers) % 512)
    header.size = len(numbers)
    header.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    header.pax_headers["GNU.sparse.realsize"] = "1000"
    data = header.tobuf(tarfile.PAX_FORMAT) + numbers + bytes(1024)
    used = int(
        re.search(r"VmData:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())[
            1
        ]
    )
    limits = Limits(memory=(used << 10) + (100 << 20))
    with pytest.raises(Failure, match=r"more than \d+ MiB of memory"):
        unpack_to(tmp_path / "layer", data, limits)


def test_unpacking_runs_no_code_from_the_layer(tmp_path, monkeypatch):
    """Python's modules are looked for in the root directory, which is the layer, so it must not
    look for any."""
    folder = next(path for path in sys.path if os.path.isdir(path))
    module = f"evil{os.getpid()}"
    data = tar(file(f"{folder}/{module}.py", b"open('/was-here', 'w').close()"))
    unpack_to(tmp_path / "harmless", data)

    def finish(_):
        importlib.invalidate_caches()
        __import__(module)

    monkeypatch.setattr(unpacking._Layer, "finish", finish)
    with pytest.raises(Failure, match=f"No module named '{module}'"):
        unpack_to(tmp_path / "layer", data)


def test_refusal_has_no_control_characters(tmp_path):
    with pytest.raises(Failure) as failed:
        unpack_to(tmp_path / "layer", tar(file("\x1b[2J\n../x/..", uid=1 << 20)))
    assert "\x1b" not in printable(str(failed.value))


# ---- archives of all kinds

# A layer with all that a layer can have.
RICH = [
    directory("d", mode=0o1777, uid=7, mtime=5),
    file("d/.wh..wh..opq", b""),
    pax("d/exact", b"time", mtime="1600000000.123456789"),
    file("setuid", b"x", mode=0o4755, gid=65535),
    hardlink("second", "setuid"),
    hardlink("d/third", "setuid"),
    Entry("attributes", data=b"x", pax={"SCHILY.xattr.user.mime": "a\0b\udcff"}),
    symlink("link", "../../etc/passwd"),
    hardlink("same link", "link"),
    device("null", 1, 3),
    device("disk", 8, 1, tarfile.BLKTYPE),
    fifo("pipe"),
    file(".wh.gone", b""),
    file("n\udcff\n", b"not UTF-8"),
    file("long/" + "n" * 250, b""),
]
LIVE = {"deadline": None, "derandomize": True, "max_examples": 400 if FULL else 100}


def shown_by(model):
    """Returns what a Model shows, in the form of shown_in()."""
    found = {}
    names = {}
    for path, shown in model.shown.items():
        names.setdefault(id(shown.inode), []).append(path)
    for path, shown in model.shown.items():
        header = shown.entry.header()
        kind = {DIR: stat.S_IFDIR, LINK: stat.S_IFLNK}.get(header.type, stat.S_IFREG)
        about = None
        if shown.described:
            mode = 0o777 if kind == stat.S_IFLNK else header.mode
            about = mode, header.uid, header.mtime
        contents = header.linkname or shown.entry.data
        same = sorted(names[id(shown.inode)])
        found[path] = kind, about, contents, same
    return found


def shown_in(folder, described):
    """Returns what a directory shows: by path the type; mode, owner and time, if described;
    contents or target; and all names of the file."""
    found, names = {}, {}
    for path in tree(folder):
        status = os.lstat(f"{folder}/{path}")
        names.setdefault(status.st_ino, []).append(path)
    for path in tree(folder):
        place = f"{folder}/{path}"
        status = os.lstat(place)
        kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
        about = None
        if described.get(path, (0, None))[1]:
            about = mode, status.st_uid, status.st_mtime
        contents = b""
        if kind == stat.S_IFREG:
            contents = pathlib.Path(place).read_bytes()
        elif kind == stat.S_IFLNK:
            contents = os.readlink(place)
        found[path] = kind, about, contents, sorted(names[status.st_ino])
    return found


def test_stack_of_unpacked_layers_shows_what_the_archives_say():
    """The kernel's overlayfs on the unpacked layers, compared with the specification applied to
    the archives themselves: image-spec, layer.md; filesystems/overlayfs"""
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    counts = {"refused": 0, "shown": 0}

    @hypothesis.settings(**LIVE)
    @hypothesis.given(st.lists(any_archive(st), min_size=1, max_size=3))
    def check(archives):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            model, layers = Model(), [f"{folder}/empty"]
            os.mkdir(layers[0])
            for number, entries in enumerate(archives):
                layer = pathlib.Path(folder, str(number))
                try:
                    model.add(entries)
                except Refused:
                    counts["refused"] += 1
                    with pytest.raises(Failure):
                        unpack_to(layer, tar(*entries))
                    return
                unpack_to(layer, tar(*entries))
                layers.insert(0, str(layer))
            merged = f"{folder}/merged"
            os.mkdir(merged)
            options = f"lowerdir={':'.join(layers)},userxattr"
            linux.mount("overlay", merged, "overlay", 0, options)
            try:
                expected = shown_by(model)
                assert shown_in(merged, expected) == expected
                counts["shown"] += len(expected)
            finally:
                linux.umount(merged, linux.MNT_DETACH)

    check()
    assert counts["shown"] > 50 and counts["refused"] > 5


def test_packed_layer_unpacks_to_the_same_layer():
    """Every layer that can be unpacked, packed and unpacked again, with its times, links,
    attributes and whiteouts; and the same layer always gives the same archive."""
    hypothesis = pytest.importorskip("hypothesis")

    @hypothesis.settings(**LIVE)
    @hypothesis.given(any_archive(hypothesis.strategies))
    @hypothesis.example(RICH)
    def check(entries):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
            first, second = pathlib.Path(folder, "1"), pathlib.Path(folder, "2")
            try:
                unpack_to(first, tar(*entries))
            except Failure:
                return
            data = packed(first)
            assert packed(first) == data
            unpack_to(second, data)
            assert tree(str(second)) == tree(str(first))
            assert times(second) == times(first)

    check()


def packed(layer):
    out = io.BytesIO()
    about = pack(layer, out)
    data = out.getvalue()
    assert (about.digest, about.size) == (digest(data), len(data))
    assert about.diff_id == digest(gzip.decompress(data))
    assert data[4:8] == bytes(4)  # no time
    return data


def times(layer):
    """Returns when each file was changed. Nothing describes a whiteout, or the root."""
    found = {path: os.lstat(layer / path) for path in tree(str(layer))}
    return {p: s.st_mtime_ns for p, s in found.items() if not is_whiteout(p, s)}
