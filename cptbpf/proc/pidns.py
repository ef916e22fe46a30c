"""Pid namespaces: found by what the user calls them, and their place among each other.

All pids here are of cptbpf's own pid namespace, which must be the one that /proc shows.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from typing import NamedTuple

from cptbpf.errors import PrivilegeError, TargetError, UnsupportedError
from cptbpf.proc import status

INITIAL = 0xEFFFFFFC  # PROC_PID_INIT_INO: inode number of the machine's initial pid namespace

_NS_GET_USERNS, _NS_GET_PARENT, _NS_GET_NSTYPE = 0xB701, 0xB702, 0xB703  # linux/nsfs.h
_CLONE_NEWPID = 0x20000000
_KINDS = {
    0x00000080: "time",
    0x00020000: "mount",
    0x02000000: "cgroup",
    0x04000000: "UTS",
    0x08000000: "IPC",
    0x10000000: "user",
    0x40000000: "network",
}
_REMEDY = "cptbpf list shows the pid namespaces."
_LOOKS, _PAUSE = 4, 2e-3  # for somebody in a namespace; seconds
_PID_MAX_LIMIT = 1 << 22  # linux/threads.h; inode numbers of namespaces are far above it
_LEVELS_MAX = 64  # the kernel allows 32 levels


class PidNamespace(NamedTuple):
    """A pid namespace, held by ``fd`` (close-on-exec) so that its inode number stays its own until :meth:`close`.

    ``inode``
        ``ns.inum``, as in ``pid:[inode]``.
    ``depth``
        Levels below cptbpf's own pid namespace; 0 is that one itself.
    ``level``
        ``pid_namespace.level``: levels below the machine's initial one; None where cptbpf runs in a nested one itself, and
        only the kernel can tell.
    ``user_ns``
        Inode number of the user namespace that owns it; 0 where that is not ours to see.
    ``member``
        Pid of a process in it.
    """

    inode: int
    depth: int
    level: int | None
    user_ns: int
    member: int
    fd: int

    def close(self) -> None:
        """Let go of the namespace."""
        os.close(self.fd)


def own() -> PidNamespace:
    """cptbpf's own pid namespace.

    Raises:
        UnsupportedError: /proc is not mounted, or of another pid namespace.
    """
    check_proc()
    return _from_fd(os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC), os.getpid(), "/proc/self/ns/pid")


def of_process(pid: int) -> PidNamespace:
    """The pid namespace that a process (or a thread) is in, ``task_active_pid_ns(task)``.

    Raises:
        TargetError: there is no such process.
        PrivilegeError: its namespaces are not ours to see.
        UnsupportedError: /proc is not mounted, or of another pid namespace.
    """
    check_proc()
    path = f"/proc/{pid}/ns/pid"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise TargetError(f"there is no process {pid}", _REMEDY) from None
    except PermissionError:
        # proc_ns_get_link() says EACCES of a task as well that ended after its folder had been looked up.
        if not os.path.exists(f"/proc/{pid}"):
            raise TargetError(f"there is no process {pid}", _REMEDY) from None
        # Even root may not look at a process with more capabilities; but everybody may see whether it is one of ours.
        if _shares_ours(pid):
            return own()._replace(member=pid)
        raise PrivilegeError(
            f"the namespaces of process {pid} may not be looked at", "Run as root, with all the capabilities that it has."
        ) from None
    return _from_fd(fd, pid, path)


def resolve(spec: str) -> PidNamespace:
    """The pid namespace that a user names.

    ``spec`` is ``pid:[INODE]``, a path such as ``/proc/123/ns/pid`` or of a bind mount, or a bare number: the pid of a process
    in it where it is at most kernel.pid_max, else an inode number.

    Raises:
        TargetError: it is none, nobody is in it, or it is not below cptbpf's own.
        PrivilegeError: it may not be looked at.
        UnsupportedError: /proc is not mounted, or of another pid namespace.
    """
    check_proc()
    if (pid := as_pid(spec)) is not None:
        return of_process(pid)
    if "/" in spec:
        return _from_path(spec)
    if (inode := as_inode(spec)) is None:
        raise TargetError(f"{spec!r} is not a pid namespace: give pid:[INODE], /proc/PID/ns/pid or a number", _REMEDY)
    return by_inode(inode)


def as_pid(spec: str) -> int | None:
    """The pid that a bare number means, where it is at most kernel.pid_max, or /proc/PID/ns/pid; None where ``spec`` is
    something else."""
    if _is_number(spec) and int(spec) <= pid_max():
        return int(spec)
    parts = spec.split("/")
    return int(parts[2]) if parts[:2] == ["", "proc"] and parts[3:] == ["ns", "pid"] and _is_number(parts[2]) else None


def as_inode(spec: str) -> int | None:
    """The inode number that ``pid:[INODE]`` or a bare number means; None where ``spec`` is something else."""
    digits = spec[5:-1] if spec.startswith("pid:[") and spec.endswith("]") else spec
    return int(digits) if _is_number(digits) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 10


def by_inode(inode: int) -> PidNamespace:
    """The pid namespace of that inode number, found through a process that is in it. Raises as :func:`resolve`."""
    for look in range(_LOOKS):
        # a process whose thread executes a program has no namespaces to show for a moment
        time.sleep(look * _PAUSE)
        found = _member_of(inode)
        if found is not None:
            return found
    hidden = "" if os.geteuid() == 0 else " that you may look at"
    raise TargetError(f"no process{hidden} is in a pid namespace pid:[{inode}]", _REMEDY)


def _member_of(inode: int) -> PidNamespace | None:
    for pid in processes():
        if inode_of(pid) == inode:
            try:
                found = of_process(pid)
            except TargetError:  # it has just ended: perhaps others are there
                continue
            if found.inode == inode:
                return found
            found.close()
    return None


def processes() -> Iterator[int]:
    """The pid of every process that /proc shows, in ascending order of the directory."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def inode_of(pid: int) -> int:
    """Inode number of a process's pid namespace; 0 where it is gone or may not be looked at."""
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except PermissionError:
        return os.stat("/proc/self/ns/pid").st_ino if _shares_ours(pid) else 0
    except OSError:
        return 0


