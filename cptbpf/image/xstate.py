"""FPU areas for people: the registers inside an fxsave image and a standard-format XSAVE area.

Offsets of the legacy area are those of FXSAVE (Intel SDM, volume 1, 10.5.1); those of every other component come from
META's table, which holds what CPUID leaf 0xD said on the machine of the image.
"""

from collections.abc import Iterable
from struct import Struct, unpack_from
from typing import NamedTuple

from cptbpf.image.model import Buffer, XstateComponent

_LEGACY = Struct("<HHBxHQQII")
_XSTATE_BV = 512
_XCR0 = 464
_YMM_HI, _OPMASK, _ZMM_HI, _HI16_ZMM, _PKRU = 2, 5, 6, 7, 9


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
    return Xstate._make((*_LEGACY.unpack_from(area), _integers(area, 32, 10, 8, 16), _integers(area, 160, 16, 16), *[None] * 6))


def _joined(low: tuple[int, ...], high: tuple[int, ...], bits: int) -> tuple[int, ...]:
    return tuple(upper << bits | lower for lower, upper in zip(low, high, strict=True))


def read_xsave(area: Buffer, components: Iterable[XstateComponent]) -> Xstate:
    """The registers in a whole XSAVE area of the standard format.

    ``components`` is META's table. A component whose place is not inside the area is left out.
    """
    where = {part.number: part.offset for part in components if part.offset + part.size <= len(area)}
    state = read_fxsave(area)
    state = state._replace(xcr0=unpack_from("<Q", area, _XCR0)[0], xstate_bv=unpack_from("<Q", area, _XSTATE_BV)[0])
    if _OPMASK in where:
        state = state._replace(opmask=_integers(area, where[_OPMASK], 8, 8))
    if _PKRU in where:
        state = state._replace(pkru=_integers(area, where[_PKRU], 4, 1)[0])
    if _YMM_HI not in where:
        return state
    ymm = _joined(state.xmm, _integers(area, where[_YMM_HI], 16, 16), 128)
    state = state._replace(ymm=ymm)
    if _ZMM_HI in where and _HI16_ZMM in where:
        zmm = _joined(ymm, _integers(area, where[_ZMM_HI], 32, 16), 256)
        state = state._replace(zmm=zmm + _integers(area, where[_HI16_ZMM], 64, 16))
    return state
