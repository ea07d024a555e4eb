"""Unpacks a layer of an image, which is a tar archive from strangers, into a layer for overlayfs.

A child process does this. Its root directory is the new layer, so no name and no link in the
archive leads out of the layer. The child's memory, files and time are limited, and it tells its
parent nothing but why it failed. OCI image-spec, layer.md; tar(5); filesystems/overlayfs in the
kernel's documentation
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import os
import re
import resource
import select
import signal
import stat
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn, Protocol

import linux

try:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
except ModuleNotFoundError:  # as in the browser tab, where nothing is pulled
    zstd = None

from workshop.errors import MAKE_ROOM, Failure
from workshop.layers import is_whiteout, remove_tree

OPAQUE = "user.overlay.opaque"  # the name that a mount with userxattr looks for
# The extended attributes that an image may give to its files. user.overlay.* would give orders
# to overlayfs, and the rest of security.* belongs to the host's security modules.
ALLOWED = re.compile(r"security\.capability|user\.(?!overlay\.).*", re.DOTALL)
PAX_ATTRIBUTE = "SCHILY.xattr."  # before an attribute's name in an archive
WHITEOUT, OPAQUE_MARK = ".wh.", ".wh..wh..opq"
AUFS = ".wh..wh."  # names of aufs, an older layered filesystem, start like this, too

IDS = 65536  # how many users, and how many groups, exist in a container
CHUNK = 1 << 20  # bytes of one read
HEADER = 1 << 20  # bytes of a header's extension: Go's reader accepts no more either
WINDOW = 27  # log2 of the bytes that zstd may look back, and so keeps in memory

_EXTENSIONS = {
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
}
_DEVICES = {
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What unpacking one layer may use."""

    data: int = 8 << 30  # bytes of the plain archive, and of each file
    files: int = 1 << 20  # including directories
    memory: int = 512 << 20  # bytes
    seconds: float = 1800


@dataclasses.dataclass(frozen=True)
class Source:
    """A compressed archive, and what its contents must be."""

    path: Path
    digest: str  # sha256:HEX of the file
    diff_id: str  # sha256:HEX of the plain archive in it


def unpack(
    source: Source,
    target: Path,
    limits: Limits | None = None,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Unpacks a layer into a new directory. Raises Failure, and removes the directory, if the
    archive is damaged, does not match the digests, or exceeds the limits.

    report: called again and again with the number of bytes of the file that have been read.
    """
    limits = limits or Limits()
    target.mkdir(mode=0o755)
    try:
        with open(source.path, "rb", buffering=0) as file:
            reading, writing = os.pipe()
            child = os.fork()
            if child == 0:
                _child(file, target, source, limits, writing)
            os.close(writing)
            problem = "it was interrupted"
            try:
                problem = _wait(file, reading, limits.seconds, report)
            finally:
                os.close(reading)
                if problem:
                    os.kill(child, signal.SIGKILL)
                status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status and not problem:
            problem = f"the process that unpacks it ended with status {status}"
        if problem:
            raise Failure(f"layer {source.diff_id[7:19]} cannot be unpacked: {problem}")
    except BaseException:
        remove_tree(target)
        raise


def _wait(
    file: IO[bytes], answer: int, seconds: float, report: Callable[[int], None]
) -> str:
    """Waits for the child's answer. Returns why the child failed, or "" if it did not."""
    end, text = time.monotonic() + seconds, b""
    while (left := end - time.monotonic()) > 0:
        if select.select([answer], [], [], min(left, 0.1))[0]:
            data = os.read(answer, CHUNK)
            text += data
            if not data:
                return text.decode("utf-8", "surrogateescape")
        # The child inherited the descriptor, so we see how far it has read.
        report(os.lseek(file.fileno(), 0, os.SEEK_CUR))
    return f"it takes more than {seconds:g} s"


def _child(
    file: IO[bytes], target: Path, source: Source, limits: Limits, answer: int
) -> NoReturn:
    """Runs in the child: unpacks the layer, or writes to `answer` why it cannot."""
    status, problem = 1, ""
    try:
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            signal.signal(number, signal.SIG_DFL)
        _isolate(target, limits, keep={0, 1, 2, file.fileno(), answer})
        try:
            _extract(file, source, limits)
            status = 0
        except MemoryError:
            problem = f"it needs more than {limits.memory >> 20} MiB of memory"
        except RecursionError:
            problem = "its headers are nested too deeply"
        except OSError as error:
            names = [str(name) for name in (error.filename, error.strerror) if name]
            problem = ": ".join(names) or str(error)
            if error.errno == errno.ENOSPC:
                problem += f". {MAKE_ROOM}"
        except Exception as error:  # whatever hostile input makes a parser raise
            problem = str(error) or type(error).__name__
        os.write(answer, problem.encode("utf-8", "surrogateescape")[:1000])
    finally:
        os._exit(status)


def _isolate(target: Path, limits: Limits, keep: set[int]) -> None:
    """Makes the new layer this process's root directory, and limits the process."""
    os.chroot(target)
    os.chdir("/")
    sys.meta_path.clear()  # from here on, an import would run code from the layer
    os.umask(0)
    for name in set(range(3, 256)) - keep:  # such as a directory of the host
        with contextlib.suppress(OSError):
            os.close(name)
    for limit, value in (
        (resource.RLIMIT_DATA, limits.memory),
        (resource.RLIMIT_FSIZE, limits.data),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))


