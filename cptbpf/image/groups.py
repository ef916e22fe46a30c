"""Groups of a recording: states and events in, the bytes of whole groups out. The reader's half is :mod:`ungroup`.

A task has a slot for as long as it is followed: ids change when a thread executes a program, slots do not.
"""

from collections.abc import Mapping
from struct import Struct
from zlib import crc32

from cptbpf.image import deltas, layout
from cptbpf.image.blocks import SIZE as BLOCK_SIZE
from cptbpf.image.deltas import BASED, PROVENANCE, Shape
from cptbpf.image.encode import Encoder
from cptbpf.image.model import (
    EVENT_DROP,
    EVENT_EXEC,
    EVENT_EXIT,
    EVENT_FORK,
    EVENT_GONE,
    EVENT_SAMPLE,
)
from cptbpf.image.rows import INDEX, Row, to_image

GROUP_PLAIN, GROUP_KEY = 0, 1
MAX_OFFSET = (1 << 31) - 1
#: A key frame is due when what follows the last one is this many times as long as it would be, and at least so many bytes.
KEY_FACTOR, KEY_LEAST = 2, 1 << 18

_PID, _TGID, _RPPID, _START = (INDEX[name] for name in ("pid", "tgid", "rppid", "real_start_time"))
_SAMPLE_SIZE = layout.SAMPLE.size
_CHECK_SIZE = layout.CHECK.size
_ENTRY_GUESS = 40

Provenance = Mapping[str, str]


