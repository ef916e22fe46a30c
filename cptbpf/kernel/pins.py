"""Pinned BPF objects: ``/sys/fs/bpf/cptbpf``, a directory of mode 0700 that root owns, one folder in it per compiled set.

Where there is no bpffs and none can be mounted, nothing is kept and every run compiles.
"""

import ctypes
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cptbpf import rundir
from cptbpf.kernel import bpf

BPFFS = "/sys/fs/bpf"
_ROOT = f"{BPFFS}/cptbpf"
_BPF_FS_MAGIC = 0xCAFE4A11
_MAKING = "making-"

_libc = ctypes.CDLL(None, use_errno=True)


def mounted() -> bool:
    """Whether a bpffs is mounted at its usual place."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs, whose first word is f_type
    return _libc.statfs(BPFFS.encode(), buffer) == 0 and int.from_bytes(buffer.raw[:8], "little") == _BPF_FS_MAGIC


def folder(key: str) -> str | None:
    """The folder of a compiled set, or None where there is none, or it could have been put there by somebody else."""
    path = f"{_ROOT}/{key}"
    return path if rundir.trusted(_ROOT) and rundir.trusted(path) and mounted() else None


@contextmanager
def locked() -> Iterator[None]:
    """Lets one run compile at a time; without a directory to lock, they all do."""
    where = rundir.directory()
    if where is None:
        yield
        return
    descriptor = os.open(where, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def keep(key: str, objects: dict[str, int]) -> bool:
    """Pins a compiled set under its key, all of it or nothing. False where there is nowhere to pin."""
    if not _root():
        return False
    made = f"{_ROOT}/{_MAKING}{os.getpid()}"  # bpffs refuses dots in names
    try:
        os.mkdir(made, 0o700)
        for name, descriptor in objects.items():
            bpf.obj_pin(descriptor, f"{made}/{name}")
        _remove(f"{_ROOT}/{key}")
        os.rename(made, f"{_ROOT}/{key}")  # from here on it is found, and whole
    except OSError:
        _remove(made)
        return False
    _sweep(key)
    return True


def _root() -> bool:
    if not mounted() and _libc.mount(b"bpf", BPFFS.encode(), b"bpf", 0, b"mode=0700") != 0:
        return False
    try:
        os.mkdir(_ROOT, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return False
    return rundir.trusted(_ROOT)


def _sweep(key: str) -> None:
    """Removes what a killed run left half made, and all but the newest sets of the same name."""
    name = key.split("-")[0]
    whole: list[tuple[float, str]] = []
    for entry in os.listdir(_ROOT):
        path = f"{_ROOT}/{entry}"
        if entry.startswith(_MAKING):
            _remove(path)
        elif entry.startswith(f"{name}-"):
            whole.append((os.stat(path).st_mtime, path))
    for _, path in sorted(whole)[: -rundir.KEPT]:
        _remove(path)


def _remove(path: str) -> None:
    try:
        for entry in os.listdir(path):
            os.unlink(f"{path}/{entry}")
        os.rmdir(path)
    except OSError:
        return
