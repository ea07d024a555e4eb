"""Images and layers as they lie on disk, where step 07 finds them. Reads only.

images/NAME is a text file: one layer, the absolute path of a directory, a line; the top one
first. A layer lies on those below it as overlayfs has it (filesystems/overlayfs in the
kernel's documentation): a file in it hides the file of the same name below, a directory is
merged with the one below unless it is opaque, a whiteout (character device 0:0) takes away.
"""

import os
import re
import stat
from collections import namedtuple
from pathlib import Path

from workshop.errors import Failure

STATE = Path("/var/lib/workshop")
IMAGES, LAYERS = STATE / "images", STATE / "layers"

# path: below the root, with a leading slash; layer: its place in the stack, 0 is the top;
# whiteout: whether it is one; hidden: the place of the layer that hides it, or None.
Entry = namedtuple("Entry", "path layer whiteout hidden")


def names():
    """The names of all images. Those with a leading dot are not finished."""
    if not IMAGES.exists():
        return []
    return sorted(p.name for p in IMAGES.iterdir() if p.name[0] != ".")


def check_name(name):
    """Failure unless name can be an image's: it becomes the name of a file, and a word in
    the lists of layers."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or len(name) > 100:
        raise Failure(
            f"{name!r} cannot be an image's name: "
            "letters, digits, _ and, not at its beginning, . and -; at most 100"
        )


def layers_of(image):
    """The layers of an image, given by name or, with a slash in it, by path: absolute paths,
    the top one first. Failure: there is no such image."""
    if "/" in image:
        if not os.path.isdir(image):
            raise Failure(f"{image} is not a directory")
        return [Path(os.path.realpath(image))]
    check_name(image)
    try:
        text = (IMAGES / image).read_text(errors="surrogateescape")
        return [Path(line) for line in text.splitlines()]
    except FileNotFoundError:
        known = ", ".join(names()) or "none"
        raise Failure(f"there is no image {image}; there are: {known}") from None


def check_layers(layers):
    """Failure unless every layer is a directory, as overlayfs demands."""
    for layer in layers:
        if not layer.is_dir():
            what = "not a directory" if layer.exists() else "missing"
            raise Failure(f"layer {layer} is {what}")


def label(layer):
    """How a layer is called on the screen: by its name, if it lies where they belong."""
    return layer.name if layer.parent == LAYERS else str(layer)


def size(layer):
    """The bytes that a directory takes on disk, as du(1) counts them."""
    total, linked = 0, set()
    for directory, directories, files in os.walk(layer):
        # A link to a directory is among the directories; os.walk does not follow it.
        links = [
            name
            for name in directories
            if os.path.islink(os.path.join(directory, name))
        ]
        for name in ["", *links, *files]:
            status = os.lstat(os.path.join(directory, name))
            if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
                key = status.st_dev, status.st_ino
                if key in linked:
                    continue
                linked.add(key)
            total += status.st_blocks * 512
    return total


def entries(layers):
    """Yields an Entry for each file (whatever is not a directory) of each layer, from the
    top one down."""
    # Of a path the highest layer that shows nothing of it from below; and the highest with a
    # directory there, which hides files below it.
    covers: dict[str, int] = {}
    merges: dict[str, int] = {}
    for number, layer in enumerate(layers):
        found_covers, found_merges = {}, {}
        pending: list[tuple[str, str, int | None]] = [(str(layer), "", None)]
        while pending:
            directory, prefix, hidden = pending.pop()
            below = []
            for item in os.scandir(directory):
                path = f"{prefix}/{item.name}"
                hides = covers.get(path) if hidden is None else hidden
                if item.is_dir(follow_symlinks=False):
                    found_merges[path] = number
                    inside = hides
                    if inside is None:
                        inside = covers.get(path + "/")  # an opaque directory's
                    if _is_opaque(item.path):
                        found_covers[path + "/"] = number
                    below.append((item.path, path, inside))
                else:
                    found_covers[path] = number
                    hides = merges.get(path) if hides is None else hides
                    yield Entry(path, number, _is_whiteout(item), hides)
            pending += below
        for known, found in (covers, found_covers), (merges, found_merges):
            for path, place in found.items():
                known.setdefault(path, place)


def _is_whiteout(item):
    status = item.stat(follow_symlinks=False)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(directory):
    """Whether a directory hides all that layers below have in it."""
    for kind in ("user", "trusted"):  # step 07 mounts with userxattr
        try:
            if os.getxattr(directory, f"{kind}.overlay.opaque") == b"y":
                return True
        except OSError:
            pass
    return False
