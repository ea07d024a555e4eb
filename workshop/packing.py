"""Packs a layer of overlayfs as a layer of an OCI image, which is a compressed tar archive. The
same files always give the same archive. OCI image-spec, layer.md; pax(1)
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from workshop import layers
from workshop.errors import Failure
from workshop.unpacking import ALLOWED, CHUNK, OPAQUE_MARK, PAX_ATTRIBUTE, WHITEOUT

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


@dataclasses.dataclass(frozen=True)
class Packed:
    """What is known about a layer once it is packed."""

    digest: str  # sha256:HEX of the file
    size: int  # bytes of the file
    diff_id: str  # sha256:HEX of the plain archive


def pack(
    layer: Path, target: IO[bytes], report: Callable[[int], None] = lambda _: None
) -> Packed:
    """Packs a directory into a file. Raises Failure if an archive cannot hold one of its files.

    report: called again and again with the number of bytes in the plain archive so far.
    """
    outer = _Hashed(target)
    # Without a time or a file name in the header, the digest depends only on the layer.
    with gzip.GzipFile("", "wb", 6, outer, mtime=0) as packed:
        inner = _Hashed(packed, report)
        with tarfile.open(  # type: ignore[call-overload]
            fileobj=inner,
            mode="w|",
            format=tarfile.PAX_FORMAT,
            bufsize=CHUNK,
            encoding="utf-8",
            errors="surrogateescape",
        ) as archive:
            archive.copybufsize = CHUNK
            _Packer(archive).add_contents(str(layer), "")
    return Packed(outer.digest(), outer.count, inner.digest())


class _Hashed:
    """A file that is hashed and counted while it is written."""

    def __init__(
        self,
        file: IO[bytes] | gzip.GzipFile,
        report: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.file, self.report = file, report
        self.sum, self.count = hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        self.count += len(data)
        self.report(self.count)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()

    def digest(self) -> str:
        return f"sha256:{self.sum.hexdigest()}"


class _Packer:
    """Adds the files of a layer to an archive."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self.archive = archive
        self.names: dict[tuple[int, int], str] = {}  # the first name of each file

    def add_contents(self, folder: str, prefix: str) -> None:
        """Adds everything in a directory. prefix: the directory's name in the archive, with a
        slash at its end."""
        for name in sorted(os.listdir(folder)):
            if name.startswith(WHITEOUT):
                raise Failure(
                    f"{folder}/{name} cannot be in an image: there, a name that starts with "
                    f"{WHITEOUT} hides another file"
                )
            self._add(f"{folder}/{name}", prefix, name)

    def _add(self, path: str, prefix: str, name: str) -> None:
        status = os.lstat(path)
        if layers.is_whiteout(path, status):
            self.archive.addfile(tarfile.TarInfo(f"{prefix}{WHITEOUT}{name}"))
        elif stat.S_ISDIR(status.st_mode):
            self.archive.addfile(_header(path, f"{prefix}{name}", status))
            if layers.is_opaque(path):
                mark = tarfile.TarInfo(f"{prefix}{name}/{OPAQUE_MARK}")
                self.archive.addfile(mark)
            self.add_contents(path, f"{prefix}{name}/")
        elif not stat.S_ISSOCK(status.st_mode):  # an archive cannot contain sockets
            self._add_file(path, f"{prefix}{name}", status)

    def _add_file(self, path: str, name: str, status: os.stat_result) -> None:
        header = _header(path, name, status)
        first = self.names.setdefault((status.st_dev, status.st_ino), name)
        if first != name:
            header.type, header.linkname, header.size = tarfile.LNKTYPE, first, 0
        with contextlib.ExitStack() as stack:
            contents = None
            if header.isreg():
                contents = stack.enter_context(open(path, "rb"))
            self.archive.addfile(header, contents)


def _header(path: str, name: str, status: os.stat_result) -> tarfile.TarInfo:
    """Returns the header of a file."""
    header = tarfile.TarInfo(name)
    header.type = _KINDS[stat.S_IFMT(status.st_mode)]
    header.mode = stat.S_IMODE(status.st_mode)
    header.uid, header.gid = status.st_uid, status.st_gid
    header.pax_headers = {}
    header.mtime, fraction = divmod(max(status.st_mtime_ns, 0), 10**9)
    if fraction:
        header.pax_headers["mtime"] = f"{header.mtime}.{fraction:09}".rstrip("0")
    if header.issym():
        header.linkname = os.readlink(path)
    elif header.isreg():
        header.size = status.st_size
    elif header.ischr() or header.isblk():
        header.devmajor = os.major(status.st_rdev)
        header.devminor = os.minor(status.st_rdev)
    for key in os.listxattr(path, follow_symlinks=False):
        if ALLOWED.fullmatch(key):
            data = os.getxattr(path, key, follow_symlinks=False)
            text = data.decode("utf-8", "surrogateescape")
            header.pax_headers[f"{PAX_ATTRIBUTE}{key}"] = text
    return header
