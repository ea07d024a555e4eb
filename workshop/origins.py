"""Keeps a record of where the images that were not made here come from.

origins/NAME says where the image NAME comes from. A commit takes over the origin of its container's
image, so an image can have more layers on top of those that came from outside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path

from workshop import images, oci
from workshop.errors import UNREADABLE, Failure
from workshop.layers import Layer
from workshop.oci import Config, Descriptor, Manifest
from workshop.project import STATE

ORIGINS = STATE / "origins"


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where an image comes from."""

    reference: str  # what the user pulled, or the name of the file that it was in
    digest: (
        str  # sha256:HEX of what the reference stands for: perhaps a list of manifests
    )
    manifest: Descriptor  # of this image, in oci.BLOBS


@dataclasses.dataclass(frozen=True)
class Original:
    """An image, and its parts as they came from outside."""

    origin: Origin
    manifest: Manifest
    config: Config

    def blobs(self) -> tuple[Descriptor, ...]:
        """Returns everything that the manifest names, and the manifest itself."""
        return (*self.manifest.blobs(), self.origin.manifest)


def load(name: str) -> Origin | None:
    """Returns the origin of an image, or None if it was made here or is given as the path of a
    directory."""
    if "/" in name:
        return None
    with contextlib.suppress(FileNotFoundError, *UNREADABLE):
        document = json.loads((ORIGINS / name).read_bytes())
        manifest = Descriptor(**document.pop("manifest"))
        return Origin(manifest=manifest, **document)
    return None


def find(name: str, layers: list[Layer]) -> Original | None:
    """Returns the origin of an image with these layers, and its parts. Returns None if the image
    was made here, or if its lowest layers are not those of the origin, because somebody edited
    the list."""
    origin = load(name)
    if origin is None:
        return None
    manifest, config = oci.read_manifest(origin.manifest)
    stack = config.stack()
    lowest = [layer.path for layer in layers[len(layers) - len(stack) :]]
    return Original(origin, manifest, config) if lowest == stack else None


def save(name: str, origin: Origin) -> None:
    """Records the origin of an image, and replaces an earlier record."""
    ORIGINS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(origin), indent=1)
    images.replace(ORIGINS / name, text + "\n")


def remove(name: str) -> None:
    """Removes the record of where an image comes from, if there is one."""
    (ORIGINS / name).unlink(missing_ok=True)


def blobs() -> set[Path]:
    """Returns the blobs that images need to be pushed or exported."""
    needed = set()
    for name in images.names():
        if origin := load(name):
            needed.add(origin.manifest.path)
            with contextlib.suppress(Failure):
                manifest = oci.parse_manifest(oci.read(origin.manifest))
                needed |= {blob.path for blob in manifest.blobs()}
    return needed
