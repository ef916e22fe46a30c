"""``struct user_regs_struct``: the general registers as PTRACE_GETREGS gives them."""

import struct
from typing import Final, NamedTuple

SIZE: Final = 216
"""Bytes of ``struct user_regs_struct``: 27 words, for 32-bit tasks too where the tracer has 64 bits."""

_WORDS = struct.Struct("<27Q")


class UserRegs(NamedTuple):
    """``struct user_regs_struct`` of x86-64, every one a u64, in the kernel's order (pt_regs and thread.{fs,gs}base, ds…gs)."""

    r15: int
    r14: int
    r13: int
    r12: int
    rbp: int
    rbx: int
    r11: int
    r10: int
    r9: int
    r8: int
    rax: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    orig_rax: int
    rip: int
    cs: int
    eflags: int
    rsp: int
    ss: int
    fs_base: int
    gs_base: int
    ds: int
    es: int
    fs: int
    gs: int

    @property
    def is_compat(self) -> bool:
        """Is the task executing 32-bit code? What ptrace itself goes by: ``user_64bit_mode`` of its cs."""
        return self.cs == 0x23


def parse(data: bytes) -> UserRegs:
    """The registers in the 216 bytes of ``data``. Raises struct.error where it has another length."""
    return UserRegs._make(_WORDS.unpack(data))
