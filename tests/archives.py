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


class Refused(Exception):
    """An archive cannot be a layer."""


@dataclasses.dataclass
class Shown:
    """A file as a container shows it. Of a directory that no entry describes, only the type is
    known."""

    entry: Entry
    described: bool = True
    # Names of the same file have the same object.
    inode: object = dataclasses.field(default_factory=object)

    @property
    def is_directory(self) -> bool:
        return self.entry.type == tarfile.DIRTYPE


def below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


class Model:
    """What the layers of an image show together, without overlayfs and without a disk:
    image-spec, layer.md. A layer's whiteouts hide only what the layers below have."""

    def __init__(self) -> None:
        self.shown: dict[str, Shown] = {}

    def add(self, entries: list[Entry]) -> None:
        """Adds a layer. Raises Refused if it is not one."""
        own: dict[str, Shown] = {}
        hidden: set[str] = set()  # with everything below it
        opaque: set[str] = set()  # only what is below it
        for entry in entries:
            path = entry.name
            folder, _, name = path.rpartition("/")
            parts = folder.split("/") if folder else []
            for count in range(1, len(parts) + 1):
                parent = "/".join(parts[:count])
                if parent not in own:
                    own[parent] = Shown(directory(parent), described=False)
                elif not own[parent].is_directory:
                    raise Refused(path)
            if name == ".wh..wh..opq":
                opaque.add(folder)
                continue
            if name.startswith(".wh."):
                hidden.add(f"{folder}/{name[4:]}".lstrip("/"))
                continue
            merges = entry.type == tarfile.DIRTYPE and (
                path in own and own[path].is_directory
            )
            source = own.get(entry.linkname)
            if not merges and path in own:
                own = {p: s for p, s in own.items() if p != path and not below(p, path)}
                hidden = {p for p in hidden if not below(p, path)}
                opaque = {p for p in opaque if p != path and not below(p, path)}
            if entry.type == tarfile.LNKTYPE:
                if source is None or source.is_directory or entry.linkname == path:
                    raise Refused(path)
                if entry.linkname not in own:  # it was below what this one replaces
                    raise Refused(path)
                own[path] = source
            elif entry.type == tarfile.CHRTYPE:  # 0:0, a whiteout without .wh.
                hidden.add(path)
            else:
                own[path] = Shown(entry)
        self._merge(own, hidden, opaque)

    def _merge(self, own: dict[str, Shown], hidden: set[str], opaque: set[str]) -> None:
        def is_seen(path: str) -> bool:
            if any(path == gone or below(path, gone) for gone in hidden):
                return False
            if any(below(path, folder) for folder in opaque if folder):
                return False
            files = [p for p, shown in own.items() if not shown.is_directory]
            return not any(below(path, p) for p in files)

        lower = {path: shown for path, shown in self.shown.items() if is_seen(path)}
        self.shown = {**lower, **own}


# Few different ones, so that entries and layers meet.
PATHS = ["a", "a", "a", "a/b", "a/b", "b", "b/a", "a/b/c", "b/a/c", "a/l"]


def any_entry(draw: Any, st: Any) -> Entry:
    """Returns a random entry."""
    path = draw(st.sampled_from(PATHS))
    folder, _, name = path.rpartition("/")
    kind = draw(st.sampled_from("dddffffwwols0"))
    more = {
        "mode": draw(st.sampled_from([0o644, 0o4755, 0o1777, 0o700, 0])),
        "uid": draw(st.sampled_from([0, 7, 65535])),
        "mtime": draw(st.sampled_from([0, 1, 1700000000])),
    }
    if kind == "w":
        return file(f"{folder}/.wh.{name}".lstrip("/"), b"")
    if kind == "o":
        return file(f"{path}/.wh..wh..opq", b"")
    if kind == "0":
        return device(path, 0, 0)
    if kind == "l":
        target = draw(st.sampled_from(PATHS))
        return Entry(path, tarfile.LNKTYPE, linkname=target, more=more)
    if kind == "s":
        return Entry(f"{path}.link", tarfile.SYMTYPE, linkname="/etc", more=more)
    if kind == "d":
        return directory(path, **more)
    data = draw(st.sampled_from([b"", b"one", b"two"]))
    return file(path, data, **more)


def any_archive(st: Any, **options: Any) -> Any:
    """Returns a strategy of hypothesis for the entries of an archive.

    st: hypothesis.strategies, which takes half a minute to import in an emulated VM.
    options: of the strategy for a list.
    """
    entry = st.composite(lambda draw: any_entry(draw, st))()
    return st.lists(entry, max_size=8, **options)
