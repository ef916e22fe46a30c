"""What /proc shows of one task, by the witness specs of the catalogue ("stat 14", "status Uid 1", "ns/mnt", …).

Reading and understanding are apart: in the frozen window the files are read as they are, and taken to pieces after the thaw.
A value is one of the types of the catalogue: a number, ``state``'s letter, comm's raw bytes, or a tuple where a line is a list.
"""

import errno
import os
from collections.abc import Iterable
from functools import cache

from cptbpf import procfs
from cptbpf.proc import namespaces, stat
from cptbpf.proc.absent import DENIED, GONE, Absent, absent
from cptbpf.proc.process import Process

Value = int | str | bytes | tuple[int, ...]

#: Columns of stat that are 0 for who may not trace the task (proc(5)): the same right that io needs.
_GUARDED_STAT = {26, 27, 28, 29, 30, 35, *range(45, 53)}
_ALWAYS = ("stat", "group", "status", "comm", "statm", "schedstat")
_OF_PROCESS = ("group", "exe")
_HEX_LINES = ("Sig", "ShdPnd", "Cap", "Cpus_allowed")
_NOT_SHOWN = "this kernel does not show it"

NOT_READ = Absent("not read")
"""The value of a spec whose file was left out."""
WITHHELD = Absent("shown of cptbpf itself, and not of this task")
"""The value of a spec that this kernel shows of every task, where what was read is not how the kernel writes it."""
UNREADABLE = Absent("to be read of cptbpf itself, and not of this task")
"""The value of a spec whose file this kernel has for every task, where it cannot be read though nobody forbids it."""


class Shown:
    """What was read of one task: by name of the file the text, the target of a link, or why it could not be read."""

    __slots__ = ("_lines", "_stat", "raw", "tgid", "tid")

    def __init__(self, tid: int, tgid: int, raw: dict[str, bytes | Absent]) -> None:
        self.tid = tid
        self.tgid = tgid
        self.raw = raw
        self._stat: list[bytes] | None = None
        self._lines: dict[bytes, bytes] | None = None

    def value(self, spec: str, depth: int) -> Value | Absent:
        """What a spec means here. ``depth`` is how many levels the asked pid namespace is below that of /proc."""
        name, _, rest = spec.partition(" ")
        text = self.raw.get(name)
        if text is None:
            return NOT_READ
        if isinstance(text, Absent):
            return Absent(_NOT_SHOWN) if text == UNREADABLE and not _shown_of_us(spec) else text
        try:
            return self._value(name, rest, text, depth)
        except (ValueError, IndexError, KeyError):
            return WITHHELD if _shown_of_us(spec) else Absent(_NOT_SHOWN)

    def _value(self, name: str, rest: str, text: bytes, depth: int) -> Value | Absent:
        if name == "stat":
            return self._stat_column(int(rest), text)
        if name == "group":
            return self._guarded(int(rest.split()[1])) or int(stat.columns(text)[int(rest.split()[1]) - 1])
        if name == "status":
            return self._status_line(rest, text, depth)
        if name == "comm":
            return text.removesuffix(b"\n")
        if name == "io":
            return int(self._io(text)[rest.encode()])
        if name == "exe":
            return int(text.split()[("ino", "dev").index(rest)])
        if name.startswith("ns/"):
            return int(text[text.index(b"[") + 1 : -1])
        columns = text.split()
        if name == "schedstat" and columns == [b"0", b"0", b"0"] and not _has_schedstats():
            return Absent("schedstats are off")
        return int(columns[int(rest) - 1])

    def _stat_column(self, number: int, text: bytes) -> Value | Absent:
        if denied := self._guarded(number):
            return denied
        if self._stat is None:
            self._stat = stat.columns(text)
        column = self._stat[number - 1]
        if number == 2:
            return column
        return column.decode("ascii") if number == 3 else int(column)

    def _guarded(self, number: int) -> Absent | None:
        if number in _GUARDED_STAT and self.raw.get("io") == DENIED:
            return Absent("no permission to trace the task")
        return None

    def _status_line(self, key: str, text: bytes, depth: int) -> Value | Absent:
        if self._lines is None:
            self._lines = dict(line.split(b":", 1) for line in text.split(b"\n") if b":" in line)
        key, _, column = key.partition(" ")
        line = self._lines[key.encode()]
        if key.startswith(_HEX_LINES):
            return int(line.replace(b",", b""), 16)
        numbers = tuple(map(int, line.split()))
        if column == "*":
            return numbers
        if key.startswith("NS"):
            return numbers[depth]
        if column:
            return numbers[int(column) - 1]
        return numbers if key == "Groups" else numbers[0]

    def file_system(self) -> str:
        """Type of the file system that the executable is on, where its numbers are those of stat(2); else ""."""
        text = self.raw.get("exe")
        return b"".join(text.split()[2:]).decode("ascii", "replace") if isinstance(text, bytes) else ""

    @staticmethod
    def _io(text: bytes) -> dict[bytes, bytes]:
        lines = (line.partition(b": ") for line in text.split(b"\n"))
        return {key: value for key, _, value in lines}


@cache
def _shown_of_us(spec: str) -> bool:
    """Whether the kernel shows of cptbpf itself what a spec means."""
    pid, name, rest = os.getpid(), *spec.partition(" ")[::2]
    shown = read(pid, pid, (name,))
    text = shown.raw[name] if isinstance(shown, Shown) else NOT_READ
    if isinstance(shown, int) or isinstance(text, Absent):
        return False
    try:
        shown._value(name, rest, text, 0)
    except (ValueError, IndexError, KeyError):
        return False
    return True


