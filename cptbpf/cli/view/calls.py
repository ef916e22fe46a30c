"""The system call that a task is in, with those of its arguments that say what it waits for."""

from cptbpf.image.model import TaskImage, X86_64Regs, X86Regs

_TS_COMPAT = 0x2  # thread_info.status: a 32-bit system call, also of a 64-bit program
_AT_FDCWD = -100

_FUTEX = (
    *("WAIT", "WAKE", "FD", "REQUEUE", "CMP_REQUEUE", "WAKE_OP", "LOCK_PI", "UNLOCK_PI", "TRYLOCK_PI", "WAIT_BITSET"),
    *("WAKE_BITSET", "WAIT_REQUEUE_PI", "CMP_REQUEUE_PI", "LOCK_PI2"),
)
_CLOCKS = (
    *("REALTIME", "MONOTONIC", "PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID", "MONOTONIC_RAW", "REALTIME_COARSE"),
    *("MONOTONIC_COARSE", "BOOTTIME", "REALTIME_ALARM", "BOOTTIME_ALARM", "SGI_CYCLE", "TAI"),
)
_FLOCK = {1: "LOCK_SH", 2: "LOCK_EX", 8: "LOCK_UN"}
_IDTYPES = ("P_ALL", "P_PID", "P_PGID", "P_PIDFD")

# Calls that a task is found in for long, by the kinds of their first arguments: d a signed number (a descriptor, a pid), u an
# unsigned one, x an address or a mask, f a directory's descriptor, F a futex operation, c a clock, L of flock, i of waitid.
_ARGUMENTS = {
    "": "pause restart_syscall rt_sigreturn sigreturn vfork fork sync sched_yield",
    "d": "close fsync fdatasync syncfs exit exit_group dup",
    "dd": "kill tkill setns shutdown",
    "ddx": "fcntl fcntl64 semctl",
    "dduu": "splice sendfile sendfile64 tee",
    "duu": "io_uring_enter ftruncate",
    "dx": "socketcall ipc",
    "dxd": "readv writev preadv pwritev preadv2 pwritev2 accept accept4 connect recvmsg sendmsg recvmmsg sendmmsg epoll_wait "
    "epoll_pwait epoll_pwait2 wait4 waitpid",
    "dxu": "read write pread64 pwrite64 recvfrom sendto getdents getdents64 msgsnd msgrcv mq_timedreceive "
    "mq_timedsend mq_timedreceive_time64 mq_timedsend_time64",
    "dxx": "ioctl semop semtimedop semtimedop_time64 io_getevents",
    "dxxx": "select _newselect pselect6 pselect6_time64",
    "dL": "flock",
    "cdx": "clock_nanosleep clock_nanosleep_time64",
    "fx": "openat openat2 execveat newfstatat unlinkat mkdirat",
    "id": "waitid",
    "x": "open execve unlink rmdir clone clone3 unshare",
    "xd": "poll ppoll ppoll_time64 futex_waitv",
    "xu": "munmap mprotect madvise msync",
    "xux": "futex_wait",
    "xx": "nanosleep rt_sigsuspend sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 stat lstat",
    "xxx": "mount",
    "xFu": "futex futex_time64",
}
_KINDS_OF = {name: kinds for kinds, names in _ARGUMENTS.items() for name in names.split()}


def call(task: TaskImage) -> str:
    """``read(5, 0x7f…, 4096)``: the call with its first arguments; "" where the task is in none, or nobody can tell.

    ``orig_rax`` is the number of the call while a task is in one, and -1 when an interrupt or a fault brought it into the
    kernel; a task that is on its way out of a call still has it.
    """
    regs = task.regs
    if regs is None:
        return ""
    compat = isinstance(regs, X86Regs) or bool(task.task.thrstatus & _TS_COMPAT)
    if isinstance(regs, X86_64Regs):
        if compat:
            values = (regs.rbx, regs.rcx, regs.rdx, regs.rsi, regs.rdi)
        else:
            values = (regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8)
        name = _name(regs.orig_rax, compat)
    else:
        values = (regs.bx, regs.cx, regs.dx, regs.si, regs.di)
        name = _name(regs.orig_ax, compat)
    if name is None:
        return ""
    kinds = _KINDS_OF.get(name)
    if kinds is None:
        return f"{name}(…)"
    bits = 0xFFFFFFFF if compat else 0xFFFFFFFFFFFFFFFF
    return f"{name}({', '.join(_argument(kind, value & bits) for kind, value in zip(kinds, values, strict=False))})"


def _name(number: int, compat: bool) -> str | None:
    """By python-ptrace's tables, where there is a python-ptrace: an image is read on machines that trace nothing."""
    try:
        from cptbpf.syscalls import name

        return name(number, compat)
    except ImportError:
        number &= 0xFFFFFFFF
        return None if number == 0xFFFFFFFF else f"syscall_{number}"


def _signed(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _argument(kind: str, value: int) -> str:
    if kind == "u":
        return str(value)
    if kind == "d":
        return str(_signed(value))
    if kind == "f":
        return "AT_FDCWD" if _signed(value) == _AT_FDCWD else str(_signed(value))
    if kind == "F":
        return f"FUTEX_{_FUTEX[value & 0x7F]}" if value & 0x7F < len(_FUTEX) else hex(value)
    if kind == "c":
        return f"CLOCK_{_CLOCKS[value]}" if value < len(_CLOCKS) else str(_signed(value))
    if kind == "L":
        return _FLOCK.get(value & ~4, hex(value)) + ("|LOCK_NB" if value & 4 and value & ~4 in _FLOCK else "")
    if kind == "i":
        return _IDTYPES[value] if value < len(_IDTYPES) else str(_signed(value))
    return hex(value)
