"""Every task that /proc lists and shows."""

import fcntl
import os
from typing import NamedTuple

from cptbpf import procfs
from cptbpf.proc import namespaces, stat

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
        if _is_number(name):
            for tid in _threads(int(name)):
                one = _listed(tid, int(name))
                if one:
                    found[one.tid] = one
    return found


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit()


def _threads(tgid: int) -> list[int]:
    path = f"{tgid}/task"
    try:
        names = namespaces.own_or_cover(tgid, lambda: procfs.list_folder(path), lambda: os.listdir(f"/proc/{path}"))
    except OSError:
        return []
    return [int(name) for name in names if _is_number(name)]


def _listed(tid: int, tgid: int) -> Listed | None:
    path = f"{tgid}/task/{tid}/stat"
    try:
        read = stat.parse(namespaces.own_or_cover(tgid, lambda: procfs.read_record(path), lambda: procfs.read_cover(path)))
    except (OSError, ValueError):
        return None
    return Listed(tid, tgid, read.ppid, read.comm, read.starttime)


def namespaces_of(pid: int) -> tuple[int, ...]:
    """Inode numbers of the pid namespaces that a process is in, from its own one outwards, as far as they are ours to see."""
    inodes: list[int] = []
    try:
        descriptor = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ()
    while True:
        inodes.append(os.fstat(descriptor).st_ino)
        try:
            parent = fcntl.ioctl(descriptor, _NS_GET_PARENT)
        except OSError:  # EPERM: the next one is not ours to see; ENOTTY: no namespace at all, but what somebody put there
            return tuple(inodes)
        finally:
            os.close(descriptor)
        descriptor = parent