def parent_inode(fd: int) -> int:
    """Inode number of a pid namespace's parent; 0 where that is not ours to see."""
    try:
        parent: int = fcntl.ioctl(fd, _NS_GET_PARENT)
    except OSError:
        return 0
    try:
        return os.fstat(parent).st_ino
    finally:
        os.close(parent)


def pid_max() -> int:
    """kernel.pid_max: the highest pid is one below it. Its own limit where /proc has no sys (``subset=pid``)."""
    try:
        with open("/proc/sys/kernel/pid_max", "rb") as stream:
            return int(stream.read())
    except FileNotFoundError:
        return _PID_MAX_LIMIT


def check_proc() -> None:
    """Make sure that the pids of /proc are those of cptbpf's own pid namespace.

    Raises:
        UnsupportedError: they are not, or there is no /proc.
    """
    try:
        shown = os.readlink("/proc/self")
    except OSError:
        raise UnsupportedError("/proc is not mounted", "mount -t proc proc /proc") from None
    if shown != str(os.getpid()):
        raise UnsupportedError("/proc shows another pid namespace than the one that cptbpf runs in", "mount -t proc proc /proc")


def _shares_ours(pid: int) -> bool:
    return len(status.words(pid, b"NSpid")) == 1  # one for each level from that of /proc, which is ours


def _from_path(path: str) -> PidNamespace:
    try:
        # A look before it is opened: to open a device or a fifo may do things, or wait for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise TargetError(f"{path!r} is not a pid namespace", _REMEDY)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError:
        raise PrivilegeError(f"{path!r} may not be looked at", "Run as root.") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise TargetError(f"{path!r} is not a pid namespace: {reason}", _REMEDY) from None
    found = _from_fd(fd, 0, path)
    member = next((pid for pid in processes() if inode_of(pid) == found.inode), 0)
    if not member:
        found.close()
        raise TargetError(f"no process is in the pid namespace {path!r} any more", _REMEDY)
    return found._replace(member=member)


def _from_fd(fd: int, member: int, name: str) -> PidNamespace:
    """Takes over ``fd``."""
    try:
        try:
            kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
        except OSError as error:
            if error.errno == errno.ENOTTY:
                raise TargetError(f"{name!r} is not a pid namespace", _REMEDY) from None
            raise
        if kind != _CLONE_NEWPID:
            raise TargetError(f"{name!r} is a {_KINDS.get(kind, 'different')} namespace, not a pid namespace", _REMEDY)
        ours = os.stat("/proc/self/ns/pid").st_ino
        depth = _depth(fd, ours)
        if depth is None:
            raise TargetError(
                f"the pid namespace {name!r} is not inside the one that cptbpf runs in, and its tasks cannot be seen from here",
                "Run cptbpf in the pid namespace of the machine: nsenter -t 1 -p -m, from a container that may.",
            )
        level = depth if ours == INITIAL else None
        return PidNamespace(os.fstat(fd).st_ino, depth, level, _user_ns(fd), member, fd)
    except BaseException:
        os.close(fd)
        raise


def _depth(fd: int, ours: int) -> int | None:
    """Levels from our own pid namespace down to that of ``fd``; None where it is not below ours."""
    fd = os.dup(fd)
    try:
        for depth in range(_LEVELS_MAX):
            if os.fstat(fd).st_ino == ours:
                return depth
            parent: int = fcntl.ioctl(fd, _NS_GET_PARENT)  # EPERM at the edge of what we may see
            os.close(fd)
            fd = parent
    except PermissionError:
        pass
    finally:
        os.close(fd)
    return None


def _user_ns(fd: int) -> int:
    try:
        user: int = fcntl.ioctl(fd, _NS_GET_USERNS)
    except OSError:
        return 0
    try:
        return os.fstat(user).st_ino
    finally:
        os.close(user)
