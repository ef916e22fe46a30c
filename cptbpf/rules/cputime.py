"""cputime_adjust() of kernel/sched/cputime.c: what /proc makes of the times that the kernel has counted."""

from typing import NamedTuple

from cptbpf.kernel.record import TaskState


class Times(NamedTuple):
    """What cputime_adjust() goes by, in ns: ticks that were counted, exact run time, what was shown last."""

    utime: int
    stime: int
    rtime: int
    prev_utime: int
    prev_stime: int


def times(state: TaskState) -> Times:
    """Those of a record: of /proc/PID/task/TID/stat, which is about the thread alone."""
    return Times(state.utime, state.stime, state.sum_exec_runtime, state.prev_utime, state.prev_stime)


def adjusted(now: Times) -> tuple[int, int]:
    """cputime_adjust(): the user and system time in ns that /proc shows, and remembers in prev_cputime.

    ``mul_u64_u64_div_u64()`` is exact on x86. Since 3dc167ba5729 (5.9).
    """
    utime, stime, rtime, prev_utime, prev_stime = now
    if prev_stime + prev_utime >= rtime:
        return prev_utime, prev_stime
    stime = max(_scaled(stime, rtime, utime), prev_stime)
    utime = rtime - stime
    if utime < prev_utime:
        return prev_utime, rtime - prev_utime
    return utime, stime


def _scaled(stime: int, rtime: int, utime: int) -> int:
    return stime * rtime // (stime + utime) if stime else 0


def bounds(first: Times, last: Times) -> tuple[tuple[int, int], tuple[int, int]]:
    """Between which values user and system time, in ns, lie that /proc showed between two records of a task.

    All that goes in only rises, so the extremes are at its ends. Where both records are the same, so are the bounds, and they
    are those of :func:`adjusted`: the user time is then determined, and the system time is what is left of the sum.
    """
    low_share = _scaled(first.stime, first.rtime, last.utime)
    high_share = _scaled(last.stime, last.rtime, first.utime)
    before = first.prev_utime + first.prev_stime
    least, most = max(first.rtime, before), max(last.rtime, before)
    u_high = max(first.prev_utime, last.rtime - max(low_share, first.prev_stime))
    u_low = first.prev_utime
    if before < first.rtime:  # else nothing need have been added to what had been shown
        u_low = max(u_low, first.rtime - max(high_share, first.prev_stime))
    s_low = max(first.prev_stime, least - u_high)
    s_high = min(max(first.prev_stime, high_share), most - u_low)
    return (u_low, u_high), (s_low, max(s_low, s_high))


def rising(first: Times, last: Times) -> bool:
    """Nothing fell: both are of the same thread."""
    return all(before <= after for before, after in zip(first, last, strict=True))
