"""Brings images in from registries and archives, and sends them out.

An image exists as soon as the file images/NAME exists, and that file is written last. Each part
that comes before it (a blob, a layer, the origin) is complete in itself. So an interrupted pull
never leaves half an image, but only parts, which the next pull uses or removes. `workshop clean`
removes them, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workshop import (
    bounded,
    garbage,
    images,
    layers,
    oci,
    origins,
    packing,
    skopeo,
    unpacking,
)
from workshop.errors import Failure
from workshop.layers import Layer, remove_tree
from workshop.oci import Descriptor, Platform
from workshop.origins import Origin, Original


@dataclasses.dataclass(frozen=True)
class Stage:
    """How far one stage of a transfer has come."""

    name: str
    done: int = 0  # bytes
    total: int | None = None  # bytes; None: not known
    layers: tuple[int, int] | None = None  # how many are done, of how many


Report = Callable[[Stage], None]


@dataclasses.dataclass(frozen=True)
class Arrival:
    """The result of a pull or an import."""

    origin: Origin
    stack: tuple[Layer, ...]  # the top one first
    fetched: int  # bytes of blobs that were not here before
    unpacked: int  # layers that were not here before


def default_name(reference: str) -> str:
    """Returns the name that an image gets here: alpine for docker.io/library/alpine:3.22."""
    return reference.rpartition("/")[2].partition("@")[0].partition(":")[0]


def pull(reference: str, name: str, platform: Platform, report: Report) -> Arrival:
    """Fetches an image from a registry, except the parts that are here already. Raises Failure
    if the name belongs to another image."""
    place = skopeo.registry(reference)
    with _working(name) as scratch:
        _check_replaceable(name, reference)
        report(Stage("fetch"))
        data = skopeo.manifest(place)
        digest = oci.digest(data)
        if oci.is_list(data):
            place = place.at(oci.choose(data, platform).digest)
            data = skopeo.manifest(place)
        manifest = oci.parse_manifest(data)
        if before := _arrived_before(name, reference, digest, platform):
            return before
        missing = [blob for blob in manifest.layers if not blob.is_here()]
        for blob in missing:
            blob.path.unlink(missing_ok=True)  # skopeo would take it for the whole blob
        fetched = _fetch(place.at(oci.digest(data)), missing, platform, scratch, report)
        origin = Origin(reference, digest, fetched)
        size = sum(blob.size for blob in missing)
        return _install(name, origin, platform, scratch, report, size)


def import_(file: Path, name: str, platform: Platform, report: Report) -> Arrival:
    """Brings in an image from an archive: an OCI layout in a tar archive, or what `docker save`
    writes. Raises Failure if the name belongs to another image."""
    kind = _kind_of(file)
    with _working(name) as scratch:
        _check_replaceable(name, file.name)
        link = scratch / "archive"  # without a colon, where skopeo would split its path
        link.symlink_to(file.absolute())
        before = set(oci.BLOBS.glob("*/*"))
        place = skopeo.archive(link, kind)
        manifest = _fetch(place, [], platform, scratch, report)
        origin = Origin(file.name, manifest.digest, manifest)
        new = set(oci.BLOBS.glob("*/*")) - before
        size = sum(path.stat().st_size for path in new)
        return _install(name, origin, platform, scratch, report, size)


def push(name: str, reference: str, report: Report) -> str:
    """Sends an image to a registry. Returns the digest of its manifest."""
    return _send(name, skopeo.registry(reference), report)


def export(name: str, file: Path, kind: str, report: Report) -> str:
    """Writes an image to a file. Returns the digest of its manifest.

    kind: oci-archive or docker-archive. Both podman and Docker load the latter, and podman and
    new versions of Docker the former.
    """
    images.layers_of(name)  # raises Failure before anything is written
    if not file.absolute().parent.is_dir():
        raise Failure(f"{file.parent} is not a directory")
    with (
        layers.locked(fcntl.LOCK_SH),
        # In the same directory, so that a rename puts the whole archive in place.
        _scratch(file.absolute().parent, f".{file.name}") as folder,
        _scratch(layers.LAYERS, ".way") as way,
    ):
        (way / "to").symlink_to(folder)  # without a colon, where skopeo would split it
        tag = f"{name.lower()}:latest" if kind == "docker-archive" else ""
        place = skopeo.archive(way / "to/archive", kind, tag)
        digest = _send(name, place, report)
        (folder / "archive").rename(file)
        return digest


# ---- in


@contextlib.contextmanager
def _working(name: str) -> Iterator[Path]:
    """Makes a directory for temporary files during the block. Meanwhile, nothing removes layers
    and blobs that no image lists yet. First removes what killed commits and pulls left behind."""
    images.check_name(name)
    for folder in layers.LAYERS, images.IMAGES, oci.BLOBS:
        folder.mkdir(parents=True, exist_ok=True)
    with layers.locked(fcntl.LOCK_SH), _scratch(layers.LAYERS, f".{name}") as folder:
        for leftover in garbage.unfinished():
            remove_tree(leftover)
        yield folder


@contextlib.contextmanager
def _scratch(place: Path, prefix: str) -> Iterator[Path]:
    """Makes a directory during the block. Its name tells garbage.unfinished() which process
    made it."""
    folder = place / f"{prefix}.{os.getpid()}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove_tree(folder)


def _check_replaceable(name: str, reference: str) -> None:
    """Raises Failure if there is already an image of this name that comes from somewhere else, or
    whose upper layers would be lost."""
    if not (images.IMAGES / name).exists():
        return
    origin, made = origins.load(name), "was made here"
    if origin and all(map(garbage.is_unpacked, images.mentioned(name))):
        if origin.reference == reference:
            return
        made = f"is from {origin.reference}"
    raise Failure(
        f"there is already an image {name}, which {made}: choose another name with --name"
    )


def _arrived_before(
    name: str, reference: str, digest: str, platform: Platform
) -> Arrival | None:
    """Returns the image if it has arrived before and no part of it is missing."""
    with contextlib.suppress(Failure, FileNotFoundError):
        stack = images.layers_of(name)
        original = origins.find(name, stack)
        if (
            original
            and (original.origin.reference, original.origin.digest)
            == (reference, digest)
            and original.config.platform.suits(platform)
            and all(layer.path.is_dir() for layer in stack)
            and all(blob.is_here() for blob in original.blobs())
        ):
            return Arrival(original.origin, tuple(stack), 0, 0)
    return None


def _fetch(
    place: skopeo.Place,
    missing: list[Descriptor],
    platform: Platform,
    scratch: Path,
    report: Report,
) -> Descriptor:
    """Copies an image to oci.BLOBS. Returns its manifest. missing: the layers that will come,
    as far as that is known."""
    total = sum(blob.size for blob in missing) or None
    layout = scratch / "layout"
    layout.mkdir()

    def look(partial: int) -> None:
        here = [blob.size for blob in missing if blob.path.exists()]
        counts = (len(here), len(missing)) if missing else None
        report(Stage("fetch", sum(here) + partial, total, counts))

    manifest = skopeo.fetch(place, layout, platform, look)
    look(0)
    return manifest


def _install(
    name: str,
    origin: Origin,
    platform: Platform,
    scratch: Path,
    report: Report,
    fetched: int,
) -> Arrival:
    """Unpacks the layers that are not here yet, and writes the image's origin and its list of
    layers."""
    manifest, config = oci.read_manifest(origin.manifest)
    if not config.platform.suits(platform):
        raise Failure(
            f"the image is for {config.platform}, not for {platform}. "
            f"To get it nevertheless, add --platform {config.platform}"
        )
    stack = config.stack()
    if len(stack) > images.MOST:
        raise Failure(
            f"it has {len(stack)} layers, but step 07 can stack only {images.MOST}"
        )
    missing = {
        diff_id: blob
        for blob, diff_id in zip(manifest.layers, config.diff_ids, strict=True)
        if not oci.layer_path(diff_id).exists()
    }
    total, done = sum(blob.size for blob in missing.values()), 0
    for number, (diff_id, blob) in enumerate(missing.items()):

        def look(read: int, number: int = number, done: int = done) -> None:
            report(Stage("unpack", done + read, total, (number, len(missing))))

        _unpack(blob, diff_id, scratch, look)
        done += blob.size
    if missing:
        report(Stage("unpack", total, total, (len(missing), len(missing))))
    origins.save(name, origin)
    images.write_list(name, stack)
    arrived = tuple(Layer(path) for path in stack)
    return Arrival(origin, arrived, fetched, len(missing))


def _unpack(
    blob: Descriptor, diff_id: str, scratch: Path, look: Callable[[int], None]
) -> None:
    """Unpacks a layer, which gets its final name only once it is complete and on the disk."""
    path = oci.layer_path(diff_id)
    half = scratch / path.name
    source = unpacking.Source(blob.path, blob.digest, diff_id)
    try:
        unpacking.unpack(source, half, report=look)
    except Failure as error:
        with open(blob.path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if blob.digest == f"sha256:{found}":
            raise
        blob.path.unlink()
        again = (
            "Its blob was damaged on this disk. To fetch it again, repeat the command"
        )
        raise Failure(f"{error}. {again}") from None
    try:
        layers.complete(half, path)
    except OSError:
        if not path.is_dir():  # otherwise another pull was faster
            raise


def _kind_of(file: Path) -> str:
    """Returns skopeo's name for the kind of archive that a file is."""
    with open(file, "rb"):
        pass  # raises OSError if it cannot be read
    names = bounded.run(["tar", "-tf", str(file)], seconds=600).out.splitlines()
    found = {name.removeprefix("./") for name in names}
    if "oci-layout" in found:
        return "oci-archive"
    if "manifest.json" in found:
        return "docker-archive"
    raise Failure(f"{file} is neither an OCI archive nor an archive of docker save")


