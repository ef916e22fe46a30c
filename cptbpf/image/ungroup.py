"""Groups of a recording, decoded: the counterpart of :mod:`groups`. Whoever calls has verified the group's checksum."""

from collections.abc import Callable, Mapping
from functools import partial
from struct import Struct
from typing import Any, NamedTuple

from cptbpf.image import deltas, layout
from cptbpf.image.blocks import SIZE as BLOCK_SIZE
from cptbpf.image.blocks import row_at
from cptbpf.image.decode import META_KEY, TASK_KEY, TRAILER_KEY, TaskDecoder
from cptbpf.image.deltas import BASED, CODES, PROVENANCE, SET24, SHAPE, SHAPE_FIELD, Shape
from cptbpf.image.groups import GROUP_KEY, GROUP_PLAIN
from cptbpf.image.model import EVENT_DROP, EVENT_EXIT, EVENT_GONE, EVENT_SAMPLE, RecordedEvent
from cptbpf.image.rows import MASKS, PLACES, WIDTH, from_image
from cptbpf.image.walk import Found, check_zero, damaged, find_objects

#: PID_MAX_LIMIT of the kernel: no namespace has more tasks.
MAX_SLOTS = 1 << 22

_VOID, _ARRAY = layout.CPT_CONTENT_VOID << 16, layout.CPT_CONTENT_ARRAY << 16
SAMPLE_KEY = _VOID | layout.CPT_OBJ_SAMPLE
CHECK_KEY = _VOID | layout.CPT_OBJ_CHECK
_DELTA_KEY = _ARRAY | layout.CPT_OBJ_DELTA
_EVENT_KEY = _VOID | layout.CPT_OBJ_EVENT
_PROVENANCE_DATA = layout.CPT_CONTENT_DATA << 16 | layout.CPT_OBJ_PROVENANCE
_OWN = {SAMPLE_KEY, CHECK_KEY, _DELTA_KEY, _EVENT_KEY, TASK_KEY, META_KEY, TRAILER_KEY}
_UNKNOWN = WIDTH + 1  # index of a field that this version does not know


_sampled: Callable[[tuple[Any, ...]], RecordedEvent] = partial(tuple.__new__, RecordedEvent)  # no default is looked up


class Sample(NamedTuple):
    """The fixed part of a SAMPLE object; times are in ns."""

    size: int
    time: int
    until: int
    realtime: int
    kind: int
    tasks: int
    alive: int
    crc32: int


class _Known(NamedTuple):
    """A shape, ready to unpack: ``adds`` and ``sets`` are index and place among the values."""

    packer: Struct
    based: bool
    adds: tuple[tuple[int, int, int], ...]
    sets: tuple[tuple[int, int, int], ...]


class _Event(NamedTuple):
    kind: int
    flags: int
    time: int
    slot: int
    old_pid: int
    lost: int


