"""The frozen window: who is stopped, when everyone is, and what is read while they are.

Nothing is formatted, hashed, compressed or written here. What is read stays raw until everybody runs again.
"""

import errno
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from cptbpf.conductors.beside import Beside
from cptbpf.conductors.target import Target, members, own_tasks
from cptbpf.kernel.record import TASK_QUEUED
from cptbpf.kernel.tasks import FullPass, TaskReader, TaskTable
from cptbpf.proc.system import Clocks, clocks
from cptbpf.sched import EXITED, PF_EXITING, PF_KTHREAD, TASK_TRACED, TASK_WAKEKILL
from cptbpf.trace import xstate
from cptbpf.trace.freezer import Freezer

#: Looks at what stands still: who is there, and who of them was seized, by host pid. It may use ptrace(2).
Look = Callable[[Collection[int], Collection[int]], None]

_STOPPED = {TASK_TRACED, TASK_TRACED | TASK_WAKEKILL}  # the latter on some kernels: bpf/compat.h
_PAUSE_MIN, _PAUSE_MAX = 50e-6, 2e-3  # seconds between two looks
_DOUBTS = 4  # looks on end in which a task has to be refused, for that to be its nature
_MANY = 256  # tasks for which it pays to start a thread
_ROUNDS = 16  # of seizing what was born meanwhile, before the interrupt


class Window(NamedTuple):
    """What came out of the window, still raw.

    ``frozen`` are the tasks that stood still, ``why_not`` those that did not though they should have, with errno or 0 for
    "did not stop in time", ``own`` cptbpf and its ancestors, ``tracer`` the thread that was the parent of who was seized.
    All by the id in cptbpf's own pid namespace. ``clocks`` are those of pass B.
    """

    b: FullPass
    c: TaskTable
    frozen: frozenset[int]
    why_not: Mapping[int, int]
    own: frozenset[int]
    tracer: int
    clocks: Clocks


