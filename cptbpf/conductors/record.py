"""What a sampler tells as a recording, and a recording as what a sampler told."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, lru_cache, partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, BinaryIO

from cptbpf.conductors.events import Cred, Drop, Event, Exec, Exit, Fork, Sample
from cptbpf.conductors.meta import meta_of
from cptbpf.fields import BY_NAME, FIELDS, GROUPS
from cptbpf.image import model
from cptbpf.image.flags import encode_task_flags, timespec_export, timespec_import
from cptbpf.image.provenance import ABSENT, SAMPLED, UNSCALED, absent_fields
from cptbpf.image.recording import Recording
from cptbpf.image.recording_writer import Clocks, RecordingWriter, Rotation
from cptbpf.image.rows import INDEX, NAMES, WIDTH, Row
from cptbpf.kernel import record
from cptbpf.kernel.record import TaskState
from cptbpf.proc import system

if TYPE_CHECKING:
    from cptbpf.conductors.sample import Sampler

_NOT_FOLLOWED = f"{ABSENT}a sampler does not follow it"

# A row's values in the order of a TaskState, those that are worked on below and those that it lacks apart.
_PLACES = {name: index for index, name in enumerate(TaskState._fields)}
_LACKING = tuple(name for name in NAMES if BY_NAME[name].record not in _PLACES)
_values = itemgetter(*(_PLACES.get(BY_NAME[name].record, 0) for name in NAMES))
_FLAGS, _COMM, _START, _REAL_START = (INDEX[name] for name in ("flags", "comm", "start_time", "real_start_time"))
_BLANK = [(INDEX[name], (0, 0, 0) if BY_NAME[name].ctype == "u64[3]" else 0) for name in _LACKING]

# And back. What a row has not, as vfork, is the 0 behind its end.
_back = {BY_NAME[name].record: index for name, index in INDEX.items()} | INDEX
_state_values = itemgetter(*(_back.get(name, WIDTH) for name in TaskState._fields))
_VALID, _STATE_START, _STATE_BOOT = (_PLACES[name] for name in ("valid", "start_time", "start_boottime"))
_task_state: Callable[[Iterable[Any]], TaskState] = partial(tuple.__new__, TaskState)
_BITS = {field.name: int(getattr(record, f"TASK_HAS_{field.needs}")) for field in FIELDS if field.needs}

_KINDS = {name: kind for kind, name in enumerate(model.EVENT_NAMES)}


def row_of(state: TaskState) -> Row:
    """A task's state as a row of the catalogue."""
    row = list(_values(state))
    for index, empty in _BLANK:
        row[index] = empty
    row[_FLAGS] = encode_task_flags(row[_FLAGS])
    row[_COMM] = row[_COMM].partition(b"\0")[0].ljust(record.TASK_COMM_LEN, b"\0")  # behind the NUL, an older name's rest
    row[_START] = timespec_export(row[_START])
    row[_REAL_START] = timespec_export(row[_REAL_START])
    return tuple(row)


def state_of(row: Row, said: Mapping[str, str]) -> TaskState:
    """The state that a row was made of, as far as it holds it."""
    values = list(_state_values((*row, 0)))
    values = [0 if value is None else value for value in values]
    values[_VALID] = _valid_without(absent_fields(said))
    values[_STATE_START] = timespec_import(values[_STATE_START])
    values[_STATE_BOOT] = timespec_import(values[_STATE_BOOT])
    return _task_state(values)


@cache
def sources(valid: int) -> Mapping[str, str]:
    """The provenance of states with these TASK_HAS_* bits: always the same mapping."""
    from cptbpf.conductors.merge import lacking

    said = dict.fromkeys(GROUPS, SAMPLED)
    said["task.utimescaled"] = said["task.stimescaled"] = UNSCALED
    said |= {key: why for key, why in lacking(valid) if key.partition(".")[2] not in _LACKING}
    said |= {f"{BY_NAME[name].group}.{name}": _NOT_FOLLOWED for name in _LACKING}
    return said | dict.fromkeys(("regs", "fxsave", "xsave", "kstack", "pids", "groups"), _NOT_FOLLOWED)


