"""The directory of what cptbpf keeps from run to run until the next boot: ``/run/cptbpf``, mode 0700, owned by its user.

Everything in it can be made again: header trees, compiled objects and refusals to compile, symbol tables, build ids.
Names of the first three end in a key, 32 hex digits of what they were made from. Those of old versions and kernels are swept.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

PATH = "/run/cptbpf"
#: So many of one name stay, under different keys: versions of cptbpf installed side by side do not push each other out.
KEPT = 4

_TREES = 4 * KEPT  # of headers: each program set has its own, under one name
_YOUNG = 3600  # seconds in which nothing is swept: whoever made it may be about to use it
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


def _is_at(path: str, descriptor: int, folder: int | None = None) -> bool:
    try:
        return os.path.samestat(os.stat(path, dir_fd=folder, follow_symlinks=False), os.fstat(descriptor))
    except OSError:
        return False


def sweep() -> None:
    """Removes what killed runs left half made, and all but the newest of each name.

    Other runs may read, write and sweep at the same time. Only files and folders of ours are touched, none that somebody else
    named, and no link is followed.
    """
    where = directory()
    if where is None:
        return
    try:
        root = os.open(where, _FOLDER)
    except OSError:
        return
    try:
        for made, name in _stale(root):
            _remove(root, name, made)
    finally:
        os.close(root)


def _stale(root: int) -> list[tuple[int, str]]:
    """When it was made, and the name, of all that is to go from the directory that is open at ``root``."""
    import re
    import time

    keyed = re.compile(r"(headers|(?:objects|refusal)-[\w-]+)-[0-9a-f]{32}")
    half_made = re.compile(r"headers-[a-z0-9_]{8}|(?:headers|objects|refusal|symbols|build)-[\w-]+(?:\.\d+)+")
    whole: dict[str, list[tuple[int, str]]] = {}
    stale = []
    old = time.time_ns() - _YOUNG * 1_000_000_000
    for name in os.listdir(root):
        made = _made(root, name)
        if made is None:
            continue
        if match := keyed.fullmatch(name):
            whole.setdefault(match[1], []).append((made, name))
        elif half_made.fullmatch(name) and made < old:
            stale.append((made, name))
    for kind, found in whole.items():
        kept = _TREES if kind == "headers" else KEPT
        stale += [(made, name) for made, name in sorted(found)[:-kept] if made < old]
    return stale


def _made(root: int, name: str) -> int | None:
    """When something of ours was made, in ns; None where it is gone, somebody else's, or not what its name says."""
    try:
        found = os.stat(name, dir_fd=root, follow_symlinks=False)
    except OSError:
        return None
    kind = stat.S_ISDIR if name.startswith("headers-") else stat.S_ISREG
    return found.st_mtime_ns if kind(found.st_mode) and found.st_uid == os.geteuid() else None


def _remove(root: int, name: str, made: int) -> None:
    """Removes a file, or a folder that nobody holds. Another run may have done so, and yet another have made it anew."""
    try:
        if not name.startswith("headers-"):
            os.unlink(name, dir_fd=root)
            return
        descriptor = os.open(name, _FOLDER, dir_fd=root)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(name, descriptor, root) and os.fstat(descriptor).st_mtime_ns == made:
                _remove_tree(root, name)
        finally:
            os.close(descriptor)
    except OSError:
        return


def _remove_tree(root: int, name: str) -> None:
    from shutil import rmtree

    aside = f"{name}.{os.getpid()}"  # so that nobody takes for whole what is left of it, should this run be killed
    os.rename(name, aside, src_dir_fd=root, dst_dir_fd=root)
    rmtree(aside, ignore_errors=True, dir_fd=root)


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
