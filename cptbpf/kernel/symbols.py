"""Names of kernel addresses, from /proc/kallsyms.

Reading its hundred thousand lines takes longer than a whole snapshot, so the kernel's own text, which does not move until the
next boot, is kept as a table in the run directory. Modules come and go: their addresses are named by module and offset.
"""

import array
import bisect
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

from cptbpf import rundir

_HEAD = struct.Struct("=Q")
_TEXT = {b"t", b"T", b"w", b"W"}


class Symbols:
    """Resolves kernel text addresses."""

    def __init__(self) -> None:
        table = _cached() or _make()
        (count,) = _HEAD.unpack_from(table)
        view = memoryview(table)
        names_at = _HEAD.size + 12 * count
        self._addresses = view[_HEAD.size : _HEAD.size + 8 * count].cast("Q")
        self._offsets = view[_HEAD.size + 8 * count : names_at].cast("I")
        self._names = view[names_at:]
        self._modules = _modules()

    def name(self, address: int) -> str:
        """``symbol+0xoffset``, ``[module]+0xoffset``, or the address in hex where nothing is known of it."""
        at = bisect.bisect_right(self._addresses, address) - 1
        if 0 <= at < len(self._addresses) - 1:  # the last one is _etext or behind it
            start = self._offsets[at]
            name = bytes(self._names[start : start + 256]).split(b"\n", 1)[0].decode("ascii", "replace")
            return f"{name}+{address - self._addresses[at]:#x}"
        for start, size, module in self._modules:
            if start <= address < start + size:
                return f"[{module}]+{address - start:#x}"
        return f"{address:#x}"


def _path() -> str | None:
    where = rundir.directory()
    if where is None:
        return None
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return f"{where}/symbols-{stream.read().strip()}"
    except FileNotFoundError:  # /proc with subset=pid
        return None


def _cached() -> mmap.mmap | None:
    path = _path()
    if path is None or not os.path.exists(path):
        return None
    with open(path, "rb") as stream:
        return mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)


def _make() -> bytes:
    """Reads /proc/kallsyms. An empty table where it is not there, or the addresses are hidden (kernel.kptr_restrict)."""
    found: dict[int, bytes] = {}
    end = 0
    for line in _kallsyms():
        address, kind, name, *module = line.split()
        if kind in _TEXT and not module:
            found.setdefault(int(address, 16), name)
        if name == b"_etext":
            end = int(address, 16)
    ordered = sorted((address, name) for address, name in found.items() if 0 < address <= end)
    names, offsets = bytearray(), array.array("I")
    for _, name in ordered:
        offsets.append(len(names))
        names += name + b"\n"
    table = (
        _HEAD.pack(len(ordered)) + array.array("Q", (address for address, _ in ordered)).tobytes() + offsets.tobytes() + names
    )
    path = _path()
    if path and ordered:
        rundir.write(path, table)
    return table


def _kallsyms() -> Iterator[bytes]:
    """The lines of /proc/kallsyms; none where it is not there, as with subset=pid."""
    with suppress(FileNotFoundError), open("/proc/kallsyms", "rb") as stream:
        yield from stream


def _modules() -> list[tuple[int, int, str]]:
    """(start, size, name) of every module."""
    try:
        with open("/proc/modules", encoding="ascii", errors="replace") as stream:
            fields = [line.split() for line in stream]
    except OSError:  # a kernel without modules
        return []
    return [(int(field[5], 16), int(field[1]), field[0]) for field in fields if int(field[5], 16)]
