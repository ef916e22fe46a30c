"""What the looks of a frozen window make of passes that no test can have at will: here they are made up."""

import errno
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from cptbpf.conductors import freeze
from cptbpf.conductors.target import Target
from cptbpf.kernel.record import TASK_QUEUED, TASK_RECORD, TaskState
from cptbpf.kernel.tasks import FullPass, RawTask, TaskReader, TaskTable
from cptbpf.trace.freezer import Freezer

TRACED, SLEEPS, ZOMBIE, EXITING = 0x8, 0x1, 0x20, 0x4


def row(pid: int, state: int = TRACED, tgid: int = 100, traced: int = 1, start: int = 7, **values: Any) -> bytes:
    """A record: a thread of process 100 unless it says otherwise."""
    known = dict.fromkeys(TaskState._fields, 0) | {"comm": b""}
    said = {"pid": pid, "host_pid": pid, "host_tgid": tgid, "state": state, "ptrace": traced, "start_boottime": start}
    return packed(TaskState(**(known | said | values)))


def packed(state: TaskState) -> bytes:
    return TASK_RECORD.size.to_bytes(4, "little") + TASK_RECORD.pack(*state)[4:]


class Passes:
    """A reader that has these passes to show."""

    def __init__(self, *passes: Iterable[bytes]) -> None:
        self._passes = iter(passes)

    def states(self) -> TaskTable:
        return TaskTable(b"".join(next(self._passes)))


class Tracer:
    """A freezer that seizes whom it may."""

    def __init__(self) -> None:
        self.refuses: dict[int, int] = {}
        self.interrupted: list[int] = []

    def seize(self, tids: Iterable[int]) -> dict[int, int]:
        return {tid: self.refuses[tid] for tid in tids if tid in self.refuses}

    def interrupt(self, tids: Iterable[int]) -> None:
        self.interrupted += tids

    def forget(self, tids: Iterable[int]) -> None:
        pass


@pytest.fixture
def tracer() -> Tracer:
    return Tracer()


def watched(tracer: Tracer, *running: bytes) -> freeze._Watch:
    """A watch that has seized these."""
    traced = [packed(TaskState._make(TASK_RECORD.unpack(record))._replace(ptrace=1)) for record in running]
    reader = cast(TaskReader, Passes(running, traced))
    watch = freeze._Watch(reader, cast(Freezer, tracer), Target(1, 0, 0, 0, ""))
    watch.seize_all()
    return watch


def look(watch: freeze._Watch, *rows: bytes) -> freeze._Found:
    return watch.look(TaskTable(b"".join(rows)))


class Full:
    """A full pass over these, of whom some did not stand still."""

    def __init__(self, running: int, *rows: bytes) -> None:
        self.running = running
        self._states = [TaskState._make(TASK_RECORD.unpack(one)) for one in rows]

    def raw(self) -> Iterator[RawTask]:
        for one in self._states:
            data = memoryview(packed(one))
            ids = one.pid, one.host_pid, one.host_tgid, one.host_rppid, one.start_boottime, one.exec_id
            yield RawTask(data, 0, len(data), *ids)


def test_everybody_stands_still(tracer: Tracer) -> None:
    watch = watched(tracer, row(100, SLEEPS, traced=0), row(101, SLEEPS, traced=0))
    assert look(watch, row(100), row(101, SLEEPS))[:3] == ({101}, False, 1)
    assert look(watch, row(100), row(101, on_cpu=1))[:3] == ({101}, False, 1)
    # preempted on its way into the stop: it has left its cpu, and is to be given one again
    assert look(watch, row(100), row(101, valid=TASK_QUEUED))[:3] == ({101}, False, 1)
    assert look(watch, row(100), row(101))[:3] == (set(), True, 0)
    assert look(watch, row(100, TRACED | 0x100), row(101))[:3] == (set(), True, 0)


def test_who_is_new_has_been_read_by_nobody(tracer: Tracer) -> None:
    """It was seized at its birth, and has stopped by itself: it stands still, and is not done with."""
    watch = watched(tracer, row(100, SLEEPS, traced=0))
    assert look(watch, row(100), row(101))[:3] == (set(), False, 0)
    assert tracer.interrupted == [101]
    assert look(watch, row(100), row(101))[:3] == (set(), True, 0)


def test_a_thread_on_its_way_to_its_leaders_id(tracer: Tracer) -> None:
    """In an execve: the pass shows it neither where it was nor where it is going to be."""
    watch = watched(tracer, row(100, SLEEPS, traced=0), row(101, SLEEPS, traced=0))
    assert not look(watch, row(100, ZOMBIE, pf_flags=EXITING)).at_rest
    assert look(watch, row(100, SLEEPS))[:3] == ({100}, False, 1)
    assert look(watch, row(100))[:3] == (set(), True, 0)


def test_nobody_is_waited_for_who_has_ended(tracer: Tracer) -> None:
    watch = watched(tracer, row(100, SLEEPS, traced=0), row(101, SLEEPS, traced=0))
    assert not look(watch, row(100)).at_rest, "one that lived is missing"
    assert look(watch, row(100)).at_rest


def test_who_is_refused_though_nobody_traces_it_is_tried_again(tracer: Tracer) -> None:
    """The zombie of a leader whose id is being taken over; only after some looks it is taken for what it seems."""
    watch = watched(tracer, row(100, SLEEPS, traced=0))
    tracer.refuses = {101: errno.EPERM}
    rows = row(100), row(101, SLEEPS, traced=0)
    found = [look(watch, *rows).at_rest for _ in range(freeze._DOUBTS)]
    assert found == [False] * (freeze._DOUBTS - 1) + [True]
    assert watch.refused == {101: errno.EPERM}


def test_another_task_with_the_same_id(tracer: Tracer) -> None:
    watch = watched(tracer, row(100, SLEEPS, traced=0), row(200, SLEEPS, tgid=200, traced=0))
    assert look(watch, row(100), row(200, SLEEPS, tgid=200, traced=0, start=8)).waiting == {200}
    assert tracer.interrupted == [200]


THREAD, CHILD = row(102, SLEEPS, traced=0), row(102, SLEEPS, tgid=102, traced=0, host_rppid=100)
DEAD = row(102, ZOMBIE, tgid=102, traced=0, host_rppid=100, pf_flags=EXITING)
STRANGER = row(102, SLEEPS, tgid=102, traced=0, host_rppid=99)


@pytest.mark.parametrize(
    ("there", "left", "lost"),
    [
        ((THREAD,), (), True),
        ((CHILD,), (DEAD,), True),
        ((CHILD,), (), True),
        ((DEAD,), (DEAD,), False),
        ((DEAD,), (), False),
        ((STRANGER,), (), False),
        ((), (), False),
    ],
    ids=["a thread", "a zombie by then", "a child", "a zombie before", "a zombie that was reaped", "somebody else's", "nobody"],
)
def test_who_lived_in_pass_b_and_not_in_pass_c(
    tracer: Tracer, there: tuple[bytes, ...], left: tuple[bytes, ...], lost: bool
) -> None:
    """It was born as the others were seized, and never stopped: no look has seen it."""
    watch = watched(tracer, row(100, SLEEPS, traced=0), row(101, SLEEPS, traced=0))
    b = cast(FullPass, Full(len(there), row(100), row(101), *there))
    found = look(watch, row(100), row(101), *left)
    assert found.at_rest
    assert watch.lost(b, found) == lost
