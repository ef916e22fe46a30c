"""Room for the registers of many tasks, taken and touched before any of them is stopped."""

import ctypes
import mmap
from typing import Final, NamedTuple

from cptbpf.trace.registers import SIZE as REGS_SIZE
from cptbpf.xsave import FXSAVE_SIZE, HEADER

_REGS_ROOM: Final = (REGS_SIZE + 63) & ~63


class Slot(NamedTuple):
    """Where one task's registers go.

    ``regs`` and ``fpu`` are addresses for :data:`ptrace.quick`: of ``struct user_regs_struct``, and of the iovec for GETREGSET
    or, without XSAVE, of the 512 bytes for GETFPREGS. ``slab`` and ``place`` are for whoever reads the registers afterwards.
    """

    tid: int
    regs: ctypes.c_void_p
    fpu: ctypes.c_void_p
    slab: "Slab"
    place: int


class Slab:
    """``count`` equal slots in one mapping that is there, page by page, before the first task stops.

    ``xstate_head`` is how many bytes of the extended state are read of each task, 0 without XSAVE.
    """

    def __init__(self, count: int, xstate_head: int) -> None:
        self._head = xstate_head
        self._stride = _REGS_ROOM + (xstate_head or FXSAVE_SIZE)
        self._memory = mmap.mmap(-1, count * self._stride, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._iovecs = (ctypes.c_uint64 * (2 * count))()
        self._used = 0
        self.free = count
        # xstate_bv of each slot; indexed in the frozen window, where a slice of bytes each would cost more.
        self.xstate_bv = memoryview(self._memory).cast("Q")[(_REGS_ROOM + HEADER.start) // 8 :: self._stride // 8]

    def take(self, tid: int) -> Slot:
        """The next free slot; ``free`` must not be 0."""
        index = self._used
        self._used += 1
        self.free -= 1
        regs = self._base + index * self._stride
        fpu = regs + _REGS_ROOM
        if self._head:
            self._iovecs[2 * index] = fpu
            fpu = ctypes.addressof(self._iovecs) + 16 * index
            self.rewind(index)
        return Slot(tid, ctypes.c_void_p(regs), ctypes.c_void_p(fpu), self, index)

    def rewind(self, index: int) -> None:
        """Make a slot ready to be written again: the kernel leaves in the iovec how much it wrote."""
        self._iovecs[2 * index + 1] = self._head

    def regs(self, index: int) -> bytes:
        """The general registers in a slot."""
        start = index * self._stride
        return self._memory[start : start + REGS_SIZE]

    def fpu(self, index: int) -> bytes:
        """The FPU area in a slot: what the kernel wrote of the extended state's head, or 512 bytes of fxsave."""
        start = index * self._stride + _REGS_ROOM
        return self._memory[start : start + (self._iovecs[2 * index + 1] if self._head else FXSAVE_SIZE)]
