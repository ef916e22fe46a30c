"""cptbpf's own user and time namespace, through which /proc shows ids and times; and where /proc itself is veiled."""

import os
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from cptbpf import procfs
from cptbpf.proc.mountinfo import mounts

MAY_HANG = (b"fuse", b"nfs", b"cifs", b"smb", b"ceph", b"afs", b"9p", b"autofs")
"""Types of file systems, by how they begin, that may keep who opens a file waiting for ever."""

T = TypeVar("T")
_CLOCKS = {"monotonic": "monotonic", "boottime": "boottime", "1": "monotonic", "7": "boottime"}  # by number before 5.7
_DEFAULT_OVERFLOW = 65534  # DEFAULT_OVERFLOWUID, DEFAULT_OVERFLOWGID of linux/highuid.h


def id_map(kind: str) -> tuple[tuple[int, int, int], ...]:
    """The lines (inside, outside, count) of /proc/self/uid_map or gid_map, by ``kind`` ``uid`` or ``gid``.

    ``outside`` are ids of the parent user namespace. Who may load BPF programs is in the initial one or right below it, so that
    these are the kernel's own ids.
    """
    with open(f"/proc/self/{kind}_map") as stream:
        return tuple((int(inside), int(outside), int(count)) for inside, outside, count in map(str.split, stream))


def overflow_id(kind: str) -> int:
    """What a user namespace shows for an id that has no place in it, by ``kind`` ``uid`` or ``gid``: the sysctl
    kernel.overflowuid or overflowgid; its default where /proc is mounted without them (subset=pid)."""
    try:
        with open(f"/proc/sys/kernel/overflow{kind}") as stream:
            return int(stream.read())
    except FileNotFoundError:
        return _DEFAULT_OVERFLOW


class ClockOffsets(NamedTuple):
    """What cptbpf's time namespace adds to the kernel's own clocks, in ns."""

    monotonic: int
    boottime: int


def clock_offsets() -> ClockOffsets:
    """The offsets of cptbpf's time namespace; both 0 in the initial one, or without time namespaces."""
    found = dict.fromkeys(_CLOCKS.values(), 0)
    try:
        # The file is about the namespace of children to come, which unshare(2) makes another one; ours then is the initial one.
        if os.readlink("/proc/self/ns/time") == os.readlink("/proc/self/ns/time_for_children"):
            with open("/proc/self/timens_offsets") as stream:
                for line in stream:
                    clock, seconds, nanoseconds = line.split()
                    found[_CLOCKS.get(clock, clock)] = int(seconds) * 1_000_000_000 + int(nanoseconds)
    except FileNotFoundError:
        pass
    return ClockOffsets(found["monotonic"], found["boottime"])


def covers() -> dict[int, list[str]]:
    """The processes over whose folder in /proc, or over something in it, another file system is mounted: where, by the pid."""
    found: dict[int, list[str]] = {}
    try:
        points = [mount.point for mount in mounts()]
    except OSError:
        return found
    for place in map(os.fsdecode, points):
        parts = place.split("/")
        if parts[1:2] == ["proc"] and len(parts) > 2 and parts[2].isdecimal():
            found.setdefault(int(parts[2]), []).append(place)
    return found


def may_hang(pid: int) -> bool:
    """Whether a file system that some process or another machine serves, and which might never answer, is mounted over
    something of a process."""
    head = b"/proc/%d" % pid
    over = (mount for mount in mounts() if mount.point == head or mount.point.startswith(head + b"/"))
    return any(mount.kind.startswith(MAY_HANG) for mount in over)


def own_or_cover(pid: int, own: Callable[[], T], cover: Callable[[], T]) -> T:
    """What is read of a process in /proc, by ``own``; where something is mounted over it, by ``cover`` what stands there.

    Raises OSError: of either, and with procfs.COVERED where that might never answer.
    """
    try:
        return own()
    except OSError as error:
        if error.errno != procfs.COVERED or may_hang(pid):
            raise
    return cover()


def veil(pid: int) -> str:
    """What hides a process from who looks at /proc: a mount over its directory, or the option hidepid; "" for neither."""
    if places := covers().get(pid):
        return f"a mount over {places[0]}"
    try:
        over = [mount for mount in mounts() if mount.point == b"/proc"]
    except OSError:
        return ""
    for option in over[-1].options.split(b",") if over else ():
        if option.startswith(b"hidepid=") and option not in (b"hidepid=0", b"hidepid=off"):
            return f"/proc is mounted with {option.decode('ascii', 'replace')}"
    return ""
