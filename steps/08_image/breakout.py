#!/usr/bin/python3
"""Break-out 08: be root although the image says otherwise."""

import contextlib
import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.join(sys.path[0], ".."))
from attack import Attack

STATE = "/var/lib/workshop"


@contextlib.contextmanager
def image(config):
    """Makes an image of debian's layers with a config, as a pull leaves it, for a while."""
    name = f"breakout-{os.getpid()}"
    paths = [f"{STATE}/images/{name}", f"{STATE}/origins/{name}"]

    def blob(document):
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        paths.append(f"{STATE}/blobs/sha256/{digest}")
        write(paths[-1], data)
        return {"digest": f"sha256:{digest}"}

    def write(path, data):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    try:
        manifest = blob({"config": blob({"config": config})})
        write(paths[1], json.dumps({"manifest": manifest}).encode())
        with open(f"{STATE}/images/debian", "rb") as file:
            write(paths[0], file.read())
        yield name
    finally:
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


attack = Attack()

with image({"User": "nobody"}) as name:
    process = attack.inside("sh", "-c", "echo evil >>/etc/passwd && id -un", image=name)
attack.report("write a file of root's as nobody", process.returncode == 0, process)

attack.end()