@lru_cache(1000)
def _valid_without(absent: frozenset[str]) -> int:
    """The TASK_HAS_* bits of a state that lacks these fields."""
    bits = 0
    for name, bit in _BITS.items():
        if name not in absent:
            bits |= bit
    return bits


class Recorder:
    """Writes a sampler's events to a recording; ``output`` is a path or a binary stream."""

    def __init__(
        self, sampler: "Sampler", output: str | BinaryIO, force: bool = False, rotation: Rotation | None = None
    ) -> None:
        self._sampler = sampler
        self._writer = RecordingWriter(output, _meta(sampler), force=force, rotation=rotation or Rotation())
        self._doubtful = False

    @property
    def files(self) -> list[str]:
        """The names of the files so far."""
        return self._writer.files

    def take(self, events: Iterable[Event]) -> None:
        """Write a batch of events."""
        writer, offset = self._writer, self._sampler.offset
        lost = False
        for event in events:
            time = event.time_ns - offset
            if isinstance(event, Drop):
                writer.drop(time, event.lost, event.cpu, model.DROP_REASONS.index(event.why))
                lost = self._doubtful = True
                continue
            old_pid = flags = 0
            if isinstance(event, Exec | Exit):
                old_pid = event.old_pid
                if isinstance(event, Exit) and old_pid:
                    flags = model.EVENT_DISPLACED
            writer.add(_KINDS[event.event], time, row_of(event.task), sources(event.task.valid), old_pid, flags)
        if self._doubtful and not lost:
            self._forget_the_gone()
        writer.flush(clocks())

    def sync(self) -> None:
        """Bring what was told so far to the disk."""
        self._writer.sync(clocks())

    def finish(self) -> int:
        """End the recording in order; returns the size of its last file in bytes."""
        return self._writer.finish(clocks())

    def close(self) -> None:
        """Leave the recording as it is."""
        self._writer.close()

    def _forget_the_gone(self) -> None:
        """After a loss: who the sampler no longer knows has ended, and its report was among what was lost."""
        now = clocks().monotonic
        there = {state.pid for state in self._sampler.tasks()}
        gone = [pid for pid in self._writer.pids() if pid not in there]
        for pid in gone:
            self._writer.gone(now, pid)
        self._doubtful = bool(gone) or (self._doubtful and self._writer.alive != len(there))


def clocks() -> Clocks:
    """The clocks as a recording keeps them."""
    return Clocks(*system.clocks()[:3])


def _meta(sampler: "Sampler") -> model.Meta:
    return meta_of(sampler.target, system.clocks(), model.KIND_RECORDING, interval=str(round(sampler.interval * 1e9)))


def replayed(recording: Recording) -> Iterator[Event]:
    """A recording as the events that a sampler told, oldest first. Who is gone unseen is told by the drop before it alone."""
    ahead = recording.meta.realtime - recording.meta.monotonic
    last: dict[int, TaskState] = {}
    for event in recording.events():
        time = event.time + ahead
        if event.kind == model.EVENT_DROP:
            yield Drop(time, event.cpu, event.lost, model.drop_reason(event.flags))
            continue
        assert event.row is not None
        task = state_of(event.row, event.said)
        if event.kind == model.EVENT_CRED:
            yield Cred(time, task, last.get(task.pid))
        elif event.kind == model.EVENT_SAMPLE:
            yield Sample(time, task)
        elif event.kind == model.EVENT_FORK:
            yield Fork(time, task)
        elif event.kind == model.EVENT_EXEC:
            yield Exec(time, task, event.old_pid)
        elif event.kind == model.EVENT_EXIT:
            yield Exit(time, task, event.old_pid)
        if event.kind in (model.EVENT_EXIT, model.EVENT_GONE):
            last.pop(task.pid, None)
        else:
            last[task.pid] = task