# ---- out


def _send(name: str, place: skopeo.Place, report: Report) -> str:
    """Sends an image to a place. Returns the digest of its manifest there."""
    stack = images.layers_of(name)
    images.check_layers(stack)
    with layers.locked(fcntl.LOCK_SH), _scratch(layers.LAYERS, ".out") as layout:
        _lay_out(name, stack, layout, report)
        report(Stage("send"))
        return skopeo.send(layout, place, lambda: report(Stage("send")))


def _lay_out(name: str, stack: list[Layer], layout: Path, report: Report) -> None:
    """Makes an OCI layout of an image. Blobs that came from outside go out unchanged, so that a
    registry which already has a layer does not get a second copy of it."""
    original = origins.find(name, stack)
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)
    upper = stack
    if original:
        upper = stack[: len(stack) - len(original.config.stack())]
        for path in {blob.path for blob in original.blobs()}:
            try:
                os.link(path, blobs / path.name)
            except FileNotFoundError:
                again = f"workshop image pull {original.origin.reference}"
                raise Failure(f"{path} is missing: type {again}") from None
    if original and not upper:
        manifest = original.origin.manifest
    else:
        manifest = _extend(original, upper, blobs, report)
    (layout / "index.json").write_bytes(oci.index(manifest, skopeo.NAME))
    (layout / "oci-layout").write_bytes(oci.dump(oci.LAYOUT))


