"""A value that could not be had, with the reason: never an exception, for a task may vanish at any time."""

import errno
import os
from typing import NamedTuple

from cptbpf import procfs

GONE = "the process is gone"


class Absent(NamedTuple):
    """No value. ``reason`` is a short phrase for the image's provenance."""

    reason: str


DENIED = Absent("no permission")


def absent(error: OSError) -> Absent:
    """What a failed look into /proc/PID means."""
    if error.errno in (errno.ENOENT, errno.ESRCH):
        return Absent(GONE)
    if error.errno in (errno.EACCES, errno.EPERM):
        return DENIED
    if error.errno == procfs.COVERED:
        return Absent("not read: something is mounted over it")
    return Absent(os.strerror(error.errno) if error.errno else str(error))
