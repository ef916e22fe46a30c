"""What /proc rendered lies between the kernel's values at entry to and return from the function that rendered it."""

import os
from collections.abc import Callable, Iterator

import pytest

from cptbpf.errors import UnsupportedError
from cptbpf.kernel.proc_witness import ProcWitness, Witnessed
from cptbpf.kernel.record import TaskState
from cptbpf.kernel.tasks import TaskReader
from cptbpf.proc import stat
from tests import procstatus as status
from tests.features import missing
from tests.harness import Target, until

TICK_NS = 10_000_000  # USER_HZ is 100 on x86
READINGS = 100

pytestmark = pytest.mark.bpf
hooks = pytest.mark.parametrize("hook", ["fentry", "kprobe"])


@pytest.fixture
def reader() -> Iterator[TaskReader]:
    with TaskReader() as opened:
        yield opened


def ask(reader: TaskReader, target: Target) -> None:
    reader.ask(target.ns_inode, reader.own_level + len(target.levels))


def read_stat(witness: ProcWitness, tgid: int, tid: int, name: str = "stat") -> Witnessed:
    descriptor = os.open(f"/proc/{tgid}/task/{tid}/{name}", os.O_RDONLY)
    try:
        return witness.read(descriptor)
    finally:
        os.close(descriptor)


def read_status(witness: ProcWitness, tgid: int, tid: int) -> Witnessed:
    return read_stat(witness, tgid, tid, "status")


def of_stat(text: bytes) -> dict[str, int]:
    """The columns of stat that are a member of the record as it is, by its name."""
    shown = stat.parse(text)
    return {
        "min_flt": shown.minflt,
        "maj_flt": shown.majflt,
        "exit_signal": shown.exit_signal & 0xFFFFFFFF,
        "cpu": shown.processor,
        "policy": shown.policy,
        "rt_priority": shown.rt_priority,
        "pf_flags": shown.flags,
        "nr_threads": shown.num_threads,
    }


def of_status(text: bytes) -> dict[str, int]:
    """The same of status."""
    shown = status.parse(text)
    ids = zip(("uid", "euid", "suid", "fsuid", "gid", "egid", "sgid", "fsgid"), (*shown.uid, *shown.gid), strict=True)
    return dict(ids) | {
        "nvcsw": shown.nvcsw,
        "nivcsw": shown.nivcsw,
        "sig_blocked": shown.sig_blocked,
        "sig_pending": shown.sig_pending,
        "cap_inheritable": shown.cap_inheritable,
        "cap_permitted": shown.cap_permitted,
        "cap_effective": shown.cap_effective,
        "cap_bset": shown.cap_bset,
        "nr_threads": shown.threads,
    }


def ran(witnessed: Witnessed) -> bool:
    """Whether the task may have run between the two records: then a bit may have been changed, and changed back."""
    before, after = witnessed.before, witnessed.after
    return bool(before.on_cpu | after.on_cpu) or (before.nvcsw, before.nivcsw) != (after.nvcsw, after.nivcsw)


def differences(witnessed: Witnessed, shown: dict[str, int]) -> list[tuple[str, int, int, int]]:
    """(field, before, shown, after) of what was not shown as both records have it, or not between them where they differ."""
    wrong = []
    for name, value in shown.items():
        before, after = getattr(witnessed.before, name), getattr(witnessed.after, name)
        moved = name in ("pf_flags", "cpu") and ran(witnessed)  # not numbers that rise
        if not (moved or value in (before, after) or before <= value <= after):
            wrong.append((name, before, value, after))
    return wrong


