"""Merges what the passes and ptrace saw of a task into the task as an image holds it, and says where each value is from.

Ten thousand tasks come through here: what is the same for all of them is worked out once, from the catalogue.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, NamedTuple

from cptbpf.cpu import layout
from cptbpf.fields import FIELDS, GROUPS, NEEDS, group
from cptbpf.image.flags import encode_task_flags, timespec_export
from cptbpf.image.model import CertificateEntry, PidLevel, TaskImage, TaskRecord, X86_64Regs, X86Regs
from cptbpf.image.provenance import ABSENT, UNSCALED, compared, from_pass
from cptbpf.image.segments import encode_segment
from cptbpf.kernel import record
from cptbpf.kernel.record import TaskExtra, TaskState
from cptbpf.kernel.symbols import Symbols
from cptbpf.kernel.tasks import FullTask, RawTask, TaskTable
from cptbpf.kernel.xstate import standard
from cptbpf.sched import PF_FREEZER_SKIP, TASK_TRACED, TASK_WAKEKILL
from cptbpf.trace.registers import UserRegs
from cptbpf.xsave import EXTENDED, FXSAVE_SIZE, fxsave_of

#: Fields as they were before anybody was disturbed.
FROM_A = (
    *("state", "thrflags", "syscall_work", "jobctl", "ptrace", "on_cpu", "cpu", "nvcsw", "nivcsw", "exit_code"),
    *("ppid", "rppid", "host_ppid", "host_rppid"),
)

_COMPAT_CS = 0x23

# One row per task: the record, then what the catalogue wants of the extra.
_FROM_EXTRA = [field.name for field in FIELDS if field.name in TaskExtra._fields and field.group != "task"]
_ROW = [*TaskState._fields, *_FROM_EXTRA]
_AT = {name: index for index, name in enumerate(_ROW)}
_EXTRA_VALUES = itemgetter(*(TaskExtra._fields.index(name) for name in _FROM_EXTRA))
_A_AT = [_AT[name] for name in FROM_A]

# The patch's record: most fields as they are in the row, the rest worked on after that; tls, which no row has, is put in then.
_TASK_VALUES = itemgetter(*(_AT.get(field.record, 0) for field in group("task")))
_FLAGS, _TLS, _COMM, _START, _REAL_START = (
    TaskRecord._fields.index(name) for name in ("flags", "tls", "comm", "start_time", "real_start_time")
)


class Registers(NamedTuple):
    """One view of a task's user registers. ``why`` says what is missing where ``regs`` is None."""

    regs: UserRegs | None
    xsave: bytes | None
    fxsave: bytes | None
    why: str = ""


def _group_values(name: str) -> Callable[[Sequence[Any]], tuple[int, ...]]:
    return itemgetter(*(_AT[field.name] for field in FIELDS if field.group == name))


_GROUPS = {name: _group_values(name) for name in GROUPS if name != "task"}
_GROUP_OF = {field.name: field.group for field in FIELDS}


@cache
def lacking(valid: int) -> tuple[tuple[str, str], ...]:
    """What the catalogue's fields lack in a task with these TASK_HAS_* bits, as provenance."""
    return tuple(
        (f"{field.group}.{field.name}", ABSENT + NEEDS[field.needs])
        for field in FIELDS
        if field.needs and not valid & getattr(record, f"TASK_HAS_{field.needs}")
    )


_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss")


@cache
def _segments(*selectors: int) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The six selectors as the patch encodes them, and the names of those that it cannot."""
    encoded = [encode_segment(selector) for selector in selectors]
    invalid = tuple(name for name, (_, valid) in zip(_SEGMENTS, encoded, strict=True) if not valid)
    return tuple(value for value, _ in encoded), invalid


def kernel_registers(task: FullTask) -> Registers:
    """The user registers and FPU as the kernel's memory holds them."""
    extra = task.extra
    if not extra.has & record.EXTRA_HAS_REGS:
        why = "on a cpu" if extra.has & record.EXTRA_ON_CPU else "no user registers"
        return Registers(None, None, None, why)
    values = list(extra.pt_regs)
    values[17] &= 0xFFFF  # cs and ss share their word with what FRED pushes
    values[20] &= 0xFFFF
    regs = UserRegs._make((*values, extra.fsbase, extra.gsbase, extra.ds, extra.es, extra.fsindex, extra.gsindex))
    area = layout()
    if area is None:
        return Registers(regs, None, fxsave_of(task.xstate) if len(task.xstate) >= FXSAVE_SIZE else None)
    if len(task.xstate) < EXTENDED:
        return Registers(regs, None, None)
    xsave = standard(task.xstate, extra.pkru, area)
    return Registers(regs, xsave, fxsave_of(xsave))


