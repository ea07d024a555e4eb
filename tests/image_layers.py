"""Makes layers of images on disk from a description, and reads them back."""

import contextlib
import os
import pathlib
import stat

# What a path of a layer can be.
KINDS = ["file", "directory", "opaque", "link", "whiteout", "fifo", "setuid"]
# File names that confuse programs: blanks, line ends, dashes, leading dots.
NAMES = ["a", "b", "c", "..a", "-rf", " ", "a b", "line\nend", ".wh.a", "\\"]


def lay(layer: dict[str, str], folder: str) -> None:
    """Makes a layer's files in a new directory. The parents of a path become
    directories, unless the layer already has something else there."""
    os.mkdir(folder)
    for path, kind in layer.items():
        place = pathlib.Path(folder, path)
        with contextlib.suppress(FileExistsError, NotADirectoryError):
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind in ("directory", "opaque"):
                place.mkdir()
            elif kind == "link":
                place.symlink_to("/etc/passwd" if len(path) % 2 else "..")
            elif kind == "whiteout":
                os.mknod(place, stat.S_IFCHR, 0)
            elif kind == "fifo":
                os.mkfifo(place)
            else:
                with open(place, "x") as file:
                    file.write(path)
                place.chmod(0o4755 if kind == "setuid" else 0o640)
            if kind == "opaque":
                os.setxattr(place, "user.overlay.opaque", b"y")


def tree(path: str) -> dict[str, list[object]]:
    """Returns everything below a directory: {path: kind, mode, owner, content or
    target}."""
    found: dict[str, list[object]] = {}
    for directory, directories, files in os.walk(path):
        for name in [*directories, *files]:
            place = os.path.join(directory, name)
            if not os.path.lexists(
                place
            ):  # overlayfs lists even a whiteout that hides nothing
                continue
            status = os.lstat(place)
            about: list[object] = [status.st_mode, status.st_uid, status.st_rdev]
            if stat.S_ISLNK(status.st_mode):
                about.append(os.readlink(place))
            elif stat.S_ISREG(status.st_mode):
                about += [pathlib.Path(place).read_bytes(), status.st_nlink]
            if not stat.S_ISLNK(status.st_mode):
                about += [
                    (x, os.getxattr(place, x)) for x in sorted(os.listxattr(place))
                ]
            found[os.path.relpath(place, path)] = about
    return found
