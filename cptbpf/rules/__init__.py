"""How the kernel's value of a field and what a witness shows of it are compared: one function per rule of the catalogue.

A rule gets the kernel's value before and after the witness looked. It says whether they agree, whether the difference is one
that has to be (and why), whether they disagree, or that the value moved meanwhile, so that nothing can be said before the next
look. No rule forgives more than the kernel's source gives reason for.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from cptbpf.fields import Field
from cptbpf.image.flags import encode_task_flags
from cptbpf.kernel.record import TASK_COMM_LEN, TASK_VTIME, TaskState
from cptbpf.rules.cputime import bounds, rising, times
from cptbpf.sched import PF_KTHREAD, PF_WQ_WORKER, TASK_FROZEN, state_letter

AGREE, EXPLAINED, DISAGREE, MOVED = "agree", "explained", "disagree", "moved"

NSEC_PER_SEC = 1_000_000_000

_ENOSYS = -38 & (1 << 64) - 1
_ERESTART = {-number & (1 << 64) - 1: -number for number in (512, 513, 514, 516)}
_SIGNAL_GROUP = 0x1 | 0x4  # SIGNAL_STOP_STOPPED | SIGNAL_GROUP_EXIT
#: File systems that give stat(2) another device than the inode is on, and those that give it other inode numbers as well.
_OWN_NUMBERS = {"exe_dev": {"overlay", "aufs", "btrfs", "bcachefs"}, "exe_ino": {"overlay", "aufs"}}


class IdMap(NamedTuple):
    """How a user namespace shows kernel ids: the ``lines`` (inside, outside, count) of its uid_map or gid_map, and ``overflow``
    for an id that has no place there (from_kuid_munged(), from_kgid_munged())."""

    lines: tuple[tuple[int, int, int], ...]
    overflow: int

    def shown(self, value: int) -> int:
        """A kernel id as it is shown."""
        for inside, outside, count in self.lines:
            if outside <= value < outside + count:
                return inside + value - outside
        return self.overflow


class Context(NamedTuple):
    """What is the same for all tasks of a check.

    ``user_hz`` are the ticks per second of /proc. ``boottime_offset`` is what cptbpf's time namespace adds, in ns. ``uid_map``
    and ``gid_map`` are those of cptbpf's user namespace. ``groups`` and ``pids`` give, for a thread id of cptbpf's own pid
    namespace, its thread group there and its id in the asked namespace (0: not in it). ``own_level`` is the level of that own
    namespace.
    """

    user_hz: int
    boottime_offset: int
    uid_map: IdMap
    gid_map: IdMap
    groups: Mapping[int, int]
    pids: Mapping[int, int]
    own_level: int = 0

    @property
    def tick(self) -> int:
        """Nanoseconds of one tick of /proc."""
        return NSEC_PER_SEC // self.user_hz


class Sight(NamedTuple):
    """One field of one task: the kernel's value before and after, what a witness showed in between, the records around them.

    ``steady``: the task did not run in between, so that both values are of the same instant. ``file_system`` is that of the
    executable where stat(2) alone tells of it, else ""; ``spec`` is that of the witness.
    """

    field: Field
    before: Any
    after: Any
    shown: Any
    old: TaskState
    new: TaskState
    context: Context
    steady: bool = False
    file_system: str = ""
    spec: str = ""


class Judgement(NamedTuple):
    """A verdict (one of the four above) and the rule that led to it, with the reason where there is a difference."""

    verdict: str
    rule: str


#: A value that a witness may show, and the reason for the difference ("" where there is none).
Expected = tuple[Any, str]


def judge(sight: Sight) -> Judgement:
    """The verdict on one sight, by the rule of its field."""
    return JUDGES[sight.field.rule](sight)


def _judged(sight: Sight, why: str) -> Judgement:
    name = sight.field.rule
    return Judgement(EXPLAINED, f"{name}: {why}") if why else Judgement(AGREE, name)


def _differs(sight: Sight, same: bool) -> Judgement:
    return Judgement(DISAGREE if same else MOVED, sight.field.rule)


def _by(expect: Callable[[Any, TaskState, Sight], Iterable[Expected]]) -> Callable[[Sight], Judgement]:
    """The rule of a value that stays as it is: the witness shows what is expected of it before, or after."""

    def rule(sight: Sight) -> Judgement:
        first = tuple(expect(sight.before, sight.old, sight))
        second = tuple(expect(sight.after, sight.new, sight))
        for value, why in first + second:
            if sight.shown == value:
                return _judged(sight, why)
        return _differs(sight, first == second)

    return rule


def _exact(sight: Sight) -> Judgement:
    before, after, shown = sight.before, sight.after, sight.shown
    if sight.field.ctype == "u32":
        shown &= 0xFFFFFFFF  # an exit_signal of -1
    if shown in (before, after):
        return _judged(sight, "")
    # The bits of a mask move one by one; those of capabilities all at once, with the credentials.
    if sight.field.hex and sight.field.group != "cred" and not shown & ~(before | after) and not before & after & ~shown:
        return _judged(sight, "")
    return _differs(sight, before == after)


def _bracket(sight: Sight) -> Judgement:
    if sight.before <= sight.shown <= sight.after:
        return _judged(sight, "")
    return _differs(sight, sight.before <= sight.after)


def _uncounted(sight: Sight) -> bool:
    """Whether /proc adds to the task's times what nobody has counted yet: the task is on a cpu without a tick (nohz_full=)."""
    return not sight.steady and bool((sight.old.valid | sight.new.valid) & TASK_VTIME)


