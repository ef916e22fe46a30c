"""The FPU area: what stands where in the part that is the same on every CPU, and which state component is which.

An area is what FXSAVE writes (Intel SDM, volume 1, 10.5.1); of a CPU with XSAVE the header and the extended components follow.
Where those are, CPUID says: :mod:`cptbpf.cpu`. The structs are those of arch/x86/include/asm/fpu/types.h.
"""

from typing import Final

FXSAVE_SIZE: Final = 512
"""sizeof(struct fxregs_state), in bytes."""
EXTENDED: Final = 576
"""offsetof(struct xregs_state, extended_state_area): the first byte of the extended components."""

CONTROL: Final = slice(0, 24)
"""fxregs_state.cwd … rdp: the x87 FPU's control, status and tag words, opcode and pointers."""
MXCSR: Final = slice(24, 32)
"""fxregs_state.mxcsr and mxcsr_mask."""
ST: Final = slice(32, 160)
"""fxregs_state.st_space: eight registers of 10 bytes, 16 bytes apart."""
XMM: Final = slice(160, 416)
"""fxregs_state.xmm_space: 16 registers of 16 bytes."""
UNDEFINED: Final = slice(416, FXSAVE_SIZE)
"""fxregs_state.padding and sw_reserved, which no instruction defines."""
SOFTWARE: Final = slice(464, FXSAVE_SIZE)
"""fxregs_state.sw_reserved: in NT_X86_XSTATE its first 8 bytes are XCR0 (struct user_xstateregs of asm/user.h)."""
HEADER: Final = slice(FXSAVE_SIZE, EXTENDED)
"""struct xstate_header: xfeatures, which the SDM calls XSTATE_BV, xcomp_bv, and what is reserved."""

# enum xfeature: the number of a component is its bit in xstate_bv
FP, SSE, YMM, BNDREGS, BNDCSR, OPMASK, ZMM_HI256, HI16_ZMM = range(8)
PKRU, XTILE_CFG, XTILE_DATA = 9, 17, 18

COMPONENTS: Final = {
    FP: "x87",
    SSE: "SSE",
    YMM: "AVX",
    BNDREGS: "BNDREGS",
    BNDCSR: "BNDCSR",
    OPMASK: "opmask",
    ZMM_HI256: "ZMM_Hi256",
    HI16_ZMM: "Hi16_ZMM",
    PKRU: "PKRU",
    XTILE_CFG: "XTILECFG",
    XTILE_DATA: "XTILEDATA",
}
"""The names of the components that users have, as the SDM calls them."""


def xstate_bv(area: bytes | memoryview) -> int:
    """Which components are not in their initial state, of an area with a header."""
    return int.from_bytes(area[HEADER.start : HEADER.start + 8], "little")


def fxsave_of(area: bytes | memoryview) -> bytes:
    """The fxsave record of an area with or without a header: as PTRACE_GETFPREGS (of a 32-bit task: NT_PRXFPREG) gives it, but
    for the bytes that no instruction defines, which are 0."""
    return bytes(area[: UNDEFINED.start]) + bytes(FXSAVE_SIZE - UNDEFINED.start)
