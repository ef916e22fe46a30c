"""Capabilities of cptbpf itself: what it may do is asked of them, never of uid 0."""

import os

from cptbpf.errors import PrivilegeError

_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3

# linux/capability.h, bit 0 first
NAMES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN"),
    *("CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE"),
    *("CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME"),
    *("CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP"),
    *("CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ"),
    *("CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)


def names(mask: int) -> tuple[str, ...]:
    """The names of the capabilities in a mask; a bit that this version does not know is ``CAP_<number>``."""
    return tuple(NAMES[bit] if bit < len(NAMES) else f"CAP_{bit}" for bit in range(mask.bit_length()) if mask >> bit & 1)


def effective() -> frozenset[str]:
    """The effective capabilities of this thread, ``cred->cap_effective``, by capget(2): /proc need not be mounted."""
    import ctypes  # not for who asks for names alone

    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable, of bits 0 to 31, then of the others
    if ctypes.CDLL(None, use_errno=True).capget(header, data) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return frozenset(names(data[3] << 32 | data[0]))


def require(purpose: str, *wanted: str) -> None:
    """Make sure that this thread has capabilities; ``purpose`` begins the message: "to stop tasks".

    Raises:
        PrivilegeError: at least one is missing.
    """
    have = effective()
    missing = [name for name in wanted if name not in have]
    if missing:
        raise PrivilegeError(
            f"{purpose}, {' and '.join(missing)} is needed", "Run as root (sudo), in a container with these capabilities."
        )
