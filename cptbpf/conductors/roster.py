"""Who lives, by what was reported: turns the kernel's reports into events that are told once and by the right id."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from cptbpf.conductors.events import CREDENTIALS, Cred, Event, Exec, Exit, Fork, Sample
from cptbpf.kernel.record import TASK_COLUMNS, TASK_RECORD, TaskState
from cptbpf.kernel.sample_record import SAMPLE_DISPLACED, SAMPLE_EXEC, SAMPLE_EXIT, SAMPLE_FORK, SAMPLE_NEW_CRED
from cptbpf.kernel.sampler import Report
from cptbpf.sched import EXITED

_PID, _STARTED, _EXEC_ID, _STATE = (TASK_COLUMNS[name][1] for name in ("pid", "start_boottime", "exec_id", "state"))
_CREDENTIALS = slice(TASK_COLUMNS[CREDENTIALS[0]][1], TASK_COLUMNS["cred_override"][1])  # they lie in one piece
_u32, _u64 = struct.Struct("=I").unpack_from, struct.Struct("=Q").unpack_from


def identity(report: Report) -> tuple[int, int]:
    """Who a report is about: pid and start_boottime."""
    return _u32(report.record, _PID)[0], _u64(report.record, _STARTED)[0]


class _Known(NamedTuple):
    """What was last reported of a task. As it came: decoded, a namespace of thousands would take five times the memory."""

    when: int
    record: bytes

    @property
    def started(self) -> int:
        value: int = _u64(self.record, _STARTED)[0]
        return value

    @property
    def exec_id(self) -> int:
        value: int = _u32(self.record, _EXEC_ID)[0]
        return value

    @property
    def state(self) -> TaskState:
        return TaskState._make(TASK_RECORD.unpack(self.record))


class Roster:
    """The tasks of a target by their id in its namespace. ``offset`` is what events' times are ahead of the kernel's, in ns."""

    def __init__(self, offset: int) -> None:
        self._offset = offset
        self._tasks: dict[int, _Known] = {}
        self._ended: dict[int, int] = {}  # start_boottime of those who ended, and may be seen as zombies yet
        # Exec by a thread that is not the leader: it takes the leader's id, and the leader dies with the thread's
        self._took: dict[int, TaskState] = {}  # by the leader's id: the thread, as it was before
        self._displaced: dict[int, Report] = {}  # ends of leaders whose exec has not been told yet

    def states(self) -> list[TaskState]:
        """The last known state of everyone."""
        return [known.state for known in self._tasks.values()]

    def living(self) -> bool:
        """Whether anyone is more than a zombie."""
        return any(not _u64(known.record, _STATE)[0] & EXITED for known in self._tasks.values())

    def only(self, reports: Iterable[Report]) -> None:
        """Forgets who is not in a pass over everyone and was last heard of before it: an end that was not reported."""
        everyone = list(reports)
        seen = dict(map(identity, everyone))
        began = everyone[0].head.time if everyone else 0
        self._tasks = {
            pid: known
            for pid, known in self._tasks.items()
            if seen.get(pid) == known.started or (began and known.when >= began)
        }
        self._ended = {pid: started for pid, started in self._ended.items() if seen.get(pid) == started}

    def take(self, report: Report, told: bool = True) -> list[Event]:
        """The events that a report makes; a state makes none where it is not to be ``told`` and the task is known."""
        kind = report.head.kind
        if kind == SAMPLE_EXIT:
            return self._exit(report)
        if kind == SAMPLE_EXEC:
            return self._exec(report)
        if kind == SAMPLE_FORK:
            task = report.task
            self._keep(task.pid, report)
            self._ended.pop(task.pid, None)
            return [Fork(report.head.time + self._offset, task)]
        return self._state(report, told)

    def _state(self, report: Report, told: bool) -> list[Event]:
        when, task = report.head.time, report.task
        if self._ended.get(task.pid) == task.start_boottime:
            return []  # a zombie, whose end was told
        before = self._tasks.get(task.pid)
        if before is not None and before.started != task.start_boottime:
            before = None
        if before is not None and before.when > when:
            return []
        self._keep(task.pid, report)
        # an exec replaces them before it is told; what it made of them is told with it
        executing = before is not None and before.exec_id != task.exec_id
        if _changed(report, before) and not executing:
            return [Cred(when + self._offset, task, before and before.state)]
        return [Sample(when + self._offset, task)] if told or before is None else []

    def _exec(self, report: Report) -> list[Event]:
        when, task, old_pid = report.head.time, report.task, report.head.old_pid
        events: list[Event] = [Exec(when + self._offset, task, old_pid)]
        before = self._tasks.get(old_pid or task.pid)
        if old_pid:
            thread = self._tasks.pop(old_pid).state if before is not None else task._replace(pid=old_pid)
            if (late := self._displaced.pop(task.pid, None)) is not None:
                events += self._end_of_displaced(late, thread)
            elif task.pid in self._tasks:
                self._took[task.pid] = thread
            self._ended.pop(task.pid, None)  # it has the leader's start as well
        if before is not None and before.record[_CREDENTIALS] != report.record[_CREDENTIALS]:
            events.append(Cred(when + self._offset, task, before.state))
        self._keep(task.pid, report)
        return events

    def _exit(self, report: Report) -> list[Event]:
        when, task, old_pid = report.head.time, report.task, report.head.old_pid
        if report.head.flags & SAMPLE_DISPLACED:
            thread = self._took.pop(task.pid, None)
            if thread is None:
                self._displaced[task.pid] = report
                return []
            return self._end_of_displaced(report, thread)
        events: list[Event] = []
        if (late := self._displaced.pop(task.pid, None)) is not None:  # an exec that failed after the ids were exchanged
            events += self._end_of_displaced(late, task._replace(pid=old_pid))
        before = self._tasks.get(old_pid or task.pid)
        if _changed(report, before):
            events.append(Cred(when + self._offset, task, before and before.state))
        for pid in (task.pid, old_pid):
            self._tasks.pop(pid, None)
        self._ended[task.pid] = task.start_boottime
        return [*events, Exit(when + self._offset, task, old_pid)]

    def _end_of_displaced(self, report: Report, thread: TaskState) -> list[Event]:
        """The end of an old leader, by the id that it died with."""
        task = report.task._replace(pid=thread.pid, host_pid=thread.host_pid)
        return [Exit(report.head.time + self._offset, task, report.task.pid)]

    def _keep(self, pid: int, report: Report) -> None:
        self._tasks[pid] = _Known(report.head.time, report.record)


def _changed(report: Report, before: _Known | None) -> bool:
    """Whether a task's credentials are others than before, as the kernel says or as the records show."""
    if report.head.flags & SAMPLE_NEW_CRED:
        return True
    return before is not None and before.record[_CREDENTIALS] != report.record[_CREDENTIALS]
