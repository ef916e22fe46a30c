"""Memory that passes are read into."""

import ctypes
import mmap
import os

READ = 1 << 16  # more than an iterator's own buffer: a read then ends at the end of a task
_REGION = 1 << 20

# stdio reads until there is no more, in one call that gives the GIL away: an iterator gives 32 KiB at a time.
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fdopen.argtypes, _libc.fdopen.restype = [ctypes.c_int, ctypes.c_char_p], ctypes.c_void_p
_libc.fread.argtypes, _libc.fread.restype = (
    [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p],
    ctypes.c_size_t,
)
_libc.setbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_libc.ferror.argtypes = _libc.fclose.argtypes = [ctypes.c_void_p]


class Stream:
    """A descriptor that is read to its end. It is the stream's to close: use that as a context manager."""

    def __init__(self, descriptor: int) -> None:
        self._file = _libc.fdopen(descriptor, b"r")
        if not self._file:
            os.close(descriptor)
            raise MemoryError
        _libc.setbuf(self._file, None)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        _libc.fclose(self._file)

    def read(self, region: mmap.mmap, start: int) -> int:
        """Fills a region from ``start`` on; returns how many bytes came, fewer than there is room for at the end alone."""
        address = ctypes.addressof(ctypes.c_char.from_buffer(region, start))
        count: int = _libc.fread(address, 1, len(region) - start, self._file)
        if count < len(region) - start and _libc.ferror(self._file):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        return count


class Room:
    """Room of one reader. Nothing in it is used twice: a pass belongs to whoever asked for it."""

    def __init__(self) -> None:
        self._prepared: mmap.mmap | None = None
        self.expected = 0
        """Bytes of a pass over the states of the same tasks."""

    def prepare(self, size: int) -> None:
        """Takes so many bytes for the next full pass and has their pages made. While tasks are stopped, that would draw the
        window out: it takes a third of a full pass."""
        self._prepared = _region(size + 1, mmap.MAP_POPULATE)

    def clear(self) -> None:
        """Gives back what was not used."""
        self._prepared = None

    def region(self, stream: Stream) -> memoryview:
        """All of a stream, without a step of the interpreter in between where the room was prepared."""
        region, self._prepared, end = self._prepared or _region(_REGION), None, 0
        while True:
            end += stream.read(region, end)
            if end < len(region):
                return memoryview(region)[:end]
            region.resize(2 * len(region))

    def whole(self, descriptor: int) -> bytearray:
        """An iterator's output in one piece. To join pieces takes as long as the kernel's pass where there are many tasks."""
        data, end = bytearray(max(self.expected, READ) + READ), 0
        while True:
            if len(data) - end < READ:
                data += bytes(len(data))
            with memoryview(data) as view, view[end:] as room:
                count = os.readv(descriptor, [room])
            if not count:
                break
            end += count
        del data[end:]
        self.expected = end
        return data


def _region(size: int, how: int = 0) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | how)