def _extend(
    original: Original | None, upper: list[Layer], blobs: Path, report: Report
) -> Descriptor:
    """Writes the blobs of an image that has these upper layers, the top one first, and below them
    the layers of the original, if there is one. Returns the image's manifest."""
    document: dict[str, Any] = {"history": []}
    lower: list[Descriptor] = []
    diff_ids: list[str] = []
    if original:
        document = original.config.document
        lower += original.manifest.layers
        diff_ids += original.config.diff_ids
    else:
        platform = oci.own_platform()
        document |= {"os": platform.os, "architecture": platform.architecture}
    sizes = [layer.size() for layer in upper]
    for number, layer in reversed(list(enumerate(upper))):
        done = sum(sizes[number + 1 :])

        def look(written: int, number: int = number, done: int = done) -> None:
            size, counts = sum(sizes), (len(upper) - number - 1, len(upper))
            report(Stage("pack", min(done + written, size), size, counts))

        with open(blobs / "layer", "wb") as file:
            packed = packing.pack(layer.path, file, look)
        (blobs / "layer").rename(blobs / packed.digest.partition(":")[2])
        lower.append(Descriptor(oci.LAYER, packed.digest, packed.size))
        diff_ids.append(packed.diff_id)
        if "history" in document:  # optional, but if it exists it covers all layers
            document["history"].append({"created_by": f"workshop: {layer.label}"})
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    config = _write(blobs, oci.CONFIG, document)
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": config.as_json(),
        "layers": [blob.as_json() for blob in lower],
    }
    return _write(blobs, oci.MANIFEST, manifest)


def _write(blobs: Path, media_type: str, document: dict[str, Any]) -> Descriptor:
    """Writes a JSON document as a blob."""
    data = oci.dump(document)
    digest = oci.digest(data)
    (blobs / digest.partition(":")[2]).write_bytes(data)
    return Descriptor(media_type, digest, len(data))
