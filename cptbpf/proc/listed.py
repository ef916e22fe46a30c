"""Every task that /proc lists and shows."""

import errno
import fcntl
import os
from typing import NamedTuple

from cptbpf.proc import stat

_NS_GET_PARENT = 0xB702  # linux/nsfs.h
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds of one tick of /proc."""


class Listed(NamedTuple):
    """A task that a listing of /proc has, and whose stat could be read. ``start_ticks`` and ``ppid`` are columns of stat."""

    tid: int
    tgid: int
    ppid: int
    comm: bytes
    start_ticks: int


def tasks() -> dict[int, Listed]:
    """Every task that /proc lists and shows, by its id."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            for tid in _threads(name):
                one = _listed(int(tid), int(name))
                if one:
                    found[one.tid] = one
    return found


def _threads(process: str) -> list[str]:
    try:
        return os.listdir(f"/proc/{process}/task")
    except OSError:
        return []


def _listed(tid: int, tgid: int) -> Listed | None:
    try:
        read = stat.read(tgid, tid)
    except (OSError, ValueError):
        return None
    return Listed(tid, tgid, read.ppid, read.comm, read.starttime)


def namespaces_of(pid: int) -> tuple[int, ...]:
    """Inode numbers of the pid namespaces that a process is in, from its own one outwards, as far as they are ours to see."""
    inodes: list[int] = []
    try:
        descriptor = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ()
    while True:
        inodes.append(os.fstat(descriptor).st_ino)
        try:
            parent = fcntl.ioctl(descriptor, _NS_GET_PARENT)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EINVAL):
                raise
            return tuple(inodes)
        finally:
            os.close(descriptor)
        descriptor = parent