def register_record(regs: UserRegs, extra: TaskExtra) -> tuple[X86_64Regs | X86Regs, tuple[str, ...]]:
    """The register record, of 32 or of 64 bits by what cs says, and the names of segments that could not be encoded."""
    debug = (*extra.dr, 0, 0, extra.dr6, extra.dr7)
    (cs, ds, es, fs, gs, ss), invalid = _segments(regs.cs, regs.ds, regs.es, regs.fs, regs.gs, regs.ss)
    if regs.cs == _COMPAT_CS:
        return _compat_record(regs, debug, cs=cs, ds=ds, es=es, fs=fs, gs=gs, ss=ss), invalid
    values = (debug, regs.fs_base, regs.gs_base, fs, gs, ds, es, *regs[:17], cs, regs.eflags, regs.rsp, ss)
    return X86_64Regs._make(values), invalid


def _compat_record(regs: UserRegs, debug: tuple[int, ...], **segments: int) -> X86Regs:
    """The 32-bit record: every register cut to its lower half, which is all that the task has."""
    low = UserRegs._make(value & 0xFFFFFFFF for value in regs)
    return X86Regs(
        debugreg=tuple(value & 0xFFFFFFFF for value in debug),
        bx=low.rbx,
        cx=low.rcx,
        dx=low.rdx,
        si=low.rsi,
        di=low.rdi,
        bp=low.rbp,
        ax=low.rax,
        orig_ax=low.orig_rax,
        ip=low.rip,
        flags=low.eflags,
        sp=low.rsp,
        **segments,
    )


class Merger:
    """Makes TaskImages.

    ``passes`` are the names of the passes that values are from: what was before, and the main one. ``tracer`` is the thread of
    cptbpf that was the parent of tasks in the main one, by its id in cptbpf's own pid namespace, or 0.
    """

    def __init__(self, passes: tuple[str, str], symbols: Symbols, tracer: int = 0) -> None:
        before, main = map(from_pass, passes)
        self._before, self._main = before, main
        self._symbol = cache(symbols.name)
        self._tracer = tracer
        first = dict.fromkeys(("task", *_GROUPS, "pids"), main)
        first["task.utimescaled"] = first["task.stimescaled"] = UNSCALED
        again = {f"{_GROUP_OF[name]}.{name}": before for name in FROM_A} if before != main else {}
        self._templates = (first, first | again)
        self._provenance: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def task(
        self,
        task: FullTask,
        earlier: FullTask | None,
        shown: Registers,
        source: str,
        witness: Registers | None,
        surroundings: Mapping[str, Any],
    ) -> TaskImage:
        """One task.

        ``task`` and ``earlier`` are of the main pass and of the one before; ``shown`` are the registers for the image and
        ``source`` who took them; ``witness`` the other view of them; ``surroundings`` what /proc told: values by group, or
        ``absent: reason`` strings.
        """
        row = [*task.state, *_EXTRA_VALUES(task.extra)]
        if earlier is not None:
            for index in _A_AT:
                row[index] = earlier.state[index]
        if task.state.state & TASK_TRACED and self._tracer:
            # A stop sets it before 6.1, f5d39b020809 ("freezer,sched: Rewrite core freezer logic"); then the bit is nobody's.
            skip = earlier.state.pf_flags & PF_FREEZER_SKIP if earlier else 0
            row[_AT["pf_flags"]] = task.state.pf_flags & ~PF_FREEZER_SKIP | skip
        notes: list[tuple[str, str]] = []
        if earlier is None and self._tracer and task.state.host_ppid == self._tracer:
            _untrace(row, notes)
        ext: dict[str, Any] = {name: values(row) for name, values in _GROUPS.items()}
        valid = task.state.valid
        if not task.extra.has & record.EXTRA_NO_SIGHAND:
            valid |= record.TASK_HAS_SIGHAND
        notes += lacking(valid)
        self._arrays(task, earlier, ext, notes)
        for name, value in surroundings.items():
            if isinstance(value, str):
                notes.append((name, value))
            else:
                ext[name] = value
                notes.append((name, "proc"))
        regs = self._registers(task.extra, shown, source, notes)
        if witness is not None:
            self._witness(task.extra, shown, witness, ext, notes)
        image = _task_record(row, task.extra.tls)
        return TaskImage(image, regs, shown.fxsave, shown.xsave, ext, self._said(earlier is not None, notes))

    def _said(self, seen_before: bool, notes: list[tuple[str, str]]) -> Mapping[str, str]:
        """The provenance: one and the same mapping for all tasks of which the same is to be said."""
        key = (("", "again" if seen_before else ""), *notes)
        said = self._provenance.get(key)
        if said is None:
            said = self._provenance[key] = self._templates[seen_before] | dict(notes)
        return said

    def _arrays(self, task: FullTask, earlier: FullTask | None, ext: dict[str, Any], notes: list[tuple[str, str]]) -> None:
        ext["pids"] = tuple([PidLevel(level, ns, number) for level, (number, ns) in enumerate(task.levels)])
        if task.extra.has & record.EXTRA_GROUPS_CUT:
            notes.append(("groups", f"{ABSENT}more than {record.MAX_GROUPS} groups"))
        else:
            ext["groups"] = task.groups
            notes.append(("groups", self._main))
        if earlier is not None and earlier.stack:
            ext["kstack"] = tuple([self._symbol(address) for address in earlier.stack])
            notes.append(("kstack", self._before))
        else:
            notes.append(("kstack", ABSENT + ("born after the pass" if earlier is None else "on a cpu, or dead")))

    def _registers(
        self, extra: TaskExtra, shown: Registers, source: str, notes: list[tuple[str, str]]
    ) -> X86_64Regs | X86Regs | None:
        if shown.regs is None:
            notes += [(name, ABSENT + shown.why) for name in ("regs", "fxsave", "xsave")]
            return None
        regs, invalid = register_record(shown.regs, extra)
        notes += [("regs", source), ("regs.debugreg", self._main)]
        notes += [(f"regs.{name}", "derived: not a selector of user space, encoded as 0") for name in invalid]
        if shown.fxsave is None:
            notes += [(name, f"{ABSENT}the FPU area could not be read") for name in ("fxsave", "xsave")]
        elif shown.xsave is None:
            notes += [("fxsave", source), ("xsave", f"{ABSENT}the CPU has no XSAVE")]
        else:
            notes += [("fxsave", f"derived: from the xsave of {source}"), ("xsave", source)]
        return regs

    def _witness(
        self, extra: TaskExtra, shown: Registers, witness: Registers, ext: dict[str, Any], notes: list[tuple[str, str]]
    ) -> None:
        """The kernel's view beside ptrace's: kept where it differs, and its agreement said where it does not."""
        if witness.regs is None:
            notes += [(name, ABSENT + witness.why) for name in ("kregs", "kxsave", "kfxsave")]
            return
        equal, differs = compared(self._main, True), compared(self._main, False)
        for name, ours, other in (("kxsave", witness.xsave, shown.xsave), ("kfxsave", witness.fxsave, shown.fxsave)):
            if ours is None:
                notes.append((name, f"{ABSENT}the kernel's memory had none"))
            elif ours == other:
                notes.append((name, equal))
            else:
                ext[name] = ours
                notes.append((name, differs))
        if witness.regs == shown.regs:
            notes.append(("kregs", equal))
        else:
            ext["kregs"], _ = register_record(witness.regs, extra)
            notes.append(("kregs", differs))


