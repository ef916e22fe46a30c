"""Kernel passes: every task of a pid namespace in one read of a pinned iterator.

A pass disturbs nobody. It walks the tasks that cptbpf's own pid namespace sees and keeps, in the kernel, those of the
namespace that was asked for.
"""

import errno
import os
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cache, partial
from operator import itemgetter
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from cptbpf.errors import UnsupportedError
from cptbpf.kernel import bpf, programs, record
from cptbpf.kernel.record import TASK_COLUMNS, TASK_EXTRA, TASK_RECORD, TaskExtra, TaskState, task_extra
from cptbpf.kernel.room import READ, Room, Stream

T = TypeVar("T")

_INIT_PID_NS = 0xEFFFFFFC  # PROC_PID_INIT_INO of linux/proc_ns.h
_ARRAYS = 64  # bytes of levels and groups that a task has, as a rule
_AT_HWCAP2, _HWCAP2_FSGSBASE = 26, 1 << 1  # uapi/linux/auxvec.h, asm/hwcap2.h

# TaskState._make without its check of the length, which the struct sees to: a third of the time that an object costs
_task_state: Callable[[tuple[Any, ...]], TaskState] = partial(tuple.__new__, TaskState)


class TaskTable:
    """The records of one pass, decoded when they are looked at.

    Iterating yields a :class:`TaskState` each; :meth:`column` and :meth:`columns` decode only the fields that they name, and
    :meth:`array` makes no object at all.
    """

    def __init__(self, data: bytes | bytearray) -> None:
        if (data and int.from_bytes(data[:4], "little") != TASK_RECORD.size) or len(data) % TASK_RECORD.size:
            raise UnsupportedError("the loaded BPF programs write another record than this version of cptbpf reads")
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // TASK_RECORD.size

    def __iter__(self) -> Iterator[TaskState]:
        return map(_task_state, TASK_RECORD.iter_unpack(self._data))

    def column(self, name: str) -> list[Any]:
        """One field of every task: ints, or 16 bytes each for ``comm``. Raises KeyError for a name that is none."""
        if struct.calcsize(TASK_COLUMNS[name][0]) > 8:
            return [value for (value,) in self.columns(name)]
        return self.array(name).tolist()

    def array(self, name: str) -> "memoryview[int]":
        """One field of every task as a view of the records, which decodes a value when it is looked at: it can be indexed and
        sliced, and numpy.asarray() takes it without a copy. Raises KeyError for a name that is none, and for ``comm``."""
        code, offset = TASK_COLUMNS[name]
        width = struct.calcsize(code)
        if width > 8:
            raise KeyError(f"{name} is no number")
        values: Any = memoryview(self._data).cast(code)  # type: ignore[call-overload]  # one of I, i, Q
        view: memoryview[int] = values[offset // width :: TASK_RECORD.size // width]
        return view

    def only(self, host_pids: Collection[int]) -> "TaskTable":
        """The records of these tasks, by their ids in cptbpf's own pid namespace."""
        size = TASK_RECORD.size
        kept = [index * size for index, pid in enumerate(self.column("host_pid")) if pid in host_pids]
        return TaskTable(b"".join(self._data[at : at + size] for at in kept))

    def records(self) -> Iterator[tuple[int, bytes | bytearray]]:
        """Each task's host_pid and the bytes of its struct task_record."""
        size, data = TASK_RECORD.size, self._data
        return ((pid, data[index * size : (index + 1) * size]) for index, pid in enumerate(self.column("host_pid")))

    def columns(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """Several fields of every task, a tuple each, in the order of the names."""
        rows, reorder = _columns(names)
        return map(reorder, rows.iter_unpack(self._data)) if reorder else rows.iter_unpack(self._data)


class FullTask(NamedTuple):
    """One task of a full pass. ``xstate`` is the FPU area as it lies in kernel memory."""

    state: TaskState
    extra: TaskExtra
    levels: tuple[tuple[int, int], ...]  # (number, inode of the namespace), outermost first
    groups: tuple[int, ...]
    stack: tuple[int, ...]
    xstate: memoryview


_TAILS = struct.Struct("=8xIIII")  # levels, groups, stack, xstate of struct task_extra


class FullPass:
    """The raw stream of a full pass: kept as it was read, decoded after the thaw.

    ``running`` counts its tasks that did not stand still: that had not been stopped by a tracer, or not left their CPU yet.
    """

    def __init__(self, data: memoryview, running: int = 0) -> None:
        self._data = data
        self.running = running

    def tasks(self) -> Iterator[FullTask]:
        """Every task."""
        return (task.decoded() for task in self.raw())

    def raw(self) -> Iterator["RawTask"]:
        """Every task, not decoded: a tenth of the memory."""
        at = 0
        while at < len(self._data):
            end = _end(self._data, at)
            yield RawTask(self._data, at, end, *_KEY.unpack_from(self._data, at))
            at = end


class RawTask(NamedTuple):
    """One task of a full pass as it was read, with what it is looked up and put in order by."""

    data: memoryview
    at: int
    end: int
    pid: int
    host_pid: int
    host_tgid: int
    host_rppid: int
    start_boottime: int
    exec_id: int

    @property
    def identity(self) -> tuple[int, int, int]:
        """What makes a task of two passes the same. A thread that executes a program takes over its leader's id and start."""
        return self.host_pid, self.start_boottime, self.exec_id

    def record(self) -> bytes:
        """The bytes of its struct task_record."""
        return bytes(self.data[self.at : self.at + TASK_RECORD.size])

    def state(self) -> TaskState:
        """Its struct task_record."""
        return _task_state(TASK_RECORD.unpack_from(self.data, self.at))

    def decoded(self) -> FullTask:
        """All of it."""
        return _full_task(self.data, self.at, self.end)


def _picker(*names: str) -> struct.Struct:
    """A struct that unpacks just these members of a task_record, which stand in the order of their offsets."""
    codes, at = ["="], 0
    for name in names:
        code, offset = TASK_COLUMNS[name]
        codes.append(f"{offset - at}x{code}")
        at = offset + struct.calcsize("=" + code)
    return struct.Struct("".join(codes))


@cache
def _columns(names: tuple[str, ...]) -> tuple[struct.Struct, Callable[[tuple[Any, ...]], tuple[Any, ...]] | None]:
    """A struct that unpacks these members of each record, and what puts them in the order of the names where it is another."""
    order = sorted(set(names), key=lambda name: TASK_COLUMNS[name][1])
    picker = _picker(*order)
    rows = struct.Struct(f"{picker.format}{TASK_RECORD.size - picker.size}x")
    return rows, None if names == tuple(order) else itemgetter(*map(order.index, names))


_KEY = _picker("pid", "host_pid", "host_tgid", "host_rppid", "start_boottime", "exec_id")


def _end(data: memoryview, at: int) -> int:
    levels, groups, stack, xstate = _TAILS.unpack_from(data, at + TASK_RECORD.size)
    end: int = at + TASK_RECORD.size + TASK_EXTRA.size + 8 * levels + (4 * groups + 7 & ~7) + 8 * stack + xstate
    if end > len(data):
        raise UnsupportedError("the task iterator ended a read in the midst of a task")
    return end


def _full_task(data: memoryview, at: int, end: int) -> FullTask:
    state = TaskState._make(TASK_RECORD.unpack_from(data, at))
    at += TASK_RECORD.size
    extra = task_extra(data, at)
    at += TASK_EXTRA.size
    numbers = struct.unpack_from(f"={2 * extra.levels}I", data, at)
    at += 8 * extra.levels
    groups = struct.unpack_from(f"={extra.groups}I", data, at)
    at += 4 * extra.groups + 7 & ~7
    stack = struct.unpack_from(f"={extra.stack}Q", data, at)
    at += 8 * extra.stack
    levels = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return FullTask(state, extra, levels, groups, stack, data[at:end])


class TaskReader:
    """Reads passes. Use it as a context manager; each thread that reads has its own entry in the kernel's map.

    ``own_level``
        Level of cptbpf's own pid namespace: 0 for the initial one.

    Raises UnsupportedError and PrivilegeError as :func:`cptbpf.kernel.programs.open_set` does.
    """

    def __init__(self) -> None:
        try:
            self._own = os.stat("/proc/self/ns/pid").st_ino
        except FileNotFoundError:
            raise UnsupportedError("/proc is not mounted", "mount -t proc proc /proc") from None
        opened = programs.open_set("tasks")
        self._states = opened["bpf_iter__task"]
        self._full = opened["bpf_iter__task_regs"]
        self._readers = opened["readers"]
        self._padding = bytes(bpf.map_value_size(self._readers) - record.READER_REQUEST.size)
        self._target = (0, 0)
        self._room = Room()
        self.own_level = self.identity()[1]

    def __enter__(self) -> "TaskReader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the descriptors; the pins stay."""
        self._room.clear()
        for descriptor in (self._states, self._full, self._readers):
            os.close(descriptor)

    def ask(self, inode: int, level: int) -> None:
        """Names the pid namespace that passes are about: its inode number, and its level counted from the initial one."""
        self._target = (inode, level)
        self._room.expected = 0

    def ask_own(self) -> None:
        """Names cptbpf's own: passes are then about every task that it sees."""
        self.ask(self._own, self.own_level)

    def prepare(self, tasks: int, xstate: int) -> None:
        """Takes memory for a full pass over about so many tasks, with ``xstate`` bytes of FPU area each, before they stop."""
        self._room.prepare(tasks * (TASK_RECORD.size + TASK_EXTRA.size + _ARRAYS + xstate))

    def states(self) -> TaskTable:
        """One pass of task_iter.bpf.c."""
        key = self._ask_for(0)
        try:
            data = _drain(self._states, self._room.whole)
        finally:
            self._leave(key)
        return TaskTable(data)

    def full(self, registers: bool = False, stacks: bool = False) -> FullPass:
        """One pass of task_regs.bpf.c, with the user registers and FPU areas, or the kernel stacks, of every task."""
        with self.ready(registers, stacks) as read:
            return read()

    @contextmanager
    def ready(self, registers: bool = False, stacks: bool = False) -> Iterator[Callable[[], FullPass]]:
        """The same, in two steps: what is yielded reads the pass, in this thread, once, and with next to no work for the
        interpreter, so that another thread can go on meanwhile."""
        flags = registers * (record.READER_REGS | _without_fsgsbase()) | stacks * record.READER_STACK
        key = self._ask_for(flags)
        try:
            with Stream(bpf.iter_create(self._full)) as stream:
                yield lambda: FullPass(self._room.region(stream), self._running(key))
        finally:
            self._leave(key)

    def request(self, flags: int = 0) -> bytes:
        """What :meth:`ask` named, as the struct reader_request that leads a reader's entry in a map."""
        return record.READER_REQUEST.pack(*self._target, self.own_level, flags)

    def _ask_for(self, flags: int) -> bytes:
        """Tells the kernel's map what this thread asks for, until :meth:`_leave`. Returns its key there."""
        key = struct.pack("=Q", self.identity()[0])
        self._register(key, self.request(flags) + self._padding)
        return key

    def _leave(self, key: bytes) -> None:
        if not bpf.map_delete(self._readers, key):
            raise UnsupportedError("another reader took this one's place in the kernel's map", "try again")

    def _running(self, key: bytes) -> int:
        """How many tasks of the pass that has just been read did not stand still."""
        value = bpf.map_lookup(self._readers, key, record.READER_REQUEST.size + len(self._padding))
        if value is None:
            return 0  # _leave() will tell that the entry is gone
        _asked, running = record.READER_HEAD.unpack_from(value)
        return int(running)

    def _register(self, key: bytes, value: bytes) -> None:
        try:
            bpf.map_update(self._readers, key, value)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            self._sweep()
            try:
                bpf.map_update(self._readers, key, value)
            except OSError:
                raise UnsupportedError(
                    f"{len(bpf.map_keys(self._readers, 8))} other readers are at work, or were killed at it",
                    "try again; from the initial pid namespace, what killed ones left is swept away",
                ) from None

    def _sweep(self) -> None:
        """Removes what killed readers left behind. In a nested namespace it cannot be told from what others use."""
        if self._own != _INIT_PID_NS:
            return
        for stale in bpf.map_keys(self._readers, 8):
            if not os.path.exists(f"/proc/{int.from_bytes(stale, 'little') & 0xFFFFFFFF}"):
                bpf.map_delete(self._readers, stale)

    def identity(self) -> tuple[int, int]:
        """The calling thread's bpf_get_current_pid_tgid(), by which programs know it, and the level of its pid namespace."""
        if self._own == _INIT_PID_NS:
            return os.getpid() << 32 | threading.get_native_id(), 0
        answer = _drain(self._states, lambda descriptor: os.read(descriptor, READ))
        _, level, tid = record.READER_IDENTITY.unpack(answer)
        return tid, level


def _without_fsgsbase() -> int:
    """READER_NO_FSGSBASE where the CPU lacks RDFSBASE, or the kernel does not use it."""
    return 0 if bpf.auxiliary(_AT_HWCAP2) & _HWCAP2_FSGSBASE else record.READER_NO_FSGSBASE


def _drain(link: int, read: Callable[[int], T]) -> T:
    descriptor = bpf.iter_create(link)
    try:
        return read(descriptor)
    finally:
        os.close(descriptor)
