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
    try:
        names = procfs.list_folder(f"{tgid}/task")
    except OSError as error:
        if error.errno != procfs.COVERED or namespaces.may_hang(tgid):
            return []
        names = _covered(tgid)
    return [int(name) for name in names if _is_number(name)]


def _covered(tgid: int) -> list[str]:
    """What is listed there instead of the threads."""
    try:
        return os.listdir(f"/proc/{tgid}/task")
    except OSError:
        return []


def _listed(tid: int, tgid: int) -> Listed | None:
    try:
        read = stat.parse(_text(f"{tgid}/task/{tid}/stat", tgid))
    except (OSError, ValueError):
        return None
    return Listed(tid, tgid, read.ppid, read.comm, read.starttime)


def _text(path: str, tgid: int) -> bytes:
    try:
        return procfs.read_record(path)
    except OSError as error:
        if error.errno != procfs.COVERED or namespaces.may_hang(tgid):
            raise
        return procfs.read_cover(path)


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
