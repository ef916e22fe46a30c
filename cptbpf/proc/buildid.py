"""GNU build ids of executables.

An executable belongs to whoever is looked at: whatever it holds, reading it costs bounded time and memory. What was found is
kept for the next run, which then needs no ELF reader at all.
"""

import io
import os
from typing import BinaryIO

from cptbpf import rundir
from cptbpf.proc.absent import Absent, absent

_SEGMENTS_MAX = 256
_READS_MAX = 4096  # a well-formed file takes less than a hundred
_READ_MAX = 65536  # bytes at once: notes are small
_BUILD_ID_MAX = 64  # bytes; SHA-1 has 20
_KEPT = 1024  # executables
_NONE = "-"

Key = tuple[int, int, int, int, int]


class Cache:
    """Build ids of the executables that were seen since the machine was booted."""

    def __init__(self) -> None:
        directory = rundir.directory()
        self._path = f"{directory}/build-ids" if directory else None
        self._ids = _load(self._path) if self._path else {}
        self._changed = False

    def of(self, fd: int) -> bytes | Absent:
        """The build id of the executable open at ``fd``, as raw bytes."""
        try:
            found = os.fstat(fd)
            key = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            if key not in self._ids:
                result = read(fd)
                if isinstance(result, Absent) and result != NO_BUILD_ID:
                    return result
                self._ids[key] = "" if isinstance(result, Absent) else result.hex()
                self._changed = True
        except OSError as error:
            return absent(error)
        return bytes.fromhex(self._ids[key]) or NO_BUILD_ID

    def save(self) -> None:
        """Keep what is new for the next run."""
        if self._path and self._changed:
            newest = list(self._ids.items())[-_KEPT:]
            text = "".join(f"{' '.join(map(str, key))} {value or _NONE}\n" for key, value in newest)
            rundir.write(self._path, text.encode("ascii"))
            self._changed = False


NO_BUILD_ID = Absent("the executable has no build id")


def read(fd: int) -> bytes | Absent:
    """The build id in the notes of the ELF file open at ``fd``.

    Raises:
        OSError: the file cannot be read.
    """
    from elftools.common.utils import struct_parse  # 80 ms
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import NoteSegment

    stream = _Bounded(fd)
    try:
        elf = ELFFile(stream)
        for number in range(min(elf["e_phnum"], _SEGMENTS_MAX)):
            # Not elf.get_segment(), which goes through all sections for some types.
            header = struct_parse(elf.structs.Elf_Phdr, stream, elf["e_phoff"] + number * elf["e_phentsize"])
            if header["p_type"] != "PT_NOTE":
                continue
            for note in NoteSegment(header, stream, elf).iter_notes():
                if note["n_type"] == "NT_GNU_BUILD_ID" and note["n_name"] == "GNU":
                    found = bytes.fromhex(note["n_desc"])
                    return found if 0 < len(found) <= _BUILD_ID_MAX else Absent("the executable's build id is malformed")
    except OSError:
        raise
    except Exception as error:  # whatever a hostile file makes the reader stumble over
        return Absent(f"the executable is not a well-formed ELF file ({type(error).__name__})")
    return NO_BUILD_ID


class _Bounded(io.RawIOBase, BinaryIO):
    """A file that can be read a limited number of times, and little at once."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._position = 0
        self._size = os.fstat(fd).st_size
        self._left = _READS_MAX

    def read(self, size: int = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0 or not 0 <= size <= _READ_MAX or self._position < 0:
            raise ValueError("out of bounds")
        data = os.pread(self._fd, size, self._position) if self._position < self._size else b""
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position


def _load(path: str) -> dict[Key, str]:
    """What an earlier run kept. A file that is not ours, or not whole, is as good as none."""
    ids: dict[Key, str] = {}
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), encoding="ascii") as stream:
            if os.fstat(stream.fileno()).st_uid != os.geteuid():
                return {}
            for line in stream:
                device, inode, size, mtime, ctime, value = line.split()
                ids[int(device), int(inode), int(size), int(mtime), int(ctime)] = "" if value == _NONE else value
    except (OSError, ValueError):
        return {}
    return ids
