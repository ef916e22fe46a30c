"""What the CPU says of its extended state: CPUID, XGETBV and FXSAVE, which Python has no other way to execute."""

import ctypes
import mmap
import struct
from functools import cache
from typing import NamedTuple

from cptbpf.errors import UnsupportedError

_PROT_READ_EXEC = 5

# void cpuid(u32 leaf, u32 subleaf, u32 out[4])
_CPUID = bytes.fromhex("53 4989d0 89f8 89f1 0fa2 418900 41895804 41894808 4189500c 5b c3".replace(" ", ""))
# u64 xgetbv(void), of XCR0
_XGETBV = bytes.fromhex("31c9 0f01d0 48c1e220 89c0 4809d0 c3".replace(" ", ""))
_XGETBV_AT = 64
# void fxsave(void *area)
_FXSAVE = bytes.fromhex("0fae07 c3".replace(" ", ""))
_FXSAVE_AT = 96


@cache
def _code() -> tuple[mmap.mmap, int]:
    """The page that holds the code, and its address. Raises UnsupportedError where a policy forbids executable memory."""
    page = mmap.mmap(-1, mmap.PAGESIZE)
    page[: len(_CPUID)] = _CPUID
    page[_XGETBV_AT : _XGETBV_AT + len(_XGETBV)] = _XGETBV
    page[_FXSAVE_AT : _FXSAVE_AT + len(_FXSAVE)] = _FXSAVE
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    if protect(ctypes.c_void_p(address), ctypes.c_size_t(mmap.PAGESIZE), _PROT_READ_EXEC) != 0:
        raise UnsupportedError(
            "a security policy forbids executable memory, so CPUID cannot be asked for the XSAVE layout",
            "run it where the policy allows that: with SELinux, in a domain that may execmem",
        )
    return page, address


def cpuid(leaf: int, subleaf: int = 0) -> tuple[int, int, int, int]:
    """eax, ebx, ecx, edx. Raises UnsupportedError where a policy forbids executable memory."""
    out = ctypes.create_string_buffer(16)
    function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(_code()[1])
    function(leaf, subleaf, ctypes.addressof(out))
    eax, ebx, ecx, edx = struct.unpack("=4I", out.raw)
    return eax, ebx, ecx, edx


def xcr0() -> int:
    """The features that the kernel enabled for XSAVE; 0 where the CPU has none, or the kernel does not use it."""
    if not cpuid(1)[2] >> 27 & 1:  # OSXSAVE
        return 0
    value: int = ctypes.CFUNCTYPE(ctypes.c_uint64)(_code()[1] + _XGETBV_AT)()
    return value


@cache
def mxcsr_mask() -> int:
    """The bits of MXCSR that this CPU has, as FXSAVE tells them."""
    with mmap.mmap(-1, mmap.PAGESIZE) as area:  # FXSAVE wants 16-byte alignment
        anchor = ctypes.c_char.from_buffer(area)
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_code()[1] + _FXSAVE_AT)(ctypes.addressof(anchor))
        del anchor
        mask: int = struct.unpack_from("=I", area, 28)[0]
    return mask


class Component(NamedTuple):
    """An XSAVE state component.

    ``number`` is its bit in xstate_bv, ``offset`` and ``size`` are bytes of the standard format, ``flags`` is ECX of its CPUID
    leaf: bit 0 supervisor state, bit 1 aligned to 64 when compacted, bit 2 switched on per process on first use (AMX tiles).
    """

    number: int
    offset: int
    size: int
    flags: int


class Layout(NamedTuple):
    """The standard format of this CPU: its size in bytes, the user features, and every component, supervisor ones included."""

    size: int
    features: int
    components: tuple[Component, ...]

    def user(self) -> tuple[Component, ...]:
        """The components that a user may see."""
        return tuple(component for component in self.components if self.features >> component.number & 1)


@cache
def layout() -> Layout | None:
    """This CPU's layout from CPUID leaf 0xD, or None where it has no XSAVE. Raises UnsupportedError as :func:`cpuid` does."""
    features = xcr0()
    if not features:
        return None
    found = []
    for number in range(2, 63):
        size, offset, flags, _ = cpuid(0xD, number)
        if size:
            found.append(Component(number, offset, size, flags))
    return Layout(cpuid(0xD, 0)[1], features, tuple(found))
