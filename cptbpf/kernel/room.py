"""Memory that passes are read into."""

import mmap
import os

READ = 1 << 16  # more than an iterator's own buffer: a read then ends at the end of a task
_BLOCK = 1 << 20  # a pass in pieces is let go block by block


class Room:
    """Room of one reader. Nothing in it is used twice: a pass belongs to whoever asked for it."""

    def __init__(self) -> None:
        self._blocks: list[mmap.mmap] = []
        self.expected = 0
        """Bytes of a pass over the states of the same tasks."""

    def prepare(self, size: int) -> None:
        """Takes so many bytes for the next pass in pieces and has their pages made. While tasks are stopped, that would draw
        the window out: it takes a third of a full pass."""
        starts = range(0, size, _BLOCK - READ)
        self._blocks = [_block(mmap.MAP_POPULATE, min(size - start + READ, _BLOCK)) for start in reversed(starts)]

    def clear(self) -> None:
        """Gives back what was not used."""
        self._blocks.clear()

    def pieces(self, descriptor: int) -> list[memoryview]:
        """An iterator's output as it comes, each piece of whole tasks."""
        pieces: list[memoryview] = []
        while True:
            block = memoryview(self._blocks.pop() if self._blocks else _block(0, _BLOCK))
            end = 0
            while end + READ <= len(block):
                count = os.readv(descriptor, [block[end : end + READ]])
                if not count:
                    return pieces
                pieces.append(block[end : end + count])
                end += count

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


def _block(how: int, size: int) -> mmap.mmap:
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | how)
