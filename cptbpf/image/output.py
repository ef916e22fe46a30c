"""Where bytes of an image go: a file that appears whole or not at all, or a stream."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, Protocol

from cptbpf.errors import TargetError

_RENAME_NOREPLACE = 1


class Output(Protocol):
    """A place to write to; :meth:`commit` or :meth:`abort` ends it."""

    def write(self, data: bytes | bytearray | memoryview) -> None: ...
    def commit(self) -> None: ...
    def abort(self) -> None: ...


@contextmanager
def opened(target: str | os.PathLike[str] | BinaryIO, force: bool = False) -> Iterator[Output]:
    """The place for a path or a stream. Where it is left without a commit, nothing comes into being.

    Raises TargetError at once for what cannot be written to, before any work is done for it.
    """
    output: Output = FileOutput(os.fspath(target), force) if isinstance(target, str | os.PathLike) else StreamOutput(target)
    try:
        yield output
    finally:
        output.abort()


def check(path: str, force: bool) -> None:
    """Refuse a name that cannot be taken: with ``force`` a file may be replaced, and a link as such, nothing else ever.

    Raises TargetError.
    """
    if not os.path.basename(path):
        raise TargetError(f"{path!a} is not a file name")
    try:
        os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:  # a name that is too long, say
        raise failed("create", path, error) from error
    try:
        mode = os.stat(path).st_mode
    except OSError:  # a dangling link: --force replaces the link, as rename does
        mode = stat.S_IFREG
    if not stat.S_ISREG(mode):
        raise TargetError(f"{path!a} exists and is not a regular file", "write to standard output with -o - instead")
    if not force:
        raise exists(path)


def exists(path: str) -> TargetError:
    """What is said of a file that must not be replaced."""
    return TargetError(f"{path!a} exists already", "choose another name, or overwrite it with --force")


NO_FOLDER = "give a name in a directory that exists"


def failed(what: str, name: str, error: OSError, remedy: str = "") -> TargetError:
    """What is said of a file that could not be written to."""
    return TargetError(f"cannot {what} {name!a}: {error.strerror or error}", remedy)


class StreamOutput:
    """A binary stream that the caller owns; what was written before an error stays written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._name = str(getattr(stream, "name", "the stream"))
        try:
            stream.flush()
        except OSError as error:
            raise failed("write to", self._name, error) from error
        # Past a buffer, where there is one: what could not be written would stay in it and fail again when it is closed.
        self._stream: BinaryIO = getattr(stream, "raw", stream)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of it; a raw stream may take it in parts."""
        view = memoryview(data)
        try:
            while len(view):
                written = self._stream.write(view)
                if not written:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                view = view[written:]
        except OSError as error:
            raise failed("write to", self._name, error) from error

    def commit(self) -> None:
        """Flush: a full disk or a closed pipe may show only now."""
        try:
            self._stream.flush()
        except OSError as error:
            raise failed("write to", self._name, error) from error

    def abort(self) -> None:
        """Nothing to undo."""


class FileOutput:
    """A file that gets its name only when it is whole and on the disk.

    It is of mode 0600 from its first byte, in the target's own directory, without a name where the file system allows
    (O_TMPFILE), so that nothing of it stays when the writer is killed. Raises :class:`~cptbpf.errors.TargetError`.
    """

    def __init__(self, path: str, force: bool = False) -> None:
        self._path = path
        self._force = force
        directory, self._name = os.path.split(path)
        self._temporary: str | None = None
        check(path, force)  # what commit() would refuse after all the work
        try:
            self._directory = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise failed("open the directory of", path, error, NO_FOLDER) from error
        try:
            self._fd = self._create()
            os.fchmod(self._fd, 0o600)
        except OSError as error:
            self.abort()
            raise failed("create", path, error) from error

    def _create(self) -> int:
        self._fd = -1
        flags = os.O_WRONLY | os.O_CLOEXEC
        if os.path.isdir("/proc/self/fd"):  # a nameless file can only be linked through there
            try:
                return os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=self._directory)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                    raise
        name = self._random_name()
        fd = os.open(name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=self._directory)
        self._temporary = name
        return fd

    @staticmethod
    def _random_name() -> str:
        return f".cptbpf-{os.urandom(8).hex()}.tmp"

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write all of it."""
        view = memoryview(data)
        try:
            while len(view):
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise failed("write", self._path, error) from error

    def commit(self) -> None:
        """Bring the file to the disk, then give it its name."""
        try:
            os.fsync(self._fd)
            self._publish()
            os.fsync(self._directory)
        except FileExistsError:
            raise exists(self._path) from None
        except OSError as error:
            raise failed("write", self._path, error) from error
        self.abort()

    def abort(self) -> None:
        """Let go of everything; a temporary name is removed."""
        temporary, self._temporary = self._temporary, None
        fd, self._fd = self._fd, -1
        directory, self._directory = self._directory, -1
        if directory < 0:
            return
        if temporary is not None:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=directory)
        if fd >= 0:
            os.close(fd)
        os.close(directory)

    def _publish(self) -> None:
        if self._force:
            if self._temporary is None:
                name = self._random_name()
                self._link_nameless(name)
                self._temporary = name
            os.rename(self._temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            self._temporary = None
        elif self._temporary is None:
            self._link_nameless(self._name)
        else:
            self._rename_no_replace(self._temporary)
            self._temporary = None

    def _link_nameless(self, name: str) -> None:
        os.link(f"/proc/self/fd/{self._fd}", name, dst_dir_fd=self._directory, follow_symlinks=True)

    def _rename_no_replace(self, temporary: str) -> None:
        """Rename without ever replacing; by a hard link where the file system knows no RENAME_NOREPLACE."""
        import ctypes

        renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if renameat2 is not None:
            source, target = os.fsencode(temporary), os.fsencode(self._name)
            if renameat2(self._directory, source, self._directory, target, _RENAME_NOREPLACE) == 0:
                return
            code = ctypes.get_errno()
            if code not in (errno.EINVAL, errno.ENOSYS):
                raise OSError(code, os.strerror(code))
        os.link(temporary, self._name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        os.unlink(temporary, dir_fd=self._directory)