def _ticks(sight: Sight) -> Judgement:
    tick = sight.context.tick
    if sight.before // tick <= sight.shown <= sight.after // tick:
        return _judged(sight, "tick rounding" if sight.after % tick else "")
    if _uncounted(sight):
        return Judgement(MOVED, sight.field.rule)
    return _differs(sight, sight.before <= sight.after)


def _shown_before(sight: Sight) -> Judgement:
    first, last = sight.before // sight.context.tick, sight.after // sight.context.tick
    if (last if sight.steady else first) <= sight.shown <= last:
        return _judged(sight, "tick rounding")
    return _differs(sight, first <= last)


def _boottime(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    shifted = value + sight.context.boottime_offset & (1 << 64) - 1  # u64: before the start of the namespace's clock too
    why = "tick rounding" if shifted % sight.context.tick else ""
    if sight.context.boottime_offset:
        why = "time-namespace offset" + (", tick rounding" if why else "")
    yield shifted // sight.context.tick, why


def _state(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    yield state_letter(value), ""
    if value & TASK_FROZEN:
        yield "R", "a frozen task, before 6.13"


def _flags(sight: Sight) -> Judgement:
    return _exact(sight._replace(shown=encode_task_flags(sight.shown)))


def _tgid(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    parent = state.host_rppid
    named = parent if sight.field.group == "host" else sight.context.pids.get(parent, 0)
    if value == named:
        yield sight.context.groups.get(parent, 0), ""


def _tracer(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    host = sight.field.group == "host"
    if not state.ptrace:
        if value == (state.host_rppid if host else state.rppid):
            yield 0, ""
    elif value == (state.host_ppid if host else sight.context.pids.get(state.host_ppid, 0)):
        yield state.host_ppid, ""


def _exit_code(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    """Before 5.17 (2d18f7f45620, "exit: Use the correct exit_code in /proc/<pid>/stat") the task's own is shown always."""
    yield value, ""
    if sight.spec.startswith("group") and state.signal_flags & _SIGNAL_GROUP:
        yield state.group_exit_code, "group_exit_code of a thread group that is stopped or ends"


def _group_exit(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    if state.signal_flags & _SIGNAL_GROUP:
        yield value, ""
        yield state.exit_code, "exit_code of the task, before 5.17"
    else:
        yield state.exit_code, "" if state.exit_code == value else "exit_code of a task whose group is neither stopped nor ends"


def _userns(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    ids = sight.context.gid_map if "gid" in sight.field.name else sight.context.uid_map
    seen = ids.shown(value)
    yield seen, "" if seen == value else "user-namespace mapping"


def _gids(value: tuple[int, ...], state: TaskState, sight: Sight) -> Iterable[Expected]:
    seen = tuple(map(sight.context.gid_map.shown, value))
    yield seen, "" if seen == value else "user-namespace mapping"


def _levels(value: tuple[int, ...], state: TaskState, sight: Sight) -> Iterable[Expected]:
    yield value[sight.context.own_level :], ""


def _comm(sight: Sight) -> Judgement:
    """comm is written and read without a lock: while it moves, any mixture may be seen."""
    before, after = (name.partition(b"\0")[0] for name in (sight.before, sight.after))
    if sight.shown in (before, after):
        return _judged(sight, "")
    # A worker tells its work queue behind + or -, another kernel thread the rest of a name that was cut (proc_task_name()).
    rest = sight.shown.removeprefix(after)
    worker = sight.new.pf_flags & PF_WQ_WORKER
    longer = len(after) == TASK_COMM_LEN - 1 or (worker and rest[:1] in (b"+", b"-"))
    if sight.new.pf_flags & (PF_KTHREAD | PF_WQ_WORKER) and rest != sight.shown and longer:
        return _judged(sight, "the full name of a kernel thread")
    return _differs(sight, before == after)


def user_desc(descriptor: int) -> tuple[int, int, int]:
    """Base, limit and flag bits as ``fill_user_desc()`` of arch/x86/kernel/tls.c has them, of a ``struct desc_struct``."""
    base = descriptor >> 16 & 0xFFFFFF | descriptor >> 32 & 0xFF000000
    limit = descriptor & 0xFFFF | descriptor >> 32 & 0xF0000
    kind, high = descriptor >> 40 & 0xF, descriptor >> 52
    flags = high >> 2 & 1 | (kind >> 2) << 1 | (not kind & 2) << 3 | (high >> 3 & 1) << 4
    flags |= (not descriptor >> 47 & 1) << 5 | (high & 1) << 6 | (high >> 1 & 1) << 7
    return base, limit, flags


def _tls(value: tuple[int, ...], state: TaskState, sight: Sight) -> Iterable[Expected]:
    empty = "an empty slot is shown with flags 0x28" if 0 in value else ""
    yield tuple(map(user_desc, value)), empty


def _prio(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    yield value - 100, ""


def _nice(value: int, state: TaskState, sight: Sight) -> Iterable[Expected]:
    yield value - 120, ""


def _count(sight: Sight) -> Judgement:
    return _exact(sight._replace(shown=len(sight.shown)))


def _weight(sight: Sight) -> Judgement:
    return _exact(sight._replace(shown=sight.shown.bit_count()))


def _file(sight: Sight) -> Judgement:
    if sight.shown in (sight.before, sight.after):
        return _judged(sight, "")
    if sight.file_system in _OWN_NUMBERS[sight.field.name]:
        return _judged(sight, f"{sight.file_system} numbers its files by itself")
    return _differs(sight, sight.before == sight.after)


def restarted(kernel: int, other: int) -> str:
    """Why rax of a task in a system call is another before its stop than in it, or ""."""
    if kernel != _ENOSYS or other not in _ERESTART:
        return ""
    return f"in a system call, to be restarted with -{_ERESTART[other]} since the task stopped"


def _syscall(sight: Sight) -> Judgement:
    why = "" if sight.steady else restarted(sight.before, sight.shown)
    return _judged(sight, why) if why else _exact(sight)


def _cputime(sight: Sight) -> Judgement:
    user = sight.field.name.endswith("utime")
    name = "utime" if user else "stime"
    first = times(sight.old)._replace(**{name: sight.before})
    last = times(sight.new)._replace(**{name: sight.after})
    if not rising(first, last):
        return Judgement(MOVED, sight.field.rule)
    if sight.steady:
        # What other readers of /proc were shown meanwhile comes out of the same numbers: prev_cputime no longer moves then.
        last = last._replace(prev_utime=first.prev_utime, prev_stime=first.prev_stime)
    low, high = bounds(first, last)[not user]
    if low // sight.context.tick <= sight.shown <= high // sight.context.tick:
        return _judged(sight, "scaled to sum_exec_runtime" + (", exactly" if low == high else ", within bounds"))
    return _differs(sight, not _uncounted(sight))


JUDGES: dict[str, Callable[[Sight], Judgement]] = {
    "exact": _exact,
    "bracket": _bracket,
    "state": _by(_state),
    "flags": _flags,
    "tgid": _by(_tgid),
    "tracer": _by(_tracer),
    "exit_code": _by(_exit_code),
    "group_exit": _by(_group_exit),
    "userns": _by(_userns),
    "gids": _by(_gids),
    "levels": _by(_levels),
    "comm": _comm,
    "tls": _by(_tls),
    "cputime": _cputime,
    "shown": _shown_before,
    "ticks": _ticks,
    "boottime": _by(_boottime),
    "prio": _by(_prio),
    "nice": _by(_nice),
    "count": _count,
    "weight": _weight,
    "file": _file,
    "syscall": _syscall,
    "software": _exact,
    "xstate": _exact,
}
