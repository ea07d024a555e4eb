"""Makes archives such as the layers of images, also hostile ones, from a description."""

import dataclasses
import gzip
import hashlib
import io
import pathlib
import tarfile
from typing import Any

from workshop.unpacking import Limits, Source, unpack


@dataclasses.dataclass(frozen=True)
class Entry:
    """An entry of an archive. The other fields of its header are in `more`."""

    name: str
    type: bytes = tarfile.REGTYPE
    data: bytes = b""
    linkname: str = ""
    pax: dict[str, str] = dataclasses.field(default_factory=dict)
    more: dict[str, Any] = dataclasses.field(default_factory=dict)

    def header(self) -> tarfile.TarInfo:
        header = tarfile.TarInfo(self.name)
        header.type, header.linkname = self.type, self.linkname
        header.mode = 0o755 if self.type == tarfile.DIRTYPE else 0o644
        header.size = len(self.data)
        header.pax_headers = dict(self.pax)
        for field, value in self.more.items():
            setattr(header, field, value)
        return header


def file(name: str, data: bytes = b"evil", **more: Any) -> Entry:
    return Entry(name, data=data, more=more)


def directory(name: str, **more: Any) -> Entry:
    return Entry(name, tarfile.DIRTYPE, more=more)


def symlink(name: str, target: str) -> Entry:
    return Entry(name, tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Entry:
    return Entry(name, tarfile.LNKTYPE, linkname=target)


def device(name: str, major: int, minor: int, kind: bytes = tarfile.CHRTYPE) -> Entry:
    return Entry(name, kind, more={"devmajor": major, "devminor": minor})


def fifo(name: str) -> Entry:
    return Entry(name, tarfile.FIFOTYPE)


def pax(name: str, data: bytes = b"", **headers: str) -> Entry:
    """Returns a file with these fields in its extended header; __ stands for a dot."""
    return Entry(
        name, data=data, pax={k.replace("__", "."): v for k, v in headers.items()}
    )


def tar(*entries: Entry) -> bytes:
    """Returns an archive of these entries."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape"
    ) as archive:
        for entry in entries:
            archive.addfile(entry.header(), io.BytesIO(entry.data))
    return out.getvalue()


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def plain(data: bytes) -> bytes:
    """Returns an archive without its gzip, as far as that can be read."""
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError):
        return data


def unpack_to(
    target: pathlib.Path,
    data: bytes,
    limits: Limits | None = None,
    diff_id: str | None = None,
) -> None:
    """Unpacks an archive, compressed or not, as a layer."""
    blob = target.with_name(f"{target.name}.blob")
    blob.write_bytes(data)
    source = Source(blob, digest(data), diff_id or digest(plain(data)))
    unpack(source, target, limits)