def _extract(file: IO[bytes], source: Source, limits: Limits) -> None:
    """Unpacks the archive into the root directory, and compares both digests."""
    compressed = _Hashed(file)
    plain = _Hashed(_decompressed(compressed, os.pread(file.fileno(), 4, 0)))
    plain.most = limits.data
    archive = tarfile.open(  # type: ignore[call-overload]
        fileobj=plain,
        mode="r|",
        bufsize=CHUNK,
        tarinfo=_Header,
        encoding="utf-8",
        errors="surrogateescape",
    )
    archive.copybufsize = CHUNK
    layer = _Layer(archive, limits)
    while (entry := archive.next()) is not None:
        archive.members.clear()  # otherwise they would take up memory
        layer.add(entry)
    layer.finish()
    for reader, wanted in (plain, source.diff_id), (compressed, source.digest):
        while reader.read(CHUNK):  # what follows the end of the archive
            pass
        if reader.digest() != wanted:
            what = "contents have" if reader is plain else "file has"
            raise ValueError(f"its {what} the digest {reader.digest()}, not {wanted}")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Hashed:
    """A stream that is hashed and counted while it is read."""

    most = sys.maxsize  # bytes

    def __init__(self, stream: _Readable) -> None:
        self.stream, self.sum, self.count = stream, hashlib.sha256(), 0

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.sum.update(data)
        self.count += len(data)
        if self.count > self.most:
            raise ValueError(f"it has more than {self.most} bytes")
        return data

    def digest(self) -> str:
        return f"sha256:{self.sum.hexdigest()}"


def _decompressed(stream: _Hashed, magic: bytes) -> _Readable:
    """Returns the decompressed stream. Its first bytes show how it is compressed."""
    if magic.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=stream)  # type: ignore[call-overload, no-any-return]
    if magic == b"\x28\xb5\x2f\xfd":
        if zstd is None:
            raise ValueError(
                "it is compressed with zstd: type pip install backports.zstd"
            )
        options = {zstd.DecompressionParameter.window_log_max: WINDOW}
        file: _Readable = zstd.ZstdFile(stream, options=options)
        return file
    return stream