@cache
def _has_schedstats() -> bool:
    """Whether the kernel counts what schedstat shows, which is 0 in all columns otherwise: we have run."""
    with open("/proc/self/schedstat", "rb") as stream:
        return stream.read().split() != [b"0"] * 3


@cache
def file_of(spec: str) -> str:
    """Name of the file, below /proc/PID/task/TID, that a spec is about; "" for one that is not of /proc."""
    name = spec.partition(" ")[0]
    known = ("stat", "group", "status", "comm", "io", "exe", "schedstat", "statm")
    return name if name in known or name.startswith("ns/") else ""


def read(tid: int, tgid: int, names: Iterable[str], frozen: bool = False) -> Shown | int:
    """The files of one task; the errno where /proc does not show the task.

    ``frozen``: tasks stand still. What is mounted over these files is then left out (:data:`NOT_READ`): to open it might wait
    for one of them.
    """
    try:
        folder = _Folder(tid, tgid, frozen)
    except OSError as error:
        if frozen and error.errno == procfs.COVERED:
            return Shown(tid, tgid, dict.fromkeys(names, NOT_READ))
        return error.errno or errno.EIO
    try:
        return Shown(tid, tgid, {name: folder.text(name) for name in names})
    finally:
        folder.close()


def unread(name: str, error: OSError) -> Absent:
    """What it means that a file of a task could not be read. The kernel shows some of every task that there is."""
    found = absent(error)
    if found == DENIED or name == "exe" or (found.reason == GONE and name not in _ALWAYS):
        return found
    return UNREADABLE


class _Folder:
    """A task's folder in /proc, or the one that is mounted over it, to be closed.

    Raises OSError where there is none: with procfs.COVERED for one that must not be looked at, and any other for one that holds
    no stat, as whoever lists tasks has it.
    """

    def __init__(self, tid: int, tgid: int, frozen: bool) -> None:
        self._tid, self._tgid, self._frozen = tid, tgid, frozen
        self._namespaces = -1
        path = f"{tgid}/task/{tid}"
        try:
            self._at, self._covered = procfs.open_file(path, os.O_PATH | os.O_DIRECTORY), False
        except OSError as error:
            if error.errno != procfs.COVERED or frozen or namespaces.may_hang(tgid):
                raise
            procfs.read_cover(f"{path}/stat")
            self._at, self._covered = os.open(f"/proc/{path}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), True

    def close(self) -> None:
        os.close(self._at)
        if self._namespaces >= 0:
            os.close(self._namespaces)

    def text(self, name: str) -> bytes | Absent:
        """What a file says, or why it cannot be told."""
        if name in _OF_PROCESS and self._tid != self._tgid:
            return Absent("of the process, not of its threads")
        try:
            if name == "exe":
                return _executable(self._tgid)
            return self._cover(name) if self._covered else self._own(name)
        except OSError as error:
            if error.errno != procfs.COVERED:
                return UNREADABLE if self._covered else unread(name, error)
        if self._frozen:
            return NOT_READ
        try:
            return UNREADABLE if namespaces.may_hang(self._tgid) else self._cover(name)
        except OSError:
            return UNREADABLE

    def _own(self, name: str) -> bytes:
        kind, _, link = name.partition("/")
        if not link:
            return procfs.read_record(_path(name), self._at)
        if self._namespaces < 0:
            self._namespaces = procfs.open_file(kind, os.O_PATH | os.O_DIRECTORY, self._at)
        return os.readlink(link.encode(), dir_fd=self._namespaces)

    def _cover(self, name: str) -> bytes:
        """What stands in place of a file: it is compared as if it were that."""
        if "/" in name:
            return os.readlink(name.encode(), dir_fd=self._at)
        return procfs.read_cover(_path(name), self._at)


def _path(name: str) -> str:
    return "../../stat" if name == "group" else name


def ids(tids: Iterable[int]) -> dict[int, tuple[int, tuple[int, ...]]]:
    """Of tasks that are there: the thread group, and the ids at every level from the pid namespace of /proc inwards.

    What is mounted over their files is left out, so that this is for the frozen window as well.
    """
    found: dict[int, tuple[int, tuple[int, ...]]] = {}
    for tid in tids:
        shown = read(tid, tid, ("status",), frozen=True)
        if isinstance(shown, Shown):
            group, levels = shown.value("status Tgid", 0), shown.value("status NSpid *", 0)
            if isinstance(group, int) and isinstance(levels, tuple) and not isinstance(levels, Absent):
                found[tid] = group, levels
    return found


def _executable(pid: int) -> bytes | Absent:
    """Inode number and device (major << 20 | minor), as text; where only stat(2) tells them, the file system as well.

    Not for the frozen window: it may be slow.
    """
    with Process(pid) as process:
        numbers = process.exe_numbers()
        if not isinstance(numbers, Absent):
            return b"%d %d" % numbers
        descriptor = process.open_exe()
        if isinstance(descriptor, Absent):
            return descriptor
        try:
            found = os.fstat(descriptor)
            kind = process.file_system(descriptor) or b"?"
        finally:
            os.close(descriptor)
    return b"%d %d %s" % (found.st_ino, os.major(found.st_dev) << 20 | os.minor(found.st_dev), kind)
