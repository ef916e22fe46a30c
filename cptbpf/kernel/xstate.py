"""The FPU area of kernel memory, and the standard format of XSAVE that ptrace(2) and core files show.

The kernel's buffer may be compacted (XSAVES), and what a component that is not in ``xstate_bv`` holds is stale: in the standard
format it has its initial value. Sizes and offsets are this CPU's, from CPUID leaf 0xD, never constants.
"""

import struct
from functools import lru_cache

from cptbpf.cpu import Layout, mxcsr_mask
from cptbpf.xsave import CONTROL, EXTENDED, FP, HEADER, MXCSR, PKRU, SOFTWARE, SSE, ST, XMM, YMM

_COMPACTED = 1 << 63
_FCW_INIT, _MXCSR_INIT = 0x037F, 0x1F80


@lru_cache(maxsize=256)
def _copies(present: int, compaction: int, area: Layout) -> tuple[tuple[slice, slice], ...]:
    """Which bytes of the kernel's buffer go where, for one pair of xstate_bv and xcomp_bv."""
    copies = []
    if present & 1 << FP:
        copies += [(CONTROL, CONTROL), (ST, ST)]
    if present & (1 << SSE | 1 << YMM):
        copies.append((MXCSR, MXCSR))
    if present & 1 << SSE:
        copies.append((XMM, XMM))
    at = EXTENDED
    for component in area.components:
        start = component.offset
        if compaction & _COMPACTED:
            if not compaction >> component.number & 1:
                continue
            start = at = (at + 63 & ~63) if component.flags & 2 else at
            at += component.size
        if present & area.features & 1 << component.number:
            copies.append((slice(start, start + component.size), slice(component.offset, component.offset + component.size)))
    return tuple(copies)


def standard(raw: bytes | memoryview, pkru: int, area: Layout) -> bytes:
    """The standard format of a kernel buffer, byte for byte as NT_X86_XSTATE shows it.

    ``pkru`` is ``thread.pkru``, which is where the kernel keeps that register since 5.14; all ones where it does not.
    """
    present, compaction = struct.unpack_from("=QQ", raw, HEADER.start)
    out = bytearray(area.size)
    struct.pack_into("=H", out, CONTROL.start, _FCW_INIT)
    # ptrace shows init_fpstate of a component that is not there, which f9dfb5e390fa (5.13) has filled by FXSAVE
    struct.pack_into("=II", out, MXCSR.start, _MXCSR_INIT, mxcsr_mask())
    for source, target in _copies(present, compaction, area):
        out[target] = raw[source]
    struct.pack_into("=Q", out, SOFTWARE.start, area.features)
    struct.pack_into("=Q", out, HEADER.start, present & area.features)
    if present >> PKRU & 1 and pkru != 0xFFFFFFFFFFFFFFFF:
        offset = next(component.offset for component in area.components if component.number == PKRU)
        struct.pack_into("=I", out, offset, pkru)
    return bytes(out)