class GroupDecoder:
    """The states of all tasks, group after group. It begins with a key frame, whose tasks it tells as samples."""

    def __init__(self) -> None:
        self.rows: list[list[Any] | None] = []
        self._said: list[Mapping[str, str]] = []
        self._alive = 0  # slots that are taken
        self._shapes: list[_Known] = []
        self._texts: list[Mapping[str, str]] = []
        self._events: list[RecordedEvent] = []
        self._limit: int | None = None
        self._waiting: _Event | None = None
        self._data = b""
        self._decoder = TaskDecoder(b"")
        self._fresh = True
        self.stopped = False

    def tasks(self) -> list[tuple[tuple[Any, ...], Mapping[str, str]]]:
        """The row and the provenance of every task, as they are after the last group."""
        return [(tuple(row), self._said[slot]) for slot, row in enumerate(self.rows) if row is not None]

    def decode(self, data: bytes, offset: int, sample: Sample, limit: int | None = None) -> list[RecordedEvent]:
        """The events of one group, SAMPLE up to its CHECK, that stands at ``offset`` of the file.

        Offsets of errors are those within the group. With ``limit``, a CLOCK_MONOTONIC in ns, the first event after it ends
        the decoding (``stopped``).
        """
        self._data, self._limit = data, limit
        self._events, self._waiting = [], None
        if sample.kind not in (GROUP_PLAIN, GROUP_KEY):
            damaged(f"a group of unknown kind {sample.kind}", 0)
        if sample.kind == GROUP_KEY:
            self.rows, self._said, self._shapes, self._texts = [], [], [], []
            self._alive = 0
            self._decoder = TaskDecoder(data, offset)
        elif sample.tasks:
            damaged("a group that restates tasks and is no key frame", 0)
        self._decoder.go_on(data, offset)
        restated = 0
        task: list[Found] = []
        objects = find_objects(data, layout.SAMPLE.unpack_from(data)[1])
        while found := next(objects, None):
            if task and found.key in _OWN:
                restated = self._task(task, restated, sample)
                task = []
            if self.stopped:
                return self._events
            if found.key == TASK_KEY:
                if restated < sample.tasks and self._block(found.offset, sample):
                    restated += 1
                    objects = find_objects(data, found.offset + BLOCK_SIZE)
                else:
                    task = [found]
            elif task:
                task.append(found)
            elif found.key == _DELTA_KEY:
                self._delta(found, sample)
            elif found.key == _EVENT_KEY:
                self._event(found)
            elif found.key in _OWN:
                damaged("an object that cannot stand in a group", found.offset)
        if task and not self.stopped:
            restated = self._task(task, restated, sample)
        if not self.stopped and (self._waiting is not None or restated != sample.tasks):
            damaged("a group that lacks a task's state", 0)
        if not self.stopped and self._alive != sample.alive:
            damaged("a group that leaves another number of tasks than it says", 0)
        self._fresh = False
        return self._events

    def _block(self, at: int, sample: Sample) -> bool:
        """Whether a restated task is laid out as usual, and so is read at once."""
        found = row_at(self._data, at)
        if found is None or len(self.rows) >= MAX_SLOTS:
            return False
        row, reference = found
        self._restated(row, self._decoder.provenance(reference), sample)
        return True

    def _restated(self, row: list[Any], said: Mapping[str, str], sample: Sample) -> None:
        if len(self.rows) >= MAX_SLOTS:
            damaged("more tasks than there can be", 0)
        self.rows.append(row)
        self._said.append(said)
        self._alive += 1
        if self._fresh:
            self._events.append(RecordedEvent(EVENT_SAMPLE, sample.time, tuple(row), said))

    def _task(self, objects: list[Found], restated: int, sample: Sample) -> int:
        """A whole state: restated by a key frame, or that of the event before it. Returns how many were restated."""
        image = self._decoder.task(objects)
        for found in objects:
            if found.key == _PROVENANCE_DATA:
                self._texts.append(image.provenance)
        row = list(from_image(image))
        if restated < sample.tasks:
            self._restated(row, image.provenance, sample)
            return restated + 1
        event, self._waiting = self._waiting, None
        if event is None:
            damaged("a task without an event", objects[0].offset)
        self._put(event.slot, row, image.provenance)
        self._tell(event.kind, event.time, event.slot, row, event)
        return restated

    def _put(self, slot: int, row: list[Any], said: Mapping[str, str]) -> None:
        rows = self.rows
        if slot == len(rows) and slot < MAX_SLOTS:
            rows.append(row)
            self._said.append(said)
            self._alive += 1
        elif slot < len(rows):
            self._alive += rows[slot] is None
            rows[slot], self._said[slot] = row, said
        else:
            damaged(f"a task in slot {slot}, where {len(rows)} are taken", 0)

    def _tell(self, kind: int, time: int, slot: int, row: list[Any], event: _Event | None) -> None:
        if event is None:
            self._events.append(RecordedEvent(kind, time, tuple(row), self._said[slot]))
            return
        self._events.append(RecordedEvent(kind, time, tuple(row), self._said[slot], event.old_pid, event.flags))
        if kind == EVENT_EXIT:
            self._empty(slot)

    def _empty(self, slot: int) -> None:
        self.rows[slot] = None
        self._alive -= 1

    def _event(self, found: Found) -> None:
        if self._waiting is not None or found.hdrlen < layout.EVENT.size:
            damaged("an event before the last one's task, or too short", found.offset)
        event = _Event._make(layout.EVENT.unpack_from(self._data, found.offset)[4:])
        if self._limit is not None and event.time > self._limit:
            self.stopped = True
        elif event.kind == EVENT_DROP:
            cpu = -1 if event.slot == 0xFFFFFFFF else event.slot
            self._events.append(RecordedEvent(EVENT_DROP, event.time, None, {}, 0, event.flags, event.lost, cpu))
        elif event.kind == EVENT_GONE:
            row = self._row(event.slot)
            self._events.append(RecordedEvent(EVENT_GONE, event.time, tuple(row), self._said[event.slot]))
            self._empty(event.slot)
        elif event.kind < EVENT_DROP:
            self._waiting = event
        # an event that a later version tells, which has no task behind it, is skipped

    def _row(self, slot: int) -> list[Any]:
        row = self.rows[slot] if slot < len(self.rows) else None
        if row is None:
            damaged(f"a task in slot {slot}, which is empty", 0)
        return row

    def _delta(self, found: Found, sample: Sample) -> None:
        if found.hdrlen < layout.DELTA.size:
            damaged("a delta that is too short", found.offset)
        size, count = layout.DELTA.unpack_from(self._data, found.offset)[4:]
        at = found.offset + found.hdrlen
        end = at + size
        if end + -(found.hdrlen + size) % 8 != found.end:
            damaged(f"a payload of {size} bytes in an object of {found.length}", found.offset)
        check_zero(self._data, end, found.end)
        told = len(self._events)
        at = self._entries(at, end, sample.time)
        if not self.stopped and (at != end or len(self._events) - told != count):
            damaged(f"a delta that does not come out even, or has not its {count} entries", found.offset)

    def _entries(self, at: int, end: int, base_time: int) -> int:
        """Applies the entries of a delta; this is where a recording is read, tens of thousands at a time."""
        data, rows, shapes, tell = self._data, self.rows, self._shapes, self._events.append
        said, limit = self._said, self._limit
        while at + 2 <= end:
            number = data[at] | data[at + 1] << 8
            if not number:
                at = self._shape(at, end)
                continue
            if number > len(shapes):
                damaged(f"shape {number} of {len(shapes)}", at)
            packer, based, adds, sets = shapes[number - 1]
            after = at + packer.size
            if after > end:
                damaged("a delta that ends within an entry", at)
            values = packer.unpack_from(data, at)
            slot = values[1]
            time = base_time + values[2]
            if limit is not None and time > limit:
                self.stopped = True
                return at
            event = self._waiting
            if based:
                row = self._copy(slot, values[3], event)
            else:
                row = rows[slot] if slot < len(rows) else None  # type: ignore[assignment]
                if row is None:
                    damaged(f"a task in slot {slot}, which is empty", at)
            for index, place, mask in adds:
                row[index] = row[index] + values[place] & mask
            if sets:
                self._set(slot, row, values, sets)
            if event is None:
                tell(_sampled((EVENT_SAMPLE, time, tuple(row), said[slot], 0, 0, 0, -1)))
            else:
                if event.slot != slot:
                    damaged("an event of another task than the one behind it", at)
                self._waiting = None
                self._tell(event.kind, time, slot, row, event)
            at = after
        return at

    def _copy(self, slot: int, base: int, event: _Event | None) -> list[Any]:
        """The row of a new task, before the differences from that of ``base``."""
        if event is None or event.slot != slot or (slot < len(self.rows) and self.rows[slot] is not None):
            damaged(f"a new task in slot {slot}, which is taken, or which no event names", 0)
        row = list(self._row(base))
        self._put(slot, row, self._said[base])
        return row

    def _set(self, slot: int, row: list[Any], values: tuple[Any, ...], sets: tuple[tuple[int, int, int], ...]) -> None:
        for index, place, code in sets:
            value = values[place]
            if index == PROVENANCE:
                if not 0 <= value < len(self._texts):
                    damaged(f"provenance {value} of {len(self._texts)}", 0)
                self._said[slot] = self._texts[value]
            else:
                row[index] = deltas.unpacked_tls(value) if code == SET24 else value

    def _shape(self, at: int, end: int) -> int:
        """A shape that is told in the stream; returns where it ends."""
        where = at
        if at + SHAPE.size > end:
            damaged("a delta that ends within a shape", where)
        _, flags, count = SHAPE.unpack_from(self._data, at)
        start = at + SHAPE.size
        stop: int = start + count * SHAPE_FIELD.size
        if stop > end or flags not in (0, BASED) or len(self._shapes) >= deltas.MAX_SHAPES:
            damaged("a shape that is cut short, unknown, or one too many", where)
        found = SHAPE_FIELD.iter_unpack(self._data[start:stop])
        fields = [_field(group, place, code, where) for group, place, code in found]
        known = [index for index, _ in fields if index < _UNKNOWN]
        if len(set(known)) != len(known):
            damaged("a shape that names a field twice", where)
        self._shapes.append(_ready(flags, tuple(fields)))
        return stop


def _ready(flags: int, fields: tuple[tuple[int, int], ...]) -> _Known:
    first = 4 if flags & BASED else 3
    adds: list[tuple[int, int, int]] = []
    sets: list[tuple[int, int, int]] = []
    for place, (index, code) in enumerate(fields, first):
        if index < WIDTH and MASKS[index]:
            adds.append((index, place, MASKS[index]))
        elif index != _UNKNOWN:
            sets.append((index, place, code))
    adds += [(copy, place, mask) for index, place, mask in adds for copy, of in deltas.REPEATS.items() if of == index]
    return _Known(deltas.packer(Shape(flags, fields)), bool(flags & BASED), tuple(adds), tuple(sets))


def _field(group: int, place: int, code: int, where: int) -> tuple[int, int]:
    if code not in CODES:
        damaged(f"a field of unknown code {code}", where)
    index = PROVENANCE if (group, place) == deltas.PROVENANCE_PLACE else PLACES.get((group, place), _UNKNOWN)
    if index != _UNKNOWN and not deltas.fits(index, code):
        damaged(f"a field with a code {code} that is not its own", where)
    return index, code
