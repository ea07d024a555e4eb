"""A registry on this machine, images that the tests make for it, and podman, which judges what
the guide makes of them. Debian's docker-registry, skopeo and podman; image-spec 1.1"""

import contextlib
import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import Any

from archives import digest
from workshop import oci


# Runs a command where cgroups of version 1 are out of sight. crun refuses them beside those of
# version 2, even if it is to make none.
WITHOUT_CGROUPS = ["unshare", "--mount", "sh", "-euc"]
WITHOUT_CGROUPS += [
    """test -e /sys/fs/cgroup/cgroup.controllers || mount -t tmpfs none /sys/fs/cgroup
    exec "$@" """,
    "sh",
]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer as a registry has it."""

    blob: bytes
    plain: bytes
    media_type: str = oci.LAYER


@dataclasses.dataclass(frozen=True)
class Registry:
    """A registry that runs, and its access log."""

    address: str
    log: pathlib.Path
    folder: pathlib.Path  # for files of the tests

    def reference(self, name: str) -> str:
        return f"{self.address}/test/{name}"

    def push(
        self,
        name: str,
        layers: Sequence[Layer],
        config: dict[str, Any] | None = None,
        **document: Any,
    ) -> str:
        """Pushes an image of these layers, the lowest one first. Returns its reference."""
        layout = self.folder / f"layout-{len(os.listdir(self.folder))}"
        lay_out(layout, layers, config or {}, **document)
        target = self.reference(name)
        skopeo(
            "copy", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{target}"
        )
        return target

    def requests(self) -> list[str]:
        """Returns the paths of all blobs and manifests that were fetched so far."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                method, path = line.split('"')[1].split()[:2]
                if method == "GET" and line.startswith("127.") and path != "/v2/":
                    found.append(path)
        return found


def lay_out(
    layout: pathlib.Path,
    layers: Sequence[Layer],
    config: dict[str, Any],
    **document: Any,
) -> None:
    """Makes an OCI layout of an image, which is called x in it."""
    blobs = layout / "blobs/sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, media_type: str) -> dict[str, Any]:
        name = digest(data)
        (blobs / name.partition(":")[2]).write_bytes(data)
        return {"mediaType": media_type, "digest": name, "size": len(data)}

    document = {
        "os": "linux",
        "architecture": oci.own_platform().architecture,
        "config": config,
        "rootfs": {
            "type": "layers",
            "diff_ids": [digest(layer.plain) for layer in layers],
        },
        **document,
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": put(json.dumps(document).encode(), oci.CONFIG),
        "layers": [put(layer.blob, layer.media_type) for layer in layers],
    }
    item = put(json.dumps(manifest).encode(), oci.MANIFEST)
    item["annotations"] = {oci.REF_NAME: "x"}
    index = {"schemaVersion": 2, "manifests": [item]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def skopeo(*words: str) -> str:
    """Runs skopeo. Returns its output."""
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout


@contextlib.contextmanager
def serve(folder: pathlib.Path) -> Iterator[Registry]:
    """Runs a registry on this machine during the block."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    (folder / "registry.json").write_text(json.dumps(config))  # which is YAML, too
    (folder / "files").mkdir()
    log = folder / "registry.log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "registry.json")],
            stdout=output,
            stderr=output,
        )
    try:
        end = time.monotonic() + 120  # in an emulated VM
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        yield Registry(f"127.0.0.1:{port}", log, folder / "files")
    finally:
        process.kill()
        process.wait()


class Podman:
    """podman with a storage of its own."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.options = ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]
        self.options += ["--storage-driver", "overlay"]

    def run(self, *words: str, by: Sequence[str] = ()) -> str:
        """Runs podman with these words. Returns its output. by: a command that runs it."""
        command = [*by, "podman", *self.options, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done
        return done.stdout

    def pull(self, reference: str) -> None:
        self.run("pull", "-q", "--tls-verify=false", reference)

    def start(self, reference: str) -> str:
        """Pulls an image, and runs a container of it. Returns the container's output."""
        options = ["--tls-verify=false", "--pull=always", "--quiet", "--rm"]
        # So it makes nothing outside the directory of its storage.
        options += ["--network=none", "--cgroups=disabled"]
        return self.run("run", *options, reference, by=WITHOUT_CGROUPS)

    @contextlib.contextmanager
    def mounted(self, reference: str) -> Iterator[pathlib.Path]:
        """Shows an image as a directory during the block."""
        yield pathlib.Path(self.run("image", "mount", reference).strip())
        self.run("image", "umount", reference)

    def close(self) -> None:
        """Removes all images, and the mount that podman makes for them."""
        self.run("rmi", "--all", "--force")
        place = os.fspath(self.folder / "root/overlay")
        if os.path.ismount(place):
            subprocess.run(["umount", place], check=True)