def frozen_window(
    reader: TaskReader, freezer: Freezer, target: Target, registers: str, timeout: float, look: Look | None = None
) -> Window:
    """Seizes, stops and reads every task of the target, and lets them go. To be run by ``freezer.run``.

    ``registers`` is ``ptrace`` or ``bpf``; ``timeout`` bounds the wait for the stops, in seconds from the first INTERRUPT.
    ``look`` is called between the two passes of the window, and again with them where they show that somebody moved.
    """
    watch = _Watch(reader, freezer, target)
    watch.seize_all()
    reader.prepare(watch.count + watch.count // 8 + 8, xstate.layout().head)
    many = len(watch.seized) >= _MANY and registers == "ptrace" and look is None
    with _pass_b_beside(reader) if many else nullcontext() as pass_b:
        clocks()  # asks /proc for the time namespace, the first time
        deadline = time.monotonic() + timeout
        freezer.interrupt(watch.seized)
        seen = _at_once(reader, freezer, watch, pass_b) if pass_b else None
        if seen is None:
            seen = _in_turn(reader, freezer, watch, registers, deadline, look)
    missed = dict.fromkeys(seen.waiting, 0) | {tid: error for tid, error in watch.refused.items() if tid in watch.present}
    frozen = frozenset(watch.seized - missed.keys() - watch.dying)
    codes = {tid: code for tid, code in seen.c.columns("host_pid", "exit_code") if tid in frozen}
    # Where somebody still runs, an execve may give the id of one who had stopped to another.
    freezer.release(None if seen.late else codes)
    return Window(seen.b, seen.c, frozen, missed, frozenset(watch.own), threading.get_native_id(), seen.clocks)


class _Seen(NamedTuple):
    """Passes B and C, the clocks of B, and who had not stopped when time was up, if it was."""

    b: FullPass
    c: TaskTable
    clocks: Clocks
    waiting: set[int]
    late: bool


def _pass_b_beside(reader: TaskReader) -> AbstractContextManager[Beside[FullPass] | None]:
    try:
        return Beside(lambda: reader.ready(registers=True))
    except RuntimeError:  # no thread is to be had: then one after the other
        return nullcontext()


def _at_once(reader: TaskReader, freezer: Freezer, watch: "_Watch", pass_b: Beside[FullPass]) -> _Seen | None:
    """Pass B while ptrace reads the registers, of so many tasks that the first have long stopped when the last are told to.
    None where one of the two came to somebody too early."""
    instant = clocks()
    pass_b.start()
    stopped = not freezer.read()
    b = pass_b.result()
    c = reader.states()
    found = watch.look(c)
    if stopped and found.at_rest and b.running == found.running and not watch.lost(b, found):
        return _Seen(b, c, instant, set(), False)
    return None


def _in_turn(
    reader: TaskReader, freezer: Freezer, watch: "_Watch", registers: str, deadline: float, look: Look | None
) -> _Seen:
    """The registers of everybody, pass B, and pass C, again until none of them finds somebody running."""
    pause = _PAUSE_MIN
    while True:
        # Whose registers ptrace could read has stopped. Whether they are all that there are, pass C will tell.
        stopped = registers == "ptrace" and not freezer.read() and not watch.doubtful
        waiting: set[int] = set()
        if not stopped:
            found = watch.look(reader.states())
            waiting, stopped = found.waiting, found.at_rest
        late = time.monotonic() > deadline
        if late or stopped:
            # Those that were seen to stop only by the last look. Who died meanwhile may have others read once more.
            unread = set(freezer.read()) if registers == "ptrace" else set()
            instant = clocks()
            b = reader.full(registers=True)
            if look is not None:
                look(watch.present, watch.seized)
            c = reader.states()
            found = watch.look(c)
            if unread:
                unread &= {pid for pid, state in c.columns("host_pid", "state") if state & TASK_TRACED}
            waiting |= found.waiting | unread
            if late or (found.at_rest and not unread and not watch.lost(b, found)):
                return _Seen(b, c, instant, waiting, late)
        if registers != "ptrace":
            freezer.reap(waiting | watch.dying)
            freezer.interrupt(waiting)  # one may be a thread that took over the id of a leader that had been interrupted
        time.sleep(pause)
        pause = min(2 * pause, _PAUSE_MAX)


class _Found(NamedTuple):
    """What a look found.

    ``waiting`` are tasks that have yet to stop. ``at_rest``: there are none, nobody is new, and nobody was missed. ``running``
    counts the tasks, whoever's, that did not stand still, as FullPass does. ``died``: not as many of them
    have ended as in the look before.
    """

    waiting: set[int]
    at_rest: bool
    running: int
    died: bool


class _Watch:
    """Who is there, and who of them has stopped."""

    def __init__(self, reader: TaskReader, freezer: Freezer, target: Target) -> None:
        self._reader = reader
        self._freezer = freezer
        self._target = target
        self._start: dict[int, int] = {}  # of seized tasks alone: start_boottime, which with the tid is their identity
        self.count = 0  # of tasks in the last pass
        self.refused: dict[int, int] = {}
        self._refusals: dict[int, int] = {}  # in how many looks on end
        self.doubtful: set[int] = set()  # refused, perhaps only because the id was passing from one task to another
        self._living: set[int] = set()
        self._dead = 0
        self.own: set[int] = set()
        self.present: set[int] = set()
        self.seized: set[int] = set()
        self.dying: set[int] = set()

    def seize_all(self) -> None:
        """Seizes until a pass shows nobody new. Stops nobody; a tid that was given away meanwhile is let be."""
        for _ in range(_ROUNDS):
            table = self._reader.states()
            belonging = self._belonging(table)
            self._living = _living(table, belonging)
            self._dead = sum(bool(state & EXITED) for state in table.column("state"))
            if not self._seize_new(table, belonging):
                return

    def look(self, table: TaskTable) -> _Found:
        """What a pass shows. Seizes and interrupts who is new."""
        if self._all_stand_still(table):
            self.dying.clear()
            self.present = set(self.seized)
            missed, self._living = self._living - self.seized, set(self.seized)
            before, self._dead = self._dead, 0
            return _Found(set(), not missed, 0, before != 0)
        belonging = self._belonging(table)
        new = self._seize_new(table, belonging)
        if new:
            self._freezer.interrupt(new)
        moving = [
            (pid, state, flags)
            for pid, state, on_cpu, flags, valid in table.columns("host_pid", "state", "on_cpu", "pf_flags", "valid")
            if not state & TASK_TRACED or on_cpu or valid & TASK_QUEUED
        ]
        # one that is on its way out never comes back to user mode: there is nothing to wait for, and it does not stand still
        self.dying = {pid for pid, state, flags in moving if pid in self.seized and _ending(state, flags)}
        waiting = {pid for pid, *_ in moving if pid in self.seized} - self.dying
        waiting -= _in_vfork(table, waiting)
        # A thread that takes over its dead leader's id while a pass is between the two is seen in neither place.
        living = _living(table, belonging)
        missed, self._living = self._living - living, living
        before, self._dead = self._dead, sum(bool(state & EXITED) for _, state, _ in moving)
        # Who is new has perhaps stopped already, but nobody has read its registers.
        at_rest = not (waiting or new or missed or self.doubtful)
        return _Found(waiting, at_rest, len(moving), self._dead != before)

    def lost(self, b: FullPass, found: _Found) -> bool:
        """Whether pass B met somebody of the target in the midst of its life who had ended by pass C, the last look: born while
        the others were being seized, too late for that. It is looked for only where the numbers say that there may be one."""
        if b.running <= found.running and not found.died:
            return False
        known = self.seized | self._living | self.own
        for task in b.raw():
            if task.host_pid not in known and (task.host_tgid in self.seized or task.host_rppid in self.seized):
                state = task.state()
                if not _ending(state.state, state.pf_flags):
                    return True
        return False

    def _all_stand_still(self, table: TaskTable) -> bool:
        """Whether the tasks of a pass are those that were seized, no more and no fewer, and all have stopped: what is to be
        found of ten thousand tasks at last, in a quarter of the time that the whole of a look takes."""
        return (
            not self.doubtful
            and set(table.column("state")) <= _STOPPED
            and not any(table.column("on_cpu"))
            and not any(valid & TASK_QUEUED for valid in set(table.column("valid")))
            and dict(table.columns("host_pid", "start_boottime")) == self._start
        )

    def _belonging(self, table: TaskTable) -> set[int]:
        pids = set(table.column("host_pid"))
        self.count = len(pids)
        inside = members(table, self._target)
        self.present = pids if inside is None else pids & inside
        self.own |= own_tasks(table)
        return self.present - self.own

    def _seize_new(self, table: TaskTable, belonging: set[int]) -> set[int]:
        """Seizes the tasks that are not yet, and forgets those that are gone or have become others."""
        start = dict(table.columns("host_pid", "start_boottime"))
        traced = {pid for pid, ptrace in table.columns("host_pid", "ptrace") if ptrace}
        # A thread that executes a program takes over its leader's id and start; untraced, it had not been seized before.
        gone = {tid for tid in self.seized if tid not in traced or start[tid] != self._start[tid]}
        if gone:
            self._freezer.forget(gone)
            self.seized -= gone
            for tid in gone:
                del self._start[tid]
        self.doubtful.clear()
        candidates = belonging - self.seized  # for the same reason who was refused is tried again
        if not candidates:
            return set()
        fit = [
            pid
            for pid, state, flags in table.columns("host_pid", "state", "pf_flags")
            if pid in candidates and not state & EXITED and not flags & PF_KTHREAD
        ]
        refused = self._freezer.seize(fit)
        for tid in fit:
            self.refused.pop(tid, None)
        self._doubt(refused.keys() - traced)
        self.refused |= {tid: error for tid, error in refused.items() if error != errno.ESRCH}  # gone: the next pass shows it
        new = set(fit) - refused.keys()
        self._start |= {tid: start[tid] for tid in new}
        self.seized |= new
        return new

    def _doubt(self, refused: set[int]) -> None:
        """Has those looked at again who were refused though nobody traces them. A thread that executes a program leaves its id
        (ESRCH) for its leader's, whose holder is a zombie until then (EPERM); left alone, it would start threads anew."""
        self._refusals = {tid: self._refusals.get(tid, 0) + 1 for tid in refused}
        self.doubtful = {tid for tid, looks in self._refusals.items() if looks < _DOUBTS}


def _living(table: TaskTable, belonging: set[int]) -> set[int]:
    """Of the tasks that belong to the target, those that are not ending."""
    columns = table.columns("host_pid", "state", "pf_flags")
    return {pid for pid, state, flags in columns if not _ending(state, flags) and pid in belonging}


def _ending(state: int, flags: int) -> bool:
    return bool(state & EXITED or flags & PF_EXITING)


def _in_vfork(table: TaskTable, waiting: set[int]) -> set[int]:
    """Of the tasks that have not stopped, those that wait in vfork for a child that has, or that waits so itself."""
    children = {
        pid: (parent, state)
        for pid, parent, vfork, state in table.columns("host_pid", "host_rppid", "vfork", "state")
        if vfork and parent in waiting
    }
    held = {parent for parent, state in children.values() if state & TASK_TRACED}
    reached = held
    while reached:
        reached = {children[pid][0] for pid in reached if pid in children} - held
        held |= reached
    return held
