"""The two sides of a check: what a kernel pass says of a field, and what has to be known to compare it."""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from cptbpf.conductors.target import Target, below
from cptbpf.fields import ARRAYS, BY_NAME, FIELDS, REGISTERS, Field
from cptbpf.image.flags import encode_task_flags, timespec_export
from cptbpf.kernel import record
from cptbpf.kernel.record import TaskState
from cptbpf.kernel.tasks import FullPass, FullTask, RawTask, TaskReader
from cptbpf.proc import namespaces, stat, witness
from cptbpf.proc.listed import TICK_NS
from cptbpf.rules import Context, IdMap

#: tid in cptbpf's own pid namespace and start_boottime: no two tasks have both.
Identity = tuple[int, int]


class Check(NamedTuple):
    """One comparison that the catalogue asks for: a field, and the spec of a witness of /proc."""

    field: Field
    spec: str


#: Every comparison with /proc, in the order of the catalogue.
CHECKS: tuple[Check, ...] = tuple(
    Check(field, spec) for field in (*FIELDS, *ARRAYS) for spec in field.witnesses if witness.file_of(spec)
)

#: Names of all fields that results are about, in the order of the catalogue.
ORDER = tuple(field.name for field in (*FIELDS, *ARRAYS, *REGISTERS))


def files_of(checks: Iterable[Check]) -> tuple[str, ...]:
    """The files that are to be read for some checks, each once."""
    return tuple(dict.fromkeys(witness.file_of(check.spec) for check in checks))


#: Not in the frozen window: the file system that the executable is on may be served by a task that stands still.
FILES = tuple(name for name in files_of(CHECKS) if name != "exe")


@cache
def _getter(name: str) -> Callable[[FullTask], Any]:
    if name == "flags":
        return lambda task: encode_task_flags(task.state.pf_flags)
    if name == "pids":
        return lambda task: tuple(number for number, _ in task.levels)
    if name == "groups":
        return lambda task: None if task.extra.has & record.EXTRA_GROUPS_CUT else task.groups
    source = BY_NAME[name].record
    if source in TaskState._fields:
        at = TaskState._fields.index(source)
        return lambda task: task.state[at]
    at = record.TaskExtra._fields.index(source)
    return lambda task: task.extra[at]


def kernel_value(field: Field, task: FullTask) -> Any:
    """What a pass says of a field; None where the kernel had no value."""
    if field.needs == "SIGHAND":  # the one that only a full pass looks at
        if task.extra.has & record.EXTRA_NO_SIGHAND:
            return None
    elif field.needs and not task.state.valid & getattr(record, f"TASK_HAS_{field.needs}"):
        return None
    return _getter(field.name)(task)


def in_record(field: Field) -> bool:
    """Whether a struct task_record alone has the field: what is hooked shows no more of a task."""
    return field.record in TaskState._fields


def exported(field: Field, value: Any) -> Any:
    """The kernel's value as JSON has it."""
    if isinstance(value, bytes):
        return value.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if isinstance(value, tuple):
        return [exported(field, item) for item in value]
    if field.name == "real_start_time":
        value = timespec_export(value)
    return f"{value:#x}" if field.hex else value


def exported_witness(field: Field, value: Any) -> Any:
    """The same of what a witness showed, in the witness's own unit."""
    if isinstance(value, str) or (isinstance(value, int) and field.rule in ("boottime", "ticks", "cputime", "shown")):
        return value
    return exported(field, value)


class Tasks(Mapping[Identity, FullTask]):
    """The tasks of a pass, each decoded when it is asked for: a bracket is about some of them."""

    def __init__(self, raw: Mapping[Identity, RawTask]) -> None:
        self._raw = raw
        self._decoded: dict[Identity, FullTask] = {}

    def __getitem__(self, identity: Identity) -> FullTask:
        task = self._decoded.get(identity)
        if task is None:
            task = self._decoded[identity] = self._raw[identity].decoded()
        return task

    def __contains__(self, identity: object) -> bool:
        return identity in self._raw

    def __iter__(self) -> Iterator[Identity]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


class Pass(NamedTuple):
    """One kernel pass: the tasks of the target, and who else is in its namespace. ``parents_outside`` are parents that the pass
    did not show, by their ids in cptbpf's own namespace."""

    tasks: Mapping[Identity, FullTask]
    groups: Mapping[int, int]
    pids: Mapping[int, int]
    parents_outside: Collection[int]


def decode(full: FullPass, target: Target, present: Collection[int] | None = None) -> Pass:
    """A full pass; ``present`` are the tasks that belong to the target where that is known already."""
    everyone = list(full.raw())
    groups = {task.host_pid: task.host_tgid for task in everyone}
    pids = {task.host_pid: task.pid for task in everyone}
    if present is None and target.root:
        present = below(target.root, ((task.host_pid, task.host_tgid, task.host_rppid) for task in everyone))
    inside = everyone if present is None else [task for task in everyone if task.host_pid in present]
    outside = {task.host_rppid for task in inside} - groups.keys() - {0}
    return Pass(Tasks({(task.host_pid, task.start_boottime): task for task in inside}), groups, pids, outside)


def steady(before: FullTask, after: FullTask) -> bool:
    """The task was not on a cpu between two passes, from the first one on."""
    old, new = before.state, after.state
    return not old.on_cpu | new.on_cpu and (old.sum_exec_runtime, old.run_count, old.nvcsw, old.nivcsw, old.exec_id) == (
        new.sum_exec_runtime,
        new.run_count,
        new.nvcsw,
        new.nivcsw,
        new.exec_id,
    )


class Outside(NamedTuple):
    """Tasks that no pass over the target's namespace showed, by host pid: their thread groups, and their ids in the asked
    namespace, of those that are in it nevertheless."""

    groups: Mapping[int, int]
    pids: Mapping[int, int]


NOBODY = Outside({}, {})


def _id_map(kind: str) -> IdMap:
    return IdMap(namespaces.id_map(kind), namespaces.overflow_id(kind))


def _boottime_offset(reader: TaskReader) -> int:
    """What /proc adds to the start of a task, in ns: the boottime offset of cptbpf's time namespace.

    Nothing before 5.11, 3ae700ecfae9 ("fs/proc: apply the time namespace offset to /proc/stat btime"): what is shown of cptbpf
    itself tells.
    """
    offset = namespaces.clock_offsets().boottime
    if not offset:
        return 0
    reader.ask_own()
    mine = os.getpid()
    started = next((start for pid, start in reader.states().columns("host_pid", "start_boottime") if pid == mine), None)
    shown = stat.read(mine, mine).starttime
    return 0 if started is not None and started // TICK_NS == shown else offset


class Frame:
    """What a context is made of that stays as it is while a check runs. It may ask ``reader`` about another namespace."""

    def __init__(self, reader: TaskReader) -> None:
        self.own_level = reader.own_level
        self.user_hz = os.sysconf("SC_CLK_TCK")
        self.boottime_offset = _boottime_offset(reader)
        self.uid_map = _id_map("uid")
        self.gid_map = _id_map("gid")

    def context(self, passes: Iterable[Pass], outside: Outside) -> Context:
        """The context of a bracket of passes."""
        groups, pids = dict(outside.groups), dict(outside.pids)
        for one in passes:
            groups |= one.groups
            pids |= one.pids
        return Context(self.user_hz, self.boottime_offset, self.uid_map, self.gid_map, groups, pids, self.own_level)
