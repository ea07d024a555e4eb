"""Images on disk, where step 07 finds them.

images/NAME is a text file with one line for each layer: the absolute path of a directory.
The top layer comes first.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from workshop.errors import Failure
from workshop.layers import Layer
from workshop.project import STATE

IMAGES = STATE / "images"
MOST = 228  # layers: mount(2) takes one page of options, and these fill it


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
    with a slash in it, by the path of a directory. Raises Failure if there is none, or if its
    list contains something else than absolute paths."""
    if "/" in image:
        if not os.path.isdir(image):
            raise Failure(f"{image} is not a directory")
        return [Layer(Path(os.path.realpath(image)))]
    check_name(image)
    try:
        lines = _lines(image)
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise Failure(f"there is no image {image}. Existing images: {known}") from None
    file = IMAGES / image
    if not lines:
        raise Failure(f"{file} lists no layer")
    for number, line in enumerate(lines, 1):
        where = f"{file}, line {number}"
        if not line.strip():
            raise Failure(f"{where} is blank: type `sed -i '{number}d' {file}`")
        if not line.startswith("/"):
            raise Failure(f"{where} is {line!r}, which is not an absolute path")
        if line != line.rstrip() and not os.path.exists(line):
            strip = f"sed -i 's/[[:space:]]*$//' {file}"
            what = "a carriage return (CRLF)" if line.endswith("\r") else "a blank"
            raise Failure(f"{where} ends with {what}: type `{strip}`")
    return [Layer(Path(line)) for line in lines]


def listed() -> set[Layer]:
    """Returns the layers that any image lists, also in a list that layers_of() refuses."""
    found = set()
    for name in names():
        with contextlib.suppress(IsADirectoryError):
            found |= mentioned(name)
    return found


def mentioned(name: str) -> set[Layer]:
    """Returns the layers in the list of an image, even if something is wrong with it."""
    return {Layer(Path(line.strip())) for line in _lines(name)}


def write_list(name: str, stack: Sequence[Path]) -> None:
    """Makes an image of layers, the top one first, in place of an earlier one of that name."""
    replace(IMAGES / name, "".join(f"{path}\n" for path in stack))


def replace(path: Path, text: str) -> None:
    """Writes a file in place of an earlier one. Even if the power fails, one of the two is there,
    and whole."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(new, "w", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _lines(name: str) -> list[str]:
    """Returns the lines of an image's list, as step 07 reads them: only a line feed ends
    one. Bytes that are not text stay as they are."""
    text = os.fsdecode((IMAGES / name).read_bytes())
    return text.removesuffix("\n").split("\n") if text else []


def check_layers(layers: list[Layer]) -> None:
    """Raises Failure unless overlayfs can stack these layers: each is a directory, none is
    the same as another or inside it, and there are at most MOST."""
    for layer in layers:
        layer.check()
    if len(layers) > MOST:
        raise Failure(f"it has {len(layers)} layers, but step 07 can stack only {MOST}")
    found: dict[Path, Layer] = {}
    for layer in layers:
        real = layer.path.resolve()
        if real in found:
            raise Failure(
                f"layer {layer.path} is listed twice, which overlayfs refuses"
            )
        found[real] = layer
    for real, layer in found.items():
        for outer in real.parents:
            if outer in found:
                raise Failure(
                    f"layer {layer.path} is inside layer {found[outer].path}, which "
                    "overlayfs refuses"
                )
