"""The reading end of a BPF ring buffer (``BPF_MAP_TYPE_RINGBUF``, kernel/bpf/ringbuf.c), straight from its shared memory.

The first page holds the consumer's position and is ours to write; the second holds the producer's; then come the data pages,
mapped twice one after another, so that a record that runs over the end lies in one piece.
"""

import mmap
import os
import select
from types import TracebackType

from cptbpf.kernel import bpf

_BUSY, _DISCARDED = 1 << 31, 1 << 30  # in the length that leads each record
_LENGTH = _DISCARDED - 1
_HEADER = 8
_PAGE = mmap.PAGESIZE


class RingBuffer:
    """The only consumer of a ring buffer, one thread at a time. Closing it leaves the map's descriptor open.

    Memory is bounded by the ring: what is read is copied out, and its room given back at once. A program that submits with
    ``BPF_RB_NO_WAKEUP`` is read all the same, at the end of the wait that it did not cut short.

    Raises OSError where ``fd`` is not that of a ring buffer.
    """

    def __init__(self, fd: int) -> None:
        size = bpf.map_max_entries(fd)
        self._mask = size - 1
        self._own = mmap.mmap(fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        self._shared = mmap.mmap(fd, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        # casts to native types: each access is one machine word, which the other side sees whole and, on x86, in order
        self._taken = memoryview(self._own).cast("Q")
        self._given = memoryview(self._shared).cast("Q")
        self._lengths = memoryview(self._shared).cast("I")
        self._interrupt = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.epoll()
        self._poll.register(fd, select.EPOLLIN)
        self._poll.register(self._interrupt, select.EPOLLIN)

    def __enter__(self) -> "RingBuffer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Unmaps the buffer."""
        for view in (self._taken, self._given, self._lengths):
            view.release()
        for resource in (self._own, self._shared, self._poll):
            resource.close()
        os.close(self._interrupt)

    def wait(self, timeout: float) -> bool:
        """Whether a program woke us within ``timeout`` seconds; False at once where :meth:`interrupt` was called."""
        ready = {descriptor for descriptor, _ in self._poll.poll(max(timeout, 0))}
        if self._interrupt in ready:
            os.eventfd_read(self._interrupt)
            return False
        return bool(ready)

    def interrupt(self) -> None:
        """Ends a wait, or else the next one. For another thread, or a signal handler."""
        os.eventfd_write(self._interrupt, 1)

    def read(self) -> list[bytes]:
        """Every record that is whole by now, oldest first; one that is still being written ends the batch."""
        records = []
        at, end = self._taken[0], self._given[0]
        while at < end:
            place = _PAGE + (at & self._mask)
            header = self._lengths[place >> 2]
            if header & _BUSY:
                break
            length = header & _LENGTH
            if not header & _DISCARDED:
                records.append(self._shared[place + _HEADER : place + _HEADER + length])
            at += _HEADER + length + 7 & ~7
        self._taken[0] = at
        return records
