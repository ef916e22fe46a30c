"""Opens files of /proc itself, never what is mounted over them.

A fifo, or a file system that some process serves, would keep who opens it waiting: for ever, where the server stands still.
"""

import ctypes
import errno
import os
import stat
import struct
from functools import cache
from typing import Final

_SYS_OPENAT2: Final = 437
_AT_FDCWD: Final = -100
_OPEN_HOW: Final = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve
_RESOLVE_NO_XDEV: Final = 0x01
_AT_ONCE: Final = 65536

COVERED: Final = errno.EXDEV
"""The errno of a file that another one is mounted over, or that is beneath such a folder."""


def open_file(path: str, flags: int = os.O_RDONLY, dir_fd: int | None = None) -> int:
    """A descriptor of a file below /proc, or below a folder of it. Raises OSError, with :data:`COVERED` where it is covered.

    By openat2(2) (5.6); where a sandbox forbids that, by looking what the file is on before it is opened, which a file system
    that some process serves can still draw out.
    """
    if dir_fd is not None:
        return _open(path, flags, dir_fd)
    root = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _open(path, flags, root)
    finally:
        os.close(root)


def read_file(path: str, dir_fd: int | None = None, limit: int | None = None) -> bytes:
    """What a file of /proc says, or its first ``limit`` bytes. Raises OSError as :func:`open_file`."""
    descriptor = open_file(path, os.O_RDONLY, dir_fd)
    try:
        return read_whole(descriptor, limit)
    finally:
        os.close(descriptor)


def read_record(path: str, dir_fd: int | None = None) -> bytes:
    """What a file of /proc says that the kernel renders at one go, as most of a task's. Raises OSError as :func:`open_file`."""
    descriptor = open_file(path, os.O_RDONLY, dir_fd)
    try:
        text = os.read(descriptor, _AT_ONCE)
        return text if len(text) < _AT_ONCE else text + read_whole(descriptor)
    finally:
        os.close(descriptor)


def read_link(path: str, dir_fd: int | None = None) -> bytes:
    """Where a link of /proc leads to, as it says. Raises OSError as :func:`open_file`."""
    descriptor = open_file(path, os.O_PATH | os.O_NOFOLLOW, dir_fd)
    try:
        return os.readlink(b"", dir_fd=descriptor)
    finally:
        os.close(descriptor)


def list_folder(path: str) -> list[str]:
    """The names in a folder of /proc. Raises OSError as :func:`open_file`."""
    descriptor = open_file(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def read_cover(path: str, dir_fd: int | None = None, limit: int = 1 << 20) -> bytes:
    """What stands where a file of /proc was to be, as far as that can be read without waiting: a regular file.

    Raises OSError; EINVAL for anything else. One of a file system that a process serves may still be slow to open.
    """
    if dir_fd is None:
        path = f"/proc/{path}"
    place = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
    finally:
        os.close(place)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return read_whole(descriptor, limit)
    finally:
        os.close(descriptor)


def read_whole(descriptor: int, limit: int | None = None) -> bytes:
    """The rest of a file, or its next ``limit`` bytes. Raises OSError."""
    pieces, left = [], _AT_ONCE if limit is None else limit
    while left > 0 and (piece := os.read(descriptor, min(left, _AT_ONCE))):
        pieces.append(piece)
        if limit is not None:
            left -= len(piece)
    return b"".join(pieces)


def _open(path: str, flags: int, dir_fd: int) -> int:
    if openat2_works():
        return _openat2(dir_fd, path, flags | os.O_CLOEXEC)
    place = os.open(path, flags & os.O_NOFOLLOW | os.O_PATH | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        if os.fstat(place).st_dev != os.fstat(dir_fd).st_dev:
            raise OSError(COVERED, os.strerror(COVERED), path)
        return os.open(f"/proc/self/fd/{place}", flags | os.O_CLOEXEC) if not flags & os.O_PATH else os.dup(place)
    finally:
        os.close(place)


@cache
def openat2_works() -> bool:
    """Whether the kernel has it, and nobody forbids it."""
    try:
        os.close(_openat2(_AT_FDCWD, "/proc", os.O_PATH | os.O_CLOEXEC, 0))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return False
    return True


@cache
def _how(flags: int, resolve: int) -> bytes:
    return _OPEN_HOW.pack(flags, 0, resolve)


# without argtypes: a third quicker, as each argument is converted by what it is
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_int


def _openat2(where: int, path: str, flags: int, resolve: int = _RESOLVE_NO_XDEV) -> int:
    name, how = os.fsencode(path), _how(flags, resolve)
    while (descriptor := _syscall(_SYS_OPENAT2, where, name, how, _OPEN_HOW.size)) < 0:
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            raise OSError(code, os.strerror(code), path)
    return int(descriptor)
