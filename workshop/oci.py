"""Reads the parts of an image from outside: blobs, which are files named after the SHA-256 of
their contents. One blob is the manifest, which lists the others: the config and the layers. OCI
image-spec 1.1; Docker's manifests have the same fields.

All blobs are in one directory, BLOBS, so images that share a layer share its blob. This module
only reads them, and trusts nothing that it reads.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from workshop.errors import UNREADABLE, Failure
from workshop.layers import LAYERS
from workshop.project import STATE

BLOBS = STATE / "blobs"  # skopeo expects them in a subdirectory with the hash's name
MOST = 4 << 20  # bytes of a manifest or config: registries accept no more

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYOUT = {"imageLayoutVersion": "1.0.0"}  # the contents of the file oci-layout
REF_NAME = "org.opencontainers.image.ref.name"  # an annotation in the index

_LISTS = {  # media types of a list with one manifest for each platform
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFESTS = {MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"}
_CONFIGS = {CONFIG, "application/vnd.docker.container.image.v1+json"}
# What Go calls the machines that the steps run on.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386"}


@dataclasses.dataclass(frozen=True)
class Platform:
    """What a program needs to run: linux/arm64, or with a variant linux/arm/v7."""

    os: str
    architecture: str
    variant: str = ""  # "": any

    def __str__(self) -> str:
        return "/".join(filter(None, dataclasses.astuple(self)))

    def suits(self, wanted: Platform) -> bool:
        """Returns whether an image for this platform is what `wanted` asks for."""
        same = (self.os, self.architecture) == (wanted.os, wanted.architecture)
        return same and (not wanted.variant or self.variant == wanted.variant)


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """Names a blob. OCI image-spec, descriptor.md"""

    media_type: str
    digest: str  # sha256:HEX
    size: int  # bytes

    @property
    def path(self) -> Path:
        """Where the blob is, if it is here."""
        return BLOBS / self.digest.replace(":", "/")

    def is_here(self) -> bool:
        """Returns whether the blob is here and has its full size."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_size == self.size
        return False

    def as_json(self) -> dict[str, Any]:
        """Returns the descriptor as a manifest or an index contains it."""
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The parts of one image."""

    config: Descriptor
    layers: tuple[Descriptor, ...]  # the lowest one first

    def blobs(self) -> tuple[Descriptor, ...]:
        """Returns all of its parts."""
        return (self.config, *self.layers)


@dataclasses.dataclass(frozen=True)
class Config:
    """What an image says about itself."""

    platform: Platform
    diff_ids: tuple[str, ...]  # sha256:HEX of each layer's plain tar, the lowest first
    document: dict[str, Any]  # everything else as well

    def stack(self) -> list[Path]:
        """Returns the directories of the image's layers, as step 07 stacks them: the top one
        first. overlayfs refuses a layer that occurs twice, so only its upper place counts. The
        files are the same: whatever the layer adds or hides in the lower place, it adds or hides
        again in the upper one."""
        return list(
            dict.fromkeys(layer_path(diff_id) for diff_id in self.diff_ids[::-1])
        )


def own_platform() -> Platform:
    """Returns the platform of this machine."""
    machine = os.uname().machine
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


def parse_platform(text: str) -> Platform:
    """Returns the platform that a user means: arm64, linux/arm64 or linux/arm/v7."""
    parts = text.split("/") if "/" in text else ["linux", text]
    if len(parts) > 3 or not all(re.fullmatch(r"[a-z0-9_.]+", part) for part in parts):
        raise Failure(f"{text!r} is not a platform: type one such as linux/arm64")
    return Platform(*parts)


def layer_path(diff_id: str) -> Path:
    """Returns the directory of the layer whose plain tar has this digest. Images that share a
    layer share its directory, however each of them compressed it."""
    return LAYERS / diff_id.replace(":", "-")


def is_list(data: bytes) -> bool:
    """Returns whether this is a list of manifests for several platforms, and not a manifest."""
    document = _parse(data, "the manifest")
    kind = document.get("mediaType")
    return str(kind) in _LISTS if kind else "manifests" in document


def choose(data: bytes, wanted: Platform) -> Descriptor:
    """Returns the manifest for a platform from a list. Raises Failure if there is none."""
    document = _parse(data, "the index")
    found = []
    try:
        for item in document["manifests"]:
            about = item.get("platform")
            if item.get("mediaType") in _MANIFESTS and about:
                platform = _platform(about)
                if platform.suits(wanted):
                    return _descriptor(item)
                if platform.os != "unknown":  # as it is for attestations
                    found.append(str(platform))
    except UNREADABLE as error:
        raise _damaged("the index", error) from None
    offers = ", ".join(found[:20]) or "no platform"
    raise Failure(f"there is no image for {wanted}. There is one for {offers}")


def only_manifest(index: bytes) -> Descriptor:
    """Returns the only manifest that the index.json of an OCI layout names."""
    document = _parse(index, "index.json")
    try:
        [item] = document["manifests"]
        return _descriptor(item)
    except UNREADABLE as error:
        raise _damaged("index.json", error) from None


def parse_manifest(data: bytes) -> Manifest:
    """Returns the manifest. Raises Failure if it is not that of a container image."""
    document = _parse(data, "the manifest")
    try:
        if document["schemaVersion"] != 2:
            raise Failure(
                f"its manifest has version {document['schemaVersion']}, and only 2 is known"
            )
        config = _descriptor(document["config"])
        layers = tuple(_descriptor(item) for item in document["layers"])
    except UNREADABLE as error:
        raise _damaged("the manifest", error) from None
    if config.media_type not in _CONFIGS:
        raise Failure(
            f"this is not a container image: its config is of type {config.media_type}"
        )
    return Manifest(config, layers)


def parse_config(data: bytes) -> Config:
    """Returns the config. Raises Failure unless it is that of a Linux image with layers."""
    document = _parse(data, "the config")
    try:
        platform = _platform(document)
        if document["rootfs"]["type"] != "layers":
            raise ValueError("its rootfs is not of type layers")
        diff_ids = tuple(_digest(text) for text in document["rootfs"]["diff_ids"])
        _check_command(document.get("config") or {})
    except UNREADABLE as error:
        raise _damaged("the config", error) from None
    if platform.os != "linux":
        raise Failure(f"the image is for {platform}, and containers here run Linux")
    return Config(platform, diff_ids, document)


def _check_command(config: dict[str, Any]) -> None:
    """Raises ValueError unless what a config says about the image's command has the types that
    runtimes rely on. Null counts as missing."""
    for key in "Entrypoint", "Cmd", "Env":
        words = config.get(key)
        if words is None:
            continue
        if not isinstance(words, list) or not all(map(_is_word, words)):
            raise ValueError(f"its {key} is not a list of words")
    for key in "User", "WorkingDir":
        if not _is_word(config.get(key) or ""):
            raise ValueError(f"its {key} is not a word")


def _is_word(value: object) -> bool:
    """Returns whether a value can be an argument of a program: execve(2)."""
    return isinstance(value, str) and "\0" not in value


def read(descriptor: Descriptor) -> bytes:
    """Returns the contents of a manifest or config. Raises Failure if they do not match the
    digest. A layer can be too large for this: see unpacking.py."""
    if descriptor.size > MOST:
        raise Failure(f"{descriptor.digest} has {descriptor.size} bytes: too many")
    try:
        with open(descriptor.path, "rb") as file:
            data = file.read(MOST + 1)
    except FileNotFoundError:
        raise Failure(f"the blob {descriptor.digest} is missing") from None
    if digest(data) != descriptor.digest or len(data) != descriptor.size:
        raise Failure(f"the blob {descriptor.digest} has other contents than its name")
    return data


def read_manifest(descriptor: Descriptor) -> tuple[Manifest, Config]:
    """Reads a manifest and its config from their blobs. Raises Failure if they do not belong
    together."""
    manifest = parse_manifest(read(descriptor))
    config = parse_config(read(manifest.config))
    if len(manifest.layers) != len(config.diff_ids):
        raise Failure(
            f"the manifest lists {len(manifest.layers)} layers, "
            f"but the config {len(config.diff_ids)}"
        )
    return manifest, config


def digest(data: bytes) -> str:
    """Returns the digest of some bytes: sha256:HEX."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def dump(document: dict[str, Any]) -> bytes:
    """Returns a document as JSON. Equal documents give equal bytes."""
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def index(manifest: Descriptor, name: str) -> bytes:
    """Returns the index.json of an OCI layout with one image, which has this name."""
    item = {**manifest.as_json(), "annotations": {REF_NAME: name}}
    return dump({"schemaVersion": 2, "manifests": [item]})


def _parse(data: bytes, what: str) -> dict[str, Any]:
    try:
        if len(data) > MOST:
            raise ValueError(f"it has over {MOST} bytes")
        document = json.loads(data)
        if not isinstance(document, dict):
            raise ValueError("it is not an object")
        return document
    except UNREADABLE as error:
        raise _damaged(what, error) from None


def _damaged(what: str, error: Exception) -> Failure:
    why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
    return Failure(f"{what} of the image cannot be read: {why[:200]}")


def _descriptor(item: dict[str, Any]) -> Descriptor:
    size = item["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"a size of {size!r}")
    return Descriptor(str(item["mediaType"]), _digest(item["digest"]), size)


def _digest(text: object) -> str:
    """Returns a digest. Raises ValueError if it is anything else, because it becomes a part of
    paths."""
    if not isinstance(text, str) or not re.fullmatch(r"sha256:[0-9a-f]{64}", text):
        raise ValueError(f"{text!r} is not the digest of a SHA-256")
    return text


def _platform(document: dict[str, Any]) -> Platform:
    variant = document.get("variant") or ""
    return Platform(str(document["os"]), str(document["architecture"]), str(variant))
