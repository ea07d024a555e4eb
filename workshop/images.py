"""Images on disk, where step 07 finds them. This module only reads them.

images/NAME is a text file with one line for each layer: the absolute path of a directory.
The top layer comes first.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from workshop.errors import Failure
from workshop.layers import Layer
from workshop.project import STATE

IMAGES = STATE / "images"


def names() -> list[str]:
    """Returns the names of all images. A leading dot means that one is not finished."""
    if not IMAGES.exists():
        return []
    return sorted(path.name for path in IMAGES.iterdir() if path.name[0] != ".")


def check_name(name: str) -> None:
    """Raises Failure unless an image can have this name, which becomes the name of a file
    and a part of the paths in lists of layers."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or len(name) > 100:
        raise Failure(
            f"{name!r} is not a valid name for an image: use up to 100 letters, digits, "
            "_, and after the first character also . and -"
        )


def layers_of(image: str) -> list[Layer]:
    """Returns the layers of an image, the top one first. The image is given by its name or,
    with a slash in it, by the path of a directory. Raises Failure if there is none."""
    if "/" in image:
        if not os.path.isdir(image):
            raise Failure(f"{image} is not a directory")
        return [Layer(Path(os.path.realpath(image)))]
    check_name(image)
    try:
        text = (IMAGES / image).read_text(errors="surrogateescape")
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise Failure(f"there is no image {image}. Existing images: {known}") from None
    return [Layer(Path(line)) for line in text.splitlines()]


def check_layers(layers: list[Layer]) -> None:
    """Raises Failure unless every layer is a directory."""
    for layer in layers:
        layer.check()
