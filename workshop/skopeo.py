"""Runs skopeo, which talks to registries, knows their logins, mirrors and policies, and reads
and writes archives. skopeo-copy(1), skopeo-inspect(1)

Here it copies between a registry or an archive and an OCI layout, which is a directory with an
index.json and with blobs. Several layouts can share their blobs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from workshop import oci
from workshop.errors import MAKE_ROOM, Failure

NAME = "image"  # of the only image in a layout
LARGEST = 8 << 30  # bytes of a file
INTERVAL = 0.1  # seconds between two looks at the progress
# What the user can do about an error, by the words in skopeo's message.
ADVICE = {
    r"(manifest|name) unknown|(resource is|access) denied|unauthorized": (
        "Check the name and the tag. If the image is private, `skopeo login` comes first"
    ),
    r"invalid reference format": "A reference looks like alpine:3.22",
    r"lookup |unreachable|no route to host|timeout": (
        "Check the name of the registry, and the internet connection"
    ),
    r"connection refused": "Check the registry's address, and whether it runs",
    r"HTTPS client|x509|certificate": (
        "Only a registry on this machine may do without a valid certificate"
    ),
    r"no space left on device": MAKE_ROOM,
}


@dataclasses.dataclass(frozen=True)
class Place:
    """A place outside, where an image is or will be."""

    text: str  # as skopeo writes it: TRANSPORT:DETAILS
    checks_tls: bool = True

    @property
    def tls_verify(self) -> str:
        """The value of skopeo's options that end in tls-verify."""
        return str(self.checks_tls).lower()

    def at(self, digest: str) -> Place:
        """Returns the place of the manifest with this digest, in the same repository."""
        base, _, name = self.text.rpartition("/")
        name = re.split("[:@]", name)[0]
        return dataclasses.replace(self, text=f"{base}/{name}@{digest}")


def registry(reference: str) -> Place:
    """Returns the place of a reference such as alpine or quay.io/fedora/fedora:43. Like Docker,
    it lets a registry on this machine do without TLS."""
    reference = reference.removeprefix("docker://")
    if not re.fullmatch(r"[A-Za-z0-9\[][A-Za-z0-9_.:/@\[\]-]*", reference):
        raise Failure(f"{reference!r} is not a reference: type one such as alpine:3.22")
    is_here = re.match(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?/", reference)
    return Place(f"docker://{reference}", checks_tls=not is_here)


def archive(file: Path, kind: str, tag: str = "") -> Place:
    """Returns the place of an archive. The path must not contain a colon, because skopeo
    would end it there.

    kind: oci-archive or docker-archive. tag: the image's name in the archive.
    """
    return Place(f"{kind}:{file}" + (f":{tag}" if tag else ""))


def manifest(place: Place) -> bytes:
    """Returns the manifest at a place in a registry, or the list of manifests."""
    tls = f"--tls-verify={place.tls_verify}"
    return _run(["inspect", "--raw", tls, place.text])


def fetch(
    place: Place,
    layout: Path,
    platform: oci.Platform,
    report: Callable[[int], None],
) -> oci.Descriptor:
    """Copies an image to an OCI layout whose blobs go to oci.BLOBS, except those that are there
    already. Returns the manifest.

    layout: a directory, which is also used for temporary files.
    report: called again and again with the number of bytes in blobs that are not complete yet.
    """
    words = [f"--override-os={platform.os}", f"--override-arch={platform.architecture}"]
    words += [f"--override-variant={platform.variant}"] if platform.variant else []
    words += ["copy", "--quiet", f"--dest-shared-blob-dir={oci.BLOBS}"]
    words += [f"--src-tls-verify={place.tls_verify}"]
    words += [place.text, f"oci:{layout}:{NAME}"]
    _run(words, layout, lambda: report(_partial(layout)))
    return oci.only_manifest((layout / "index.json").read_bytes())


def send(layout: Path, place: Place, report: Callable[[], None]) -> str:
    """Copies the image of an OCI layout to a place. Returns the digest of its manifest there.
    report: called again and again."""
    words = ["copy", "--quiet", f"--digestfile={layout}/digest"]
    words += [f"--dest-tls-verify={place.tls_verify}"]
    words += [f"oci:{layout}:{NAME}", place.text]
    _run(words, layout, report)
    return (layout / "digest").read_text()


def _partial(layout: Path) -> int:
    """Returns how many bytes skopeo has written to files that are not complete."""
    total = 0
    for entry in os.scandir(layout):
        with contextlib.suppress(FileNotFoundError):  # it has just been completed
            total += entry.stat().st_size if entry.is_file() else 0
    return total


def _run(
    words: Sequence[str],
    scratch: Path | None = None,
    report: Callable[[], None] | None = None,
) -> bytes:
    """Runs skopeo. Returns its output. Raises Failure with its error."""
    if not shutil.which("skopeo"):
        raise Failure("skopeo is missing: type apt-get install skopeo")
    # It must not outlive this process, or fill the disk with what a small file expands to.
    command = ["setpriv", "--pdeathsig", "KILL", "prlimit", f"--fsize={LARGEST}"]
    command += ["skopeo", *words]
    environment = dict(os.environ, **({"TMPDIR": str(scratch)} if scratch else {}))
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env=environment,
        ) as process,
    ):
        try:
            while process.poll() is None:
                time.sleep(INTERVAL if report else INTERVAL / 10)
                if report:
                    report()
        finally:
            process.kill()
        for file in out, errors:
            file.seek(0)
        if process.returncode:
            raise Failure(_reason(errors.read(1 << 16).decode(errors="replace")))
        return out.read(oci.MOST + 1)


def _reason(text: str) -> str:
    """Returns what skopeo complained about, and what to do about it, in one line."""
    lines = text.strip().splitlines() or ["it failed without a message"]
    message = re.search(r'level=fatal msg="(.*)"$', lines[-1])
    reason = message[1].replace('\\"', '"') if message else lines[-1]
    reason = re.sub(r'^Error parsing image name "[^"]*": ', "", reason)
    advice = [text for words, text in ADVICE.items() if re.search(words, reason)]
    return ". ".join([f"skopeo: {reason[:500]}", *advice[:1]])
