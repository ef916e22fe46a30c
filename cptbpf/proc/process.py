"""What only /proc tells of a process: executable, command line, cgroup.

Everything is read through one descriptor of /proc/PID, which goes on meaning the same process when its pid is given to another.
What comes back is the process's own word: never use it as a path, a format or on a terminal unescaped.
"""

import os
from collections.abc import Iterator

from cptbpf import procfs
from cptbpf.proc import namespaces
from cptbpf.proc.absent import Absent, absent
from cptbpf.proc.mountinfo import Mount, mounts

CMDLINE_MAX = 65536  # bytes that are kept: a whole namespace may have long ones

_NO_MOUNT = "the executable's file system is not known"


class Process:
    """A process of /proc, to be used in a ``with`` statement. Its methods return Absent where it has vanished."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = -1
        self._failure: OSError | None = None
        try:
            self._fd = procfs.open_file(str(pid), os.O_PATH | os.O_DIRECTORY)
        except OSError as error:
            self._failure = error

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def comm(self) -> bytes | Absent:
        """The name of the thread-group leader, raw."""
        text = self._read("comm", 4096)
        return text if isinstance(text, Absent) else text.removesuffix(b"\n")

    def cmdline(self) -> bytes | Absent:
        """The command line, each argument ended by NUL; its first :data:`CMDLINE_MAX` bytes."""
        text = self._read("cmdline", CMDLINE_MAX)
        return text or Absent("no command line")

    def cgroup(self) -> bytes | Absent:
        """Path of the cgroup below cptbpf's own cgroup root: of the v2 hierarchy, or of a v1 one where v2 is not in use."""
        text = self._read("cgroup", 65536)
        return text if isinstance(text, Absent) else cgroup_path(text)

    def exe_path(self) -> bytes | Absent:
        """Path of the executable, ``" (deleted)"`` included."""
        try:
            return procfs.read_link("exe", self._directory())
        except FileNotFoundError:
            return Absent("no executable (a kernel thread or a zombie), or the process is gone")
        except OSError as error:
            return absent(error)

    def open_exe(self, dev: int = 0) -> int | Absent:
        """A descriptor of the executable, to read; the caller closes it. Not where a read might never return.

        ``dev`` is the device that it is on (major << 20 | minor), where that is known.
        """
        try:
            where = self._open_exe_path()
            try:
                kind = self.file_system(where, dev)
                if kind is None:
                    return Absent(_NO_MOUNT)
                if kind.startswith(namespaces.MAY_HANG):
                    return Absent(f"not read: the executable is on {kind.decode('ascii', 'replace')}, which might never answer")
                return os.open(f"/proc/self/fd/{where}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            finally:
                os.close(where)
        except FileNotFoundError:
            return Absent("no executable (a kernel thread or a zombie), or the process is gone")
        except OSError as error:
            return absent(error)

    def exe_numbers(self) -> tuple[int, int] | Absent:
        """Inode number and device (major << 20 | minor) of the executable's inode, without asking its file system.

        Not before 5.14, 3845f256a8b5 ("procfs/dmabuf: add inode number to /proc/*/fdinfo").
        """
        try:
            descriptor = self._open_exe_path()
            try:
                info = _fdinfo(descriptor)
            finally:
                os.close(descriptor)
            device = next((mount.device for mount in self._mounts() if mount.id == int(info[b"mnt_id"])), None)
        except OSError as error:
            return absent(error)
        if device is None:
            return Absent(_NO_MOUNT)
        if b"ino" not in info:
            return Absent("this kernel does not show the inode of an open file")
        return int(info[b"ino"]), device

    def _open_exe_path(self) -> int:
        """A descriptor of the executable that asks nothing of its file system. Raises OSError."""
        os.close(procfs.open_file("exe", os.O_PATH | os.O_NOFOLLOW, self._directory()))  # nothing is mounted over the link
        return os.open("exe", os.O_PATH | os.O_CLOEXEC, dir_fd=self._directory())

    def file_system(self, fd: int, dev: int = 0) -> bytes | None:
        """Type of the file system that ``fd`` is on, without asking that file system.

        The mount may be of the namespace that the process was in before: then any mount of the device ``dev`` tells.
        """
        number = int(_fdinfo(fd)[b"mnt_id"])
        everywhere = list(self._mounts())
        found = [mount.kind for mount in everywhere if mount.id == number]
        found += [mount.kind for mount in everywhere if mount.device == dev]
        return found[0] if found else None

    def _mounts(self) -> Iterator[Mount]:
        return mounts("mountinfo", self._directory())

    def _directory(self) -> int:
        if self._failure:
            raise self._failure
        return self._fd

    def _read(self, name: str, limit: int) -> bytes | Absent:
        """The first ``limit`` bytes of a file of /proc/PID."""
        try:
            return procfs.read_file(name, self._directory(), limit)
        except OSError as error:
            return absent(error)


def _fdinfo(descriptor: int) -> dict[bytes, bytes]:
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as stream:
        return {key: value.strip() for key, _, value in (line.partition(b":") for line in stream)}


def cgroup_path(text: bytes) -> bytes | Absent:
    """The path that says most in the text of a /proc/PID/cgroup.

    That of the v2 hierarchy; where all is mounted as v1, or v2 only beside it and unused, that of systemd's hierarchy or of a
    controller that every container runtime uses.
    """
    paths: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        hierarchy, _, rest = line.partition(b":")
        controllers, _, path = rest.partition(b":")
        if path:
            for controller in [b""] if hierarchy == b"0" else controllers.split(b","):
                paths.setdefault(controller, path)
    for controller in (b"", b"name=systemd", b"pids", b"memory", b"cpu", b"freezer"):
        if paths.get(controller, b"/") != b"/":
            return paths[controller]
    return b"/" if paths else Absent("no cgroup")
