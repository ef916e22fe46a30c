"""Where a recording goes, or lines: a file that is there from the first byte and only ever grows, by whole pieces."""

import errno
import os
from contextlib import suppress
from threading import Thread

from cptbpf.errors import TargetError
from cptbpf.image.output import NO_FOLDER, check, exists, failed


class AppendOutput:
    """A file of mode 0600 that is written by pieces, each of which is wholly there or not at all.

    What was written is in the hands of the kernel and survives the end of this process; :meth:`sync` brings it to the disk.
    With ``force`` it takes the name of a file that is there, which itself is not touched: who has it open reads on.
    Raises :class:`~cptbpf.errors.TargetError`.
    """

    def __init__(self, path: str, force: bool = False) -> None:
        self.path = path
        self.size = 0
        self._syncing: Thread | None = None
        self._failed: OSError | None = None
        check(path, force)
        try:
            self._fd = _create(path, force)
        except FileExistsError:  # it came meanwhile
            raise exists(path) from None
        except OSError as error:
            missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
            raise failed("create", path, error, NO_FOLDER if missing else "") from error

    def write(self, data: bytes) -> None:
        """Write all of it. Where that fails, as on a full disk, the file is what it was before."""
        if self._failed is not None:
            raise self._cannot(self._failed)
        view = memoryview(data)
        try:
            while len(view):
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise self._cannot(error) from error
        self.size += len(data)

    def sync(self) -> None:
        """Bring everything to the disk; returns when it is there."""
        self._join()
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EROFS):  # not a file of a disk
                raise self._cannot(error) from error

    def sync_soon(self) -> None:
        """The same without waiting: a slow disk must not keep anybody from reading on. A failure shows at the next write."""
        if self._syncing is None or not self._syncing.is_alive():
            self._syncing = Thread(target=self._sync_quietly, daemon=True)
            self._syncing.start()

    def close(self) -> None:
        """Let go of the file; it stays."""
        self._join()
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _sync_quietly(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            if error.errno != errno.EINVAL:
                self._failed = error

    def _join(self) -> None:
        if self._syncing is not None:
            self._syncing.join()
            self._syncing = None

    def _cannot(self, error: OSError) -> TargetError:
        kept = f"it ends whole, at byte {self.size}, and can be read" if self.size else ""
        return TargetError(f"cannot write {self.path!a}: {error.strerror or error}", kept)


def _create(path: str, force: bool) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_APPEND
    if not force or not os.path.lexists(path):
        fd = os.open(path, flags, 0o600)
    else:
        temporary = os.path.join(os.path.dirname(path), f".cptbpf-{os.urandom(8).hex()}.tmp")
        fd = os.open(temporary, flags, 0o600)
        try:
            os.rename(temporary, path)
        except OSError:
            os.unlink(temporary)
            os.close(fd)
            raise
    os.fchmod(fd, 0o600)
    with suppress(OSError):
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    return fd
