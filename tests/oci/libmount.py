"""Stands in for the Python binding of libmount, of which crun's tests need one class."""


class _Mount:
    def __init__(self, line):
        own, _, rest = line.partition(" - ")
        fields = own.split()
        self.target, self.vfs_options = fields[4], fields[5]
        self.fs_options = rest.split()[2]


class Table:
    """The mounts in a file that has the format of /proc/self/mountinfo."""

    def __init__(self, path):
        with open(path) as file:
            self._mounts = [_Mount(line) for line in file if " - " in line]

    def find_target(self, path):
        """Returns the last mount at a path."""
        return next(mount for mount in reversed(self._mounts) if mount.target == path)
