"""The directory of what cptbpf keeps from run to run until the next boot: ``/run/cptbpf``, mode 0700, owned by its user.

Everything in it can be made again: header trees, compiled objects and refusals to compile, symbol tables, build ids.
"""

import os
import stat

PATH = "/run/cptbpf"


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