@pytest.mark.kprobe
@hooks
def test_moving_tasks(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """A burning, a page-faulting and a context-switching thread: exact where both records agree, else between them."""
    started = target("restless")
    ask(reader, started)
    first, burner, faulter, dozer = started.tids()
    exact = dict.fromkeys(("min_flt", "nvcsw"), 0)
    last: dict[int, TaskState] = {}
    with ProcWitness(reader, hook) as witness:
        assert witness.hook == hook
        for _ in range(READINGS):
            for tid in (first, burner, faulter, dozer):
                for read, shown_by in ((read_stat, of_stat), (read_status, of_status)):
                    witnessed = read(witness, started.host_pid, tid)
                    shown = shown_by(witnessed.text)
                    assert differences(witnessed, shown) == []
                    assert witnessed.bracket_ns > 0
                    before, after = witnessed.before, witnessed.after
                    assert before.host_pid == after.host_pid == tid
                    assert before.pid == after.pid
                    assert tid not in last or last[tid].utime <= before.utime
                    last[tid] = after
                    for name in exact.keys() & shown.keys():
                        exact[name] += getattr(before, name) == getattr(after, name)
        # and the values moved all the while, so that there was something to miss
        until(
            lambda: read_stat(witness, started.host_pid, faulter).after.min_flt > last[faulter].min_flt,
            "another page fault of the faulting thread",
        )
    assert all(exact.values())


@pytest.mark.kprobe
@hooks
def test_times_are_those_that_proc_computed(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """cputime_adjust leaves in prev_cputime what it answered: at the return that is what was rendered, exactly."""
    started = target("burner")
    ask(reader, started)
    tid = started.tids()[1]
    with ProcWitness(reader, hook) as witness:
        for _ in range(READINGS):
            witnessed = read_stat(witness, started.host_pid, tid)
            shown = stat.parse(witnessed.text)
            assert (shown.utime, shown.stime) == (
                witnessed.after.prev_utime // TICK_NS,
                witnessed.after.prev_stime // TICK_NS,
            )


@pytest.mark.kprobe
@hooks
def test_a_wrong_value_is_seen(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    """One more or less than the kernel had is not between the records."""
    started = target("credentials")
    ask(reader, started)
    with ProcWitness(reader, hook) as witness:
        witnessed = read_status(witness, started.host_pid, started.host_pid)
        shown = of_status(witnessed.text)
    assert differences(witnessed, shown) == []
    for name, value in shown.items():
        for wrong in (value - 1, value + 1):
            assert [found[0] for found in differences(witnessed, shown | {name: wrong})] == [name]
    assert (witnessed.before.uid, witnessed.after.fsgid) == (1001, 2002)


@pytest.mark.kprobe
@hooks
def test_ids_of_the_asked_namespace(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    started, other = target("sleeper", nested=2, init=True), target("sleeper")
    ask(reader, started)
    with ProcWitness(reader, hook) as witness:
        witnessed = read_stat(witness, started.host_pid, started.host_pid)
        outside = read_stat(witness, other.host_pid, other.host_pid)
    for state in witnessed.before, witnessed.after:
        assert (state.pid, state.host_pid, state.pid_ns) == (started.pid, started.host_pid, started.ns_inode)
    assert (outside.before.pid, outside.before.host_pid) == (0, other.host_pid)


@pytest.mark.kprobe
@hooks
def test_a_task_that_is_gone(target: Callable[..., Target], reader: TaskReader, hook: str) -> None:
    started = target("sleeper")
    ask(reader, started)
    with ProcWitness(reader, hook) as witness:
        assert read_stat(witness, started.host_pid, started.host_pid).text
        started.close()
        with pytest.raises((FileNotFoundError, ProcessLookupError)):
            until(lambda: not read_stat(witness, started.host_pid, started.host_pid), "the task to be gone")


def test_without_a_hook_the_reasons_are_told(reader: TaskReader) -> None:
    """Where a kernel takes neither, both refusals are named; where it takes one, that one is used without being asked for."""
    if missing("kprobe"):
        with pytest.raises(UnsupportedError, match=r"^fentry: .*; kprobe: "):
            ProcWitness(reader)
    else:
        with ProcWitness(reader) as witness:
            assert witness.hook == "fentry"
            assert witness.refused == ()
