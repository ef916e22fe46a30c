"""FPU areas for people: the registers inside an fxsave image and a standard-format XSAVE area.

Offsets of the extended components come from META's table, which holds what CPUID leaf 0xD said on the machine of the image.
"""

from collections.abc import Iterable
from struct import Struct, unpack_from
from typing import NamedTuple

from cptbpf.image.model import Buffer, XstateComponent
from cptbpf.xsave import HI16_ZMM, OPMASK, PKRU, SOFTWARE, ST, XMM, YMM, ZMM_HI256, xstate_bv

_LEGACY = Struct("<HHBxHQQII")  # CONTROL and MXCSR


class Xstate(NamedTuple):
    """Values of the FPU and vector registers; ``None`` for those that the area has not.

    ``st`` are the eight 80-bit registers as integers, ``xmm``, ``ymm``, ``zmm`` and ``opmask`` integers in register order.
    """

    fcw: int
    fsw: int
    ftw: int
    fop: int
    fip: int
    fdp: int
    mxcsr: int
    mxcsr_mask: int
    st: tuple[int, ...]
    xmm: tuple[int, ...]
    xcr0: int | None = None
    xstate_bv: int | None = None
    ymm: tuple[int, ...] | None = None
    opmask: tuple[int, ...] | None = None
    zmm: tuple[int, ...] | None = None
    pkru: int | None = None


def _integers(area: Buffer, offset: int, size: int, count: int, stride: int | None = None) -> tuple[int, ...]:
    step = stride or size
    return tuple(int.from_bytes(area[at : at + size], "little") for at in range(offset, offset + count * step, step))


def read_fxsave(area: Buffer) -> Xstate:
    """The registers in the first 512 bytes of an fxsave or xsave area."""
    st, xmm = _integers(area, ST.start, 10, 8, 16), _integers(area, XMM.start, 16, 16)
    return Xstate._make((*_LEGACY.unpack_from(area), st, xmm, *[None] * 6))


def _joined(low: tuple[int, ...], high: tuple[int, ...], bits: int) -> tuple[int, ...]:
    return tuple(upper << bits | lower for lower, upper in zip(low, high, strict=True))


def read_xsave(area: Buffer, components: Iterable[XstateComponent]) -> Xstate:
    """The registers in a whole XSAVE area of the standard format.

    ``components`` is META's table. A component whose place is not inside the area is left out.
    """
    where = {part.number: part.offset for part in components if part.offset + part.size <= len(area)}
    state = read_fxsave(area)
    state = state._replace(xcr0=unpack_from("<Q", area, SOFTWARE.start)[0], xstate_bv=xstate_bv(area))
    if OPMASK in where:
        state = state._replace(opmask=_integers(area, where[OPMASK], 8, 8))
    if PKRU in where:
        state = state._replace(pkru=_integers(area, where[PKRU], 4, 1)[0])
    if YMM not in where:
        return state
    ymm = _joined(state.xmm, _integers(area, where[YMM], 16, 16), 128)
    state = state._replace(ymm=ymm)
    if ZMM_HI256 in where and HI16_ZMM in where:
        zmm = _joined(ymm, _integers(area, where[ZMM_HI256], 32, 16), 256)
        state = state._replace(zmm=zmm + _integers(area, where[HI16_ZMM], 64, 16))
    return state
