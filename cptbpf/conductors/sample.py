"""The conductor of ``sample``: every task of a target followed from birth to death, as a stream of events."""

import os
import time
from collections.abc import Iterator
from itertools import chain, islice
from types import TracebackType

from cptbpf.conductors.events import Drop, Event
from cptbpf.conductors.roster import Roster, identity
from cptbpf.conductors.target import Target, members, resolve
from cptbpf.errors import TargetError
from cptbpf.kernel.record import TaskState
from cptbpf.kernel.sample_record import SAMPLE_EXEC_LOST, SAMPLE_FORK
from cptbpf.kernel.sampler import RING_BYTES, CostWindow, Follower, Report
from cptbpf.kernel.tasks import TaskReader
from cptbpf.proc import system

_WAIT = (0.01, 0.1)  # seconds from one batch to the next: at least, at most
_PASS_SHARE = 200  # passes take at most this part of the time
_BATCH = 1000  # events, decoded and in memory at once
_RECONCILE = (1.0, 60.0)  # seconds from one reconciliation to the next; at most, where they do not help
_ROUNDS = 10  # of looking for tasks that a tree had before it was followed


class Sampler:
    """Follows a pid namespace (``pidns``, as ``--pidns`` takes it) or the process tree below ``pid``.

    ``interval``
        Seconds from one report of a task's state to the next while it runs. A task that sleeps reports nothing.
    ``ring``
        Bytes of the ring buffer, a power of two.

    Use it as a context manager, and iterate: the first events are a :class:`~cptbpf.conductors.events.Sample` of every task.
    It ends when the target has no task left, and at :meth:`stop`. Alternatively call :meth:`poll` in a loop of one's own until
    :attr:`ended`.

    Raises TargetError, PrivilegeError, UnsupportedError.
    """

    def __init__(
        self,
        *,
        pidns: str | int | None = None,
        pid: int | None = None,
        interval: float = 0.1,
        ring: int = RING_BYTES,
    ) -> None:
        self.interval, self.ended, self.dropped = interval, False, 0
        self._stopped, self._first = False, True
        self._backlog: Iterator[Event] = iter(())
        self._dropped: dict[int, int] = {}
        self._missed = 0
        self._moved, self._again, self._unknown = 0, False, 0
        self._next_pass = self._next_reconciliation = 0.0
        self._reconcile, self._patience = False, _RECONCILE[0]
        self._namespace = -1
        self.offset = system.ahead()  # from the kernel's clock to the events'
        self._roster = Roster(self.offset)
        self._reader = TaskReader()
        try:
            self.target: Target = resolve(self._reader, pidns, pid)
            table = self._reader.states()
            inside = members(table, self.target)
            if not len(table) or inside == set():
                raise TargetError(f"no task is left in pid:[{self.target.inode}]", "'cptbpf list' shows the pid namespaces")
            seeds = 0 if inside is None else 2 * len(table) + 65536
            level, own = self.target.level, self._reader.own_level
            self._follower = Follower(self.target.inode, level, own, round(interval * 1e9), ring, seeds)
        except BaseException:
            self._reader.close()
            raise

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Detaches everything."""
        self._follower.close()
        self._reader.close()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1

    def stop(self) -> None:
        """Ends the iteration after what was reported up to now. For a signal handler, or another thread."""
        self._stopped = True
        self._follower.interrupt()

    def batches(self, duration: float | None = None) -> Iterator[list[Event]]:
        """Every event until the end, or for ``duration`` seconds, some ten times a second what there is by then."""
        over = time.monotonic() + duration if duration is not None else float("inf")
        while not (self.ended or self._stopped) and (left := over - time.monotonic()) > 0:
            yield self.poll(left)
        self._follower.detach()
        self._backlog = chain(self._backlog, self._drained([]))
        while events := self._batch():
            yield events

    def __iter__(self) -> Iterator[Event]:
        return (event for batch in self.batches() for event in batch)

    def tasks(self) -> list[TaskState]:
        """The last reported state of every task that lives, without asking the kernel."""
        return self._roster.states()

    def sample(self) -> list[Event]:
        """A full sample: what was reported up to now, and then the state of every task at this instant."""
        return [*self._backlog, *self._drained(self._follower.everyone(), whole=True)]

    def measure(self) -> CostWindow:
        """Begins to measure what the programs cost per switch; ``finish()`` it after some 100 ms."""
        return self._follower.measure()

    @property
    def variant(self) -> str:
        """How the kernel took the programs in: ``storage``, ``hash`` or ``raw``."""
        return self._follower.variant

    def poll(self, timeout: float = _WAIT[1]) -> list[Event]:
        """The events of the next batch, which is there in at most ``timeout`` seconds; perhaps none, and a thousand at most.

        Raises PrivilegeError, UnsupportedError.
        """
        if events := self._batch():
            return events
        if not self._first:
            self._follower.wait(min(max(self.interval, _WAIT[0]), _WAIT[1], timeout))
        self._backlog = self._next()
        events = self._batch()
        if len(events) < _BATCH:
            self._look_for_the_end()
        return events

    def _batch(self) -> list[Event]:
        return list(islice(self._backlog, _BATCH))

    def _next(self) -> Iterator[Event]:
        """What is there now; at first, when those who are born are reported already, everyone who lives."""
        now = time.monotonic()
        if self._first:
            self._first = False
            reports = self._begin_tree() if self.target.root else self._follower.everyone()
            self._pin_namespace(reports)
            return self._drained(reports, whole=True)
        if self._reconcile and now >= self._next_reconciliation:
            self._reconcile, self._next_reconciliation = False, now + self._patience
            return self._drained(self._follower.everyone(), whole=True, told=False)
        return self._drained(self._overdue(now))

    def _begin_tree(self) -> list[Report]:
        """Seeds the tree until a pass finds nobody new: who was born meanwhile of a task that was not followed yet."""
        seeded: dict[int, int] = {}
        reports: list[Report] = []
        for _ in range(_ROUNDS):
            table = self._reader.states()
            inside = members(table, self.target) or set()
            born = dict(table.columns("host_pid", "start_boottime"))
            fresh = {pid: born[pid] for pid in inside if seeded.get(pid) != born[pid]}
            if not fresh:
                break
            self._follower.seed(fresh)
            seeded |= fresh
            reports = self._follower.everyone()
        return reports

    def _pin_namespace(self, reports: list[Report]) -> None:
        """Holds the namespace: the programs know it by its address, which must not become another one's."""
        for report in reports:
            try:
                descriptor = os.open(f"/proc/{report.task.host_pid}/ns/pid", os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            if os.fstat(descriptor).st_ino == self.target.inode:
                self._namespace = descriptor
                return
            os.close(descriptor)

    def _overdue(self, now: float) -> list[Report]:
        """States that are due and were not reported, because the task sleeps since."""
        if now < self._next_pass or self.interval <= 0:
            return []
        moved = sum(cpu.moved for cpu in self._follower.stats())
        changed, self._moved = moved != self._moved, moved
        reports: list[Report] = []
        if changed or self._again or not self._follower.ticks:
            reports = self._follower.overdue()
        self._again = changed
        self._next_pass = now + max(self.interval, (time.monotonic() - now) * _PASS_SHARE)
        return reports

    def _drained(self, passed: list[Report], whole: bool = False, told: bool = True) -> Iterator[Event]:
        """Everything in the ring, and the reports of a pass made just before, as events in the order of time.

        ``whole``: the pass showed every task, so that who is not in it is gone. ``told``: its reports are events.
        """
        marked = [(report, True) for report in self._follower.read()]
        if passed:
            # a pass may meet a task in the instant between its making and the report of its birth, which says the same
            born = {identity(report): report.head.time for report, _ in marked if report.head.kind == SAMPLE_FORK}
            marked += [(report, False) for report in passed if report.head.time >= born.get(identity(report), 0)]
            marked.sort(key=_time)
        for report, from_ring in marked:
            if from_ring:
                yield from self._gap(report.head.cpu, report.head.dropped, report.head.time)
            if report.head.flags & SAMPLE_EXEC_LOST:
                yield self._lost(report.head.time, report.head.cpu, 1, "busy")
            yield from self._roster.take(report, told or from_ring)
        if whole:
            self._roster.only(passed)
        yield from self._gaps()

    def _gap(self, cpu: int, dropped: int, when: int) -> list[Event]:
        lost = dropped - self._dropped.get(cpu, 0)
        if lost <= 0:
            return []
        self._dropped[cpu] = dropped
        return [self._lost(when, cpu, lost, "full")]

    def _lost(self, when: int, cpu: int, count: int, why: str) -> Drop:
        self.dropped += count
        self._reconcile |= why != "memory"
        return Drop(when + self.offset, cpu, count, why)

    def _gaps(self) -> list[Event]:
        """What was lost and no later report tells of."""
        stats, now = self._follower.stats(), system.clocks().monotonic
        events = [event for cpu, counts in enumerate(stats) for event in self._gap(cpu, counts.dropped, now)]
        unknown = sum(counts.unknown for counts in stats)
        if unknown != self._unknown and not self._reconcile:
            # someone whom no pass met, for want of memory or because a sandbox hides him: asking again may not help
            self._reconcile, self._unknown = True, unknown
            self._patience = min(2 * self._patience, _RECONCILE[1])
        missed = sum(counts.missed for counts in stats)
        if missed > self._missed:
            events.append(self._lost(now, -1, missed - self._missed, "memory"))
            self._missed = missed
        return events

    def _look_for_the_end(self) -> None:
        if not self._roster.living():
            self._roster.only(self._follower.everyone())
            self.ended = not self._roster.living()


def _time(marked: tuple[Report, bool]) -> int:
    return marked[0].head.time
