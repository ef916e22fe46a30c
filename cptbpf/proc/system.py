"""The machine: kernel, boot, clocks."""

import os
import struct
import time
from functools import cache
from typing import NamedTuple

from cptbpf.proc import namespaces

_CLOCK_MONOTONIC_COARSE = 6
_NT_GNU_BUILD_ID = 3


class System(NamedTuple):
    """What stays the same while the machine is up.

    ``build_id`` is the running kernel's GNU build id in hex, from /sys/kernel/notes; ``boot_id`` a UUID of this boot; either is
    "" where the kernel does not say. ``hz`` are the scheduler's ticks per second, ``user_hz`` those that /proc counts in;
    ``page_size`` is in bytes. ``hostname`` is that of cptbpf's own UTS namespace.
    """

    release: str
    version: str
    machine: str
    hostname: str
    build_id: str
    boot_id: str
    hz: int
    user_hz: int
    page_size: int


class Clocks(NamedTuple):
    """Three clocks at one instant, in ns; ``spread`` is how far apart, at most, they were read, in ns.

    ``monotonic`` and ``boottime`` are the kernel's own, in which it keeps the start of a task, whatever cptbpf's own time
    namespace makes of them.
    """

    realtime: int
    monotonic: int
    boottime: int
    spread: int


def system() -> System:
    """The machine that cptbpf runs on."""
    name = os.uname()
    return System(
        release=name.release,
        version=name.version,
        machine=name.machine,
        hostname=name.nodename,
        build_id=_build_id(_read("/sys/kernel/notes")).hex(),
        boot_id=_read("/proc/sys/kernel/random/boot_id").decode("ascii", "replace").strip(),
        hz=round(1 / time.clock_getres(_CLOCK_MONOTONIC_COARSE)),  # its resolution is TICK_NSEC
        user_hz=os.sysconf("SC_CLK_TCK"),
        page_size=os.sysconf("SC_PAGESIZE"),
    )


def clocks() -> Clocks:
    """Read the clocks as close together as can be: the tightest of a few tries, in case one is interrupted."""
    return min((_clocks_once() for _ in range(8)), key=lambda clocks: clocks.spread)


def ahead() -> int:
    """What CLOCK_REALTIME is ahead of the kernel's own monotonic clock, in ns."""
    now = clocks()
    return now.realtime - now.monotonic


_offsets = cache(namespaces.clock_offsets)


def _clocks_once() -> Clocks:
    offsets = _offsets()
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    realtime = time.clock_gettime_ns(time.CLOCK_REALTIME)
    boottime = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return Clocks(realtime, (before + after) // 2 - offsets.monotonic, boottime - offsets.boottime, after - before)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def _build_id(notes: bytes) -> bytes:
    """The GNU build id among ELF notes, or b""."""
    offset = 0
    while offset + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, offset)
        name = offset + 12
        value = name + (name_size + 3 & ~3)
        if kind == _NT_GNU_BUILD_ID and notes[name : name + name_size] == b"GNU\0":
            return notes[value : value + size]
        offset = value + (size + 3 & ~3)
    return b""