class GroupEncoder:
    """Encodes one recording from its META on.

    ``start`` is the number of bytes before the first group, ``chain`` their CRC-32: each group's checksum goes on from the one
    before. Rows that :meth:`add` got are kept, so that the next key frame can restate them.
    """

    def __init__(self, start: int, chain: int) -> None:
        self._objects = Encoder()
        self._offset = start
        self._chain = chain
        self._rows: list[Row | None] = []
        self._said: list[Provenance] = []  # by slot
        self._free: list[int] = []
        self._slots: dict[int, int] = {}  # by pid
        self._texts: dict[int, tuple[Provenance, int]] = {}  # by the mapping's id
        self._numbers: dict[tuple[tuple[str, str], ...], int] = {}
        self._shapes: dict[Shape, tuple[int, Struct]] = {}
        self._parts: list[bytes] = []
        self._entries: list[bytes] = []
        self._placed = 0  # bytes in _parts
        self._base: int | None = None  # time of the group, once it has begun
        self._restated = 0
        self._key = True
        self._since_key = 0
        self.events = 0

    @property
    def alive(self) -> int:
        """Tasks that are followed."""
        return len(self._slots)

    @property
    def begun(self) -> bool:
        """Whether a group has begun."""
        return self._base is not None

    @property
    def size(self) -> int:
        """About how many bytes the group has so far."""
        return self._placed + _ENTRY_GUESS * len(self._entries)

    def holds(self, time: int) -> bool:
        """Whether an event of this time can stand in the group."""
        return self._base is None or -MAX_OFFSET <= time - self._base <= MAX_OFFSET

    def pids(self) -> list[int]:
        """The ids of the tasks that are followed."""
        return list(self._slots)

    def begin(self, time: int) -> None:
        """Begins a group, with a key frame where one is due."""
        self._base = time
        self._key = self._key or self._since_key > max(KEY_FACTOR * BLOCK_SIZE * self.alive, KEY_LEAST)
        if self._key or len(self._shapes) >= deltas.MAX_SHAPES:
            self._key = True
            self._restate()

    def add(self, kind: int, time: int, row: Row, said: Provenance, old_pid: int = 0, flags: int = 0) -> None:
        """Adds one event with the task's state; the group has begun and holds the time."""
        slot = self._find(kind, time, row, old_pid)
        based = slot is None
        base = self._base_of(row) if slot is None else slot
        if slot is None:
            slot = self._free.pop() if self._free else len(self._rows)
        self.events += 1
        entry = None if base is None else self._entry(slot, base, based, time, row, said)
        if kind != EVENT_SAMPLE or based or entry is None:
            self._object(_event(kind, flags, time, slot, old_pid))
        if entry is None:
            self._whole(row, said)
        else:
            self._entries.append(entry)
        self._keep(slot, row, said, new=based)
        if kind == EVENT_EXIT:
            self._drop_slot(slot, row[_PID])

    def drop(self, time: int, lost: int, cpu: int, why: int) -> None:
        """Reports were lost: how many, on which cpu (-1: unknown), and why, an index in DROP_REASONS."""
        self._object(_event(EVENT_DROP, why, time, cpu & 0xFFFFFFFF, 0, lost))
        self.events += 1

    def gone(self, time: int, pid: int) -> None:
        """A task is no longer there, and nobody saw its end."""
        slot = self._slots.get(pid)
        if slot is not None:
            self._object(_event(EVENT_GONE, 0, time, slot, 0))
            self.events += 1
            self._drop_slot(slot, pid)

    def finish(self, until: int, realtime: int) -> bytes:
        """Ends the group; everything up to ``until`` has been told. Returns its bytes."""
        assert self._base is not None
        self._close_entries()
        size = _SAMPLE_SIZE + self._placed + _CHECK_SIZE
        kind = GROUP_KEY if self._key else GROUP_PLAIN
        head = layout.SAMPLE.pack(
            *(_SAMPLE_SIZE, _SAMPLE_SIZE, layout.CPT_OBJ_SAMPLE, layout.CPT_CONTENT_VOID),
            *(size, self._base, until, realtime, kind, self._restated, self.alive, 0),
        )
        head = head[:-4] + crc32(head[:-4], self._chain).to_bytes(4, "little")
        body = b"".join((head, *self._parts))
        self._chain = crc32(body, self._chain)
        self._offset += size
        self._since_key = 0 if self._key else self._since_key + size
        self._parts.clear()
        self._placed = 0
        self._base, self._restated, self._key = None, 0, False
        return body + layout.CHECK.pack(_CHECK_SIZE, _CHECK_SIZE, layout.CPT_OBJ_CHECK, layout.CPT_CONTENT_VOID, self._chain)

    def move(self, start: int, chain: int) -> None:
        """Goes on in another file: it begins with a key frame."""
        self._offset, self._chain, self._key = start, chain, True

    def _find(self, kind: int, time: int, row: Row, old_pid: int) -> int | None:
        """The slot of a task that is followed already; ids that an exec hands on are exchanged."""
        pid = row[_PID]
        if kind == EVENT_EXIT and old_pid:
            if old_pid in self._slots and self._start(old_pid) == row[_START] and self._start(pid) != row[_START]:
                self._exchange(old_pid, pid)
            return self._slots.get(pid)
        if kind == EVENT_EXEC and old_pid:
            if old_pid in self._slots:
                self._exchange(old_pid, pid)
            return self._slots.get(pid)
        slot = self._slots.get(pid)
        if slot is not None and (kind == EVENT_FORK or self._start(pid) != row[_START]):
            self.gone(time, pid)
            return None
        return slot

    def _start(self, pid: int) -> int | None:
        row = self._rows[self._slots[pid]] if pid in self._slots else None
        return None if row is None else int(row[_START])

    def _exchange(self, a: int, b: int) -> None:
        slots = self._slots
        first, second = slots.pop(a, None), slots.pop(b, None)
        if first is not None:
            slots[b] = first
        if second is not None:
            slots[a] = second

    def _base_of(self, row: Row) -> int | None:
        """Whom a new task resembles: its leader, or else its parent."""
        leader = self._slots.get(row[_TGID])
        return self._slots.get(row[_RPPID]) if leader is None else leader

    def _entry(self, slot: int, base: int, based: bool, time: int, row: Row, said: Provenance) -> bytes | None:
        """The difference from a row that is known; None where the task must be told as a whole."""
        assert self._base is not None
        old = self._rows[base]
        found = None if old is None else deltas.changes(old, row)
        if found is None:
            return None
        fields, values = found
        if said is not self._said[base]:
            text = self._texts.get(id(said))
            if text is None or text[1] > deltas.MAX_TEXT:
                return None
            fields.append((PROVENANCE, deltas.ADD2))
            values.append(text[1])
        shape = Shape(BASED if based else 0, tuple(fields))
        known = self._shapes.get(shape)
        told = b""
        if known is None:
            if len(self._shapes) >= deltas.MAX_SHAPES:
                return None
            known = self._shapes[shape] = len(self._shapes) + 1, deltas.packer(shape)
            told = deltas.definition(shape)
        number, packer = known
        if based:
            return told + packer.pack(number, slot, time - self._base, base, *values)
        return told + packer.pack(number, slot, time - self._base, *values)

    def _whole(self, row: Row, said: Provenance) -> None:
        """TASK and its groups."""
        if said and id(said) not in self._texts:
            number = self._numbers.setdefault(tuple(said.items()), len(self._numbers))
            self._texts[id(said)] = (said, number)
        self._objects.offset = self._offset + _SAMPLE_SIZE + self._placed
        for part in self._objects.task(to_image(row, said)):
            self._place(part)

    def _restate(self) -> None:
        """The states of all that are followed; slots, shapes and texts are counted anew."""
        living = [slot for slot, row in enumerate(self._rows) if row is not None]
        rows, said = [self._rows[slot] for slot in living], [self._said[slot] for slot in living]
        moved = {slot: index for index, slot in enumerate(living)}
        self._slots = {pid: moved[slot] for pid, slot in self._slots.items()}
        self._free.clear()
        self._shapes.clear()
        self._texts.clear()
        self._numbers.clear()
        self._objects = Encoder()
        self._rows, self._said = list(rows), said
        self._restated = len(rows)
        for row, source in zip(rows, said, strict=True):
            assert row is not None
            self._whole(row, source)

    def _object(self, packed: bytes) -> None:
        self._close_entries()
        self._place(packed)

    def _place(self, part: bytes) -> None:
        self._parts.append(part)
        self._placed += len(part)

    def _close_entries(self) -> None:
        if self._entries:
            payload = b"".join(self._entries)
            pad = bytes(-len(payload) % 8)
            length = layout.DELTA.size + len(payload) + len(pad)
            head = layout.DELTA.pack(
                *(length, layout.DELTA.size, layout.CPT_OBJ_DELTA, layout.CPT_CONTENT_ARRAY, len(payload), len(self._entries))
            )
            self._place(b"".join((head, payload, pad)))
            self._entries.clear()

    def _keep(self, slot: int, row: Row, said: Provenance, new: bool) -> None:
        if slot == len(self._rows):
            self._rows.append(row)
            self._said.append(said)
        else:
            self._rows[slot], self._said[slot] = row, said
        if new:
            self._slots[row[_PID]] = slot

    def _drop_slot(self, slot: int, pid: int) -> None:
        self._slots.pop(pid, None)
        self._rows[slot] = None
        self._free.append(slot)


def _event(kind: int, flags: int, time: int, slot: int, old_pid: int, lost: int = 0) -> bytes:
    size = layout.EVENT.size
    return layout.EVENT.pack(
        *(size, size, layout.CPT_OBJ_EVENT, layout.CPT_CONTENT_VOID, kind, flags, time, slot, old_pid, lost)
    )