def _untrace(row: list[Any], notes: list[tuple[str, str]]) -> None:
    """Takes cptbpf's own tracer out of a row: of a task that no pass saw before it was seized."""
    for name, other in (("ppid", "rppid"), ("host_ppid", "host_rppid")):
        row[_AT[name]] = row[_AT[other]]
        notes.append((f"{_GROUP_OF[name]}.{name}", "derived: the real parent; the parent was the tracer of cptbpf"))
    row[_AT["ptrace"]] = 0
    notes.append(("host.ptrace", "derived: without the tracer of cptbpf"))


def _task_record(row: Sequence[Any], tls: tuple[int, ...]) -> TaskRecord:
    """The record of the patch."""
    values = list(_TASK_VALUES(row))
    values[_FLAGS] = encode_task_flags(values[_FLAGS])
    values[_TLS] = tls
    values[_COMM] = values[_COMM].partition(b"\0")[0].ljust(record.TASK_COMM_LEN, b"\0")  # behind the NUL, an older name's rest
    values[_START] = timespec_export(values[_START])
    values[_REAL_START] = timespec_export(values[_REAL_START])
    return TaskRecord._make(values)


#: What may move while a task stands still: signals are queued by others, prev_cputime is changed by any reader of /proc, and
#: thread flags are set by both; the image has them as they were before.
_FREE = {"sig_pending", "sig_shared_pending", "prev_utime", "prev_stime", "thrflags"}


#: Bits that a request of ptrace(2) changes while it is at work on a stopped task, as when registers are read beside pass B:
#: TASK_WAKEKILL is taken away, or, since 5.19, 2500ad1c7fa4 ("ptrace: Don't change __state"), JOBCTL_PTRACE_FROZEN set.
_OF_A_REQUEST = {"state": TASK_WAKEKILL, "jobctl": 1 << 24}


def certificate(main: Iterable[RawTask], after: TaskTable, frozen: frozenset[int]) -> list[CertificateEntry]:
    """What moved between passes B and C of tasks that stood still: nothing, where the image is consistent."""
    later = {pid: data for pid, data in after.records() if pid in frozen}
    moved = []
    for task in main:
        if task.host_pid not in frozen:
            continue
        data = later.pop(task.host_pid, None)
        if data is None:
            moved.append(CertificateEntry(task.state().pid, "present", "1", "0"))
        elif data != task.record():
            moved += _differences(task.state(), record.TaskState._make(record.TASK_RECORD.unpack(data)))
    return moved + [
        CertificateEntry(record.TaskState._make(record.TASK_RECORD.unpack(data)).pid, "present", "0", "1")
        for data in later.values()
    ]


def _differences(before: TaskState, after: TaskState) -> list[CertificateEntry]:
    values: Iterable[tuple[str, Any, Any]] = zip(TaskState._fields, before, after, strict=True)
    return [
        CertificateEntry(before.pid, name, str(old), str(new))
        for name, old, new in values
        if old != new and name not in _FREE and not (name in _OF_A_REQUEST and not (old ^ new) & ~_OF_A_REQUEST[name])
    ]
