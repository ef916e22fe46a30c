"""The directory of what cptbpf keeps from run to run until the next boot: ``/run/cptbpf``, mode 0700, owned by its user.

Everything in it can be made again: header trees, compiled objects and refusals to compile, symbol tables, build ids.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

PATH = "/run/cptbpf"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def directory() -> str | None:
    """The path of the directory, made where it is missing; None where it cannot be had or is not safe to trust."""
    try:
        os.mkdir(PATH, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return None
    return PATH if trusted(PATH) else None


def trusted(path: str) -> bool:
    """Whether ``path`` is a real directory of ours that nobody else may write."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def read(path: str) -> bytes | None:
    """A file of the directory; None where there is none, or none any more: another run may sweep it at any time."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as stream:
            return stream.read()
    except OSError:
        return None


@contextmanager
def held(path: str) -> Iterator[bool]:
    """Whether a folder of the directory is there; while it is held nobody sweeps it."""
    try:
        descriptor = os.open(path, _FOLDER)
    except OSError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield _is_at(path, descriptor)  # it may have been swept while this run waited for the lock
    finally:
        os.close(descriptor)


def _is_at(path: str, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except OSError:
        return False


def write(path: str, data: bytes) -> None:
    """Writes a file of the directory whole or not at all; a failure is none of the caller's business, it is only a cache."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as stream:
            stream.write(data)
        os.rename(temporary, path)
    except OSError:
        try:
            os.unlink(temporary)
        except OSError:
            return
