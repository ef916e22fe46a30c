"""What the machine and its administrator allow, beside BPF. Every probe returns what it found, or raises why not."""

import os
from collections.abc import Callable

from cptbpf.errors import PrivilegeError, UnsupportedError


def architecture() -> str:
    """x86-64, as a process of 64 bits. Raises UnsupportedError."""
    import sys

    machine, bits = os.uname().machine, 64 if sys.maxsize > 1 << 32 else 32
    if machine != "x86_64" or bits != 64:
        raise UnsupportedError(f"{machine}, with a python of {bits} bits: cptbpf reads x86-64 alone")
    return "x86-64"


def capability(*names: str) -> Callable[[], str]:
    """A probe for any one of some capabilities."""

    def probe() -> str:
        from cptbpf.capabilities import effective

        have = [name for name in names if name in effective()]
        if not have:
            raise PrivilegeError(f"neither {' nor '.join(names)}" if len(names) > 1 else f"no {names[0]}")
        return have[0]

    return probe


def openat2() -> str:
    """openat2(2) is there and nobody forbids it. Raises UnsupportedError."""
    from cptbpf import procfs

    if not procfs.openat2_works():
        raise UnsupportedError("the kernel has none, or a sandbox forbids it")
    return "tells what is mounted over files of /proc"


def ptrace() -> str:
    """A child is seized, interrupted, seen to stop, and let go. Raises OSError."""
    import signal

    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(writing)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.read(reading, 1)  # until its parent closes the pipe, or is killed
        finally:
            os._exit(0)
    os.close(reading)
    try:
        _stop_and_go(child)
    finally:
        os.close(writing)
        os.kill(child, signal.SIGKILL)  # a signal may have come here while it was stopped
        os.waitpid(child, 0)
    return "seize, interrupt and detach of a child"


def _stop_and_go(child: int) -> None:
    import ctypes

    from cptbpf.trace import ptrace

    for request in (ptrace.SEIZE, ptrace.INTERRUPT):
        if ptrace.request(request, child, 0, 0) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        raise OSError(0, "the child ended instead of stopping")
    if ptrace.request(ptrace.DETACH, child, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def proc() -> str:
    """/proc is that of our own pid namespace. Raises UnsupportedError."""
    from cptbpf.proc.pidns import check_proc

    check_proc()
    return "mounted, of this pid namespace"


def yama() -> str:
    """Yama lets a privileged process trace. Raises UnsupportedError."""
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as stream:
            scope = int(stream.read())
    except FileNotFoundError:
        return "not there"
    if scope >= 3:
        raise UnsupportedError("ptrace_scope is 3: nobody may trace anybody")
    return f"ptrace_scope {scope}"


def lockdown() -> str:
    """The kernel is not locked down against reading its memory. Raises UnsupportedError."""
    try:
        with open("/sys/kernel/security/lockdown", encoding="ascii") as stream:
            mode = stream.read().partition("[")[2].partition("]")[0]
    except FileNotFoundError:
        return "not there, or securityfs is not mounted"
    if mode == "confidentiality":
        raise UnsupportedError("confidentiality: BPF may not read kernel memory")
    return mode


def seccomp() -> str:
    """No filter sees our own system calls. Raises UnsupportedError."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as stream:
        mode = next((line.split()[1] for line in stream if line.startswith("Seccomp:")), "0")
    if mode != "0":
        raise UnsupportedError("cptbpf itself runs under a filter, which may refuse bpf(2) and ptrace(2)")
    return "no filter"


def tracefs() -> str:
    """The trace file system is mounted. Raises OSError, UnsupportedError."""
    for path in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
        if os.path.exists(f"{path}/events"):
            return f"mounted at {path}"
    raise UnsupportedError("not mounted, or not for us to see")
