"""The mounts of a mount namespace, by /proc/PID/mountinfo."""

from collections.abc import Iterator
from typing import NamedTuple

from cptbpf import procfs


class Mount(NamedTuple):
    """One mount.

    ``device``
        ``sb->s_dev`` of its file system: major << 20 | minor.
    ``point``
        Where it is mounted, raw: a space in it is ``\\040``.
    ``kind``, ``options``
        The type of the file system, and what is said of its super block.
    """

    id: int
    device: int
    point: bytes
    kind: bytes
    options: bytes


def mounts(path: str = "self/mountinfo", dir_fd: int | None = None) -> Iterator[Mount]:
    """Those of a file of /proc, in its order; without one, cptbpf's own. Raises OSError."""
    for line in procfs.read_file(path, dir_fd).split(b"\n"):
        if line:
            # id, parent, major:minor, root, point, options, any number of fields, a dash; then of the file system
            columns = line.split(b" ")
            kind, _source, options = columns[columns.index(b"-", 6) + 1 :][:3]
            major, minor = columns[2].split(b":")
            yield Mount(int(columns[0]), int(major) << 20 | int(minor), columns[4], kind, options)
