"""ptrace(2) through plain ctypes: numbers, and the few calls that are not worth a class.

python-ptrace's wrapper costs 1.4 times this one per call and 40 ms to import, and has none of the requests that SEIZE brought.
A test holds the numbers and layouts here against python-ptrace's.
"""

import ctypes
import os
from typing import Final

from cptbpf.xsave import FXSAVE_SIZE

INTERRUPT: Final = 0x4207
SEIZE: Final = 0x4206
DETACH: Final = 17
PEEKUSER: Final = 3
GETREGS: Final = 12
GETFPREGS: Final = 14
GETREGSET: Final = 0x4204
GET_THREAD_AREA: Final = 25

O_TRACEFORK: Final = 0x2
O_TRACEVFORK: Final = 0x4
O_TRACECLONE: Final = 0x8

NT_PRXFPREG: Final = 0x46E62B7F
"""The fxsave area of a 32-bit task."""
NT_X86_XSTATE: Final = 0x202

WALL: Final = 0x40000000
"""``__WALL``: children of every kind, threads included."""

DEBUGREG_OFFSET: Final = 848
"""``offsetof(struct user, u_debugreg)``."""
TLS_ENTRIES: Final = (12, 13, 14)
"""``GDT_ENTRY_TLS_MIN`` … ``GDT_ENTRY_TLS_MAX`` of x86-64."""

_SYS_PTRACE: Final = 101
_SYS_TGKILL: Final = 234

_long4 = [ctypes.c_long] * 4

# PyDLL keeps the GIL: the requests below are short and never wait for a task, and giving the GIL away a thousand times in the
# frozen window invites another thread to take it. errno is ctypes.get_errno().
_held = ctypes.PyDLL(None, use_errno=True)
request = _held.ptrace
"""``request(request, tid, addr, data) -> int``: -1 on an error, with ctypes.get_errno(). Keeps the GIL."""
request.argtypes = _long4
request.restype = ctypes.c_long

quick = ctypes.PyDLL(None).ptrace
"""As :data:`request`, for loops over many tasks: a third quicker, as it converts by what it is given. ``addr`` and ``data`` are
small ints or c_void_p objects (an int is cut to 32 bits), and nobody is told the errno."""
quick.restype = ctypes.c_int

# SEIZE takes the task's cred_guard_mutex, which an execve in progress holds: it can wait, so it must give the GIL away.
waiting_request = ctypes.CDLL(None, use_errno=True).ptrace
"""As :data:`request`, for what may wait: gives the GIL away."""
waiting_request.argtypes = _long4
waiting_request.restype = ctypes.c_long

_syscall = _held.syscall
_syscall.restype = ctypes.c_long


def thread_exists(pid: int, tid: int) -> bool:
    """Is ``tid`` a thread of process ``pid``? A zombie is one; a thread of the caller's own leaves no zombie behind."""
    return int(_syscall(*map(ctypes.c_long, (_SYS_TGKILL, pid, tid, 0)))) == 0


def _checked(result: int, tid: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{os.strerror(error)} (task {tid})")
    return result


def debug_register(tid: int, number: int) -> int:
    """Debug register ``number`` (0-7) of a stopped task: thread.ptrace_bps, virtual_dr6 and ptrace_dr7. Raises OSError."""
    value = ctypes.c_ulong()
    # Not through libc's ptrace(), which returns a peeked word in place of the result: -1 would be ambiguous.
    words = (_SYS_PTRACE, PEEKUSER, tid, DEBUGREG_OFFSET + 8 * number, ctypes.addressof(value))
    _checked(_syscall(*map(ctypes.c_long, words)), tid)
    return value.value


def thread_area(tid: int, entry: int) -> tuple[int, int, int, int]:
    """``struct user_desc`` of GDT entry ``entry`` (:data:`TLS_ENTRIES`) of a stopped task: thread.tls_array.

    Returns entry number, base address, limit and flag bits (an empty slot has flags 0x28). Raises OSError.
    """
    user_desc = (ctypes.c_uint32 * 4)()
    _checked(request(GET_THREAD_AREA, tid, entry, ctypes.addressof(user_desc)), tid)
    return user_desc[0], user_desc[1], user_desc[2], user_desc[3]


def floating_point(tid: int) -> bytes:
    """PTRACE_GETFPREGS of a stopped task: its 512 bytes of fxsave. Raises OSError."""
    buffer = ctypes.create_string_buffer(FXSAVE_SIZE)
    _checked(request(GETFPREGS, tid, 0, ctypes.addressof(buffer)), tid)
    return buffer.raw


def regset(tid: int, note: int, size: int = 1 << 16) -> bytes:
    """PTRACE_GETREGSET of a stopped task, at most ``size`` bytes of it.

    Raises OSError: ENODEV where the CPU has no such set, ESRCH where the task has not stopped or is not traced by this thread.
    """
    buffer = ctypes.create_string_buffer(size)
    iovec = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), size)
    _checked(request(GETREGSET, tid, note, ctypes.addressof(iovec)), tid)
    return buffer.raw[: iovec[1]]