class _Header(tarfile.TarInfo):
    """A header in an archive. A damaged one is an error here, because tarfile would take it for
    the end of the archive."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise tarfile.EOFHeaderError("no header") from None  # type: ignore[attr-defined]
        except tarfile.HeaderError as error:
            raise ValueError(f"its archive is damaged: {error}") from None

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # tarfile calls this for each header, before it reads what follows.
        if self.size < 0:
            raise ValueError(f"{self.name!r} has {self.size} bytes")
        if self.type in _EXTENSIONS and self.size > HEADER:
            raise ValueError(f"a header has {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]
        return member


class _Layer:
    """The layer that is being unpacked: the root directory of this process."""

    def __init__(self, archive: tarfile.TarFile, limits: Limits) -> None:
        self.archive, self.limits, self.files = archive, limits, 0
        self.whiteouts: set[str] = (
            set()
        )  # paths, even if a file has replaced the whiteout since
        self.times: dict[str, int] = {}  # of directories, in ns

    def add(self, entry: tarfile.TarInfo) -> None:
        """Unpacks an entry. It replaces an earlier one with the same name."""
        self._count()
        path = _inside(entry.name)
        parent, name = os.path.split(path)
        if f"/{AUFS}" in path and name != OPAQUE_MARK:
            return
        try:
            self._make_parents(parent)
            if name == OPAQUE_MARK:
                os.setxattr(parent, OPAQUE, b"y")
            elif name.startswith(WHITEOUT):
                self._hide(entry, os.path.join(parent, name.removeprefix(WHITEOUT)))
            else:
                self._make(entry, path)
                # A hard link has the owner and the mode of the file that is there already.
                if not entry.islnk() and not _is_whiteout(path):
                    self._describe(entry, path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, entry.name[:200]) from None

    def finish(self) -> None:
        """Sets the times of the directories, because each file made in one changed its time."""
        for path, time_ns in self.times.items():
            if _is_directory(path):
                os.utime(path, ns=(time_ns, time_ns))

    def _count(self) -> None:
        self.files += 1
        if self.files > self.limits.files:
            raise ValueError(f"it has more than {self.limits.files} files")

    def _make_parents(self, path: str) -> None:
        """Makes the directories that the archive uses but has not listed before."""
        if os.path.isdir(path):  # or a link to a directory, as for podman
            return
        self._make_parents(os.path.dirname(path))
        self._count()
        if _is_whiteout(path):
            os.unlink(path)
        self._make_directory(path, 0o755)

    def _make_directory(self, path: str, mode: int) -> None:
        """Makes a directory. If the layer has a whiteout for its name, the directory hides
        everything that the layers below have in it."""
        os.mkdir(path, mode)
        if path in self.whiteouts:
            os.setxattr(path, OPAQUE, b"y")

    def _hide(self, entry: tarfile.TarInfo, path: str) -> None:
        """Hides what the layers below have at a path. What this layer itself has there stays."""
        if os.path.basename(path) in ("", ".", ".."):
            raise ValueError(f"{entry.name!r} hides no name")
        if _is_directory(path):
            os.setxattr(path, OPAQUE, b"y")
        elif not os.path.lexists(path):
            os.mknod(path, stat.S_IFCHR, 0)
            self.whiteouts.add(path)

    def _make(self, entry: tarfile.TarInfo, path: str) -> None:
        """Makes the file of an entry, with its contents."""
        keeps = entry.isdir() and _is_directory(path)
        if not keeps and os.path.lexists(path):
            if path == "/":
                raise ValueError("its root is not a directory")
            if entry.islnk() and _inside(entry.linkname) == path:
                raise ValueError(f"{entry.name!r} is a link to itself")
            _remove(path)
        if entry.isdir():
            if not keeps:
                self._make_directory(path, 0o700)
        elif entry.islnk():
            os.link(_inside(entry.linkname), path, follow_symlinks=False)
        elif entry.issym():
            os.symlink(entry.linkname, path)
        elif entry.isfile():
            self.archive.makefile(entry, path)
        elif entry.type in _DEVICES:
            is_device = not entry.isfifo()
            number = is_device and os.makedev(entry.devmajor, entry.devminor)
            os.mknod(path, _DEVICES[entry.type], number)
            if _is_whiteout(path):
                self.whiteouts.add(path)
        else:
            raise ValueError(f"{entry.name!r} is of the unknown type {entry.type!r}")

    def _describe(self, entry: tarfile.TarInfo, path: str) -> None:
        """Gives a file its owner, mode, attributes and time."""
        for number in entry.uid, entry.gid:
            if not 0 <= number < IDS:
                raise ValueError(
                    f"{entry.name!r} belongs to {number}, but the users and groups of a "
                    f"container are 0 to {IDS - 1}"
                )
        os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if not stat.S_ISLNK(os.lstat(path).st_mode):
            os.chmod(path, stat.S_IMODE(entry.mode))
        # After chown, which removes capabilities.
        for key, value in entry.pax_headers.items():
            name = key.removeprefix(PAX_ATTRIBUTE)
            if name != key and ALLOWED.fullmatch(name):
                data = value.encode("utf-8", "surrogateescape")
                os.setxattr(path, name, data, follow_symlinks=False)
        time_ns = _time(entry)
        os.utime(path, ns=(time_ns, time_ns), follow_symlinks=False)
        if entry.isdir():
            self.times[path] = time_ns


def _inside(name: str) -> str:
    """Returns the path that an entry's name stands for, below the root directory."""
    if ".." in name.split("/"):
        raise ValueError(f"{name!r} leads out of the layer")
    return os.path.normpath(f"/{name.lstrip('/')}")


def _is_directory(path: str) -> bool:
    """Returns whether a path is a directory, and not a link to one."""
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):  # a directory above it was replaced
        return False


def _is_whiteout(path: str) -> bool:
    """Returns whether a path is a whiteout."""
    return os.path.lexists(path) and is_whiteout(path, os.lstat(path))


def _remove(path: str) -> None:
    """Removes a file, or a directory with everything in it."""
    if _is_directory(path):
        for name in os.listdir(path):
            _remove(os.path.join(path, name))
        os.rmdir(path)
    else:
        os.unlink(path)


def _time(entry: tarfile.TarInfo) -> int:
    """Returns when a file was last changed, in ns since 1970. A float would not be exact. As for
    podman, earlier times count as 1970."""
    text = entry.pax_headers.get("mtime") or str(entry.mtime)
    number = re.fullmatch(r"(-?)(\d{1,11})(?:\.(\d*))?", text, re.ASCII)
    if not number:
        raise ValueError(f"{entry.name!r} is of the time {text[:40]!r}")
    sign, seconds, fraction = number.groups()
    value = int(seconds) * 10**9 + int((fraction or "")[:9].ljust(9, "0"))
    return 0 if sign else value
