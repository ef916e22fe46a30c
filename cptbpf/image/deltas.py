"""What changed from one row to another, packed: a shape says which fields and how wide, and is told once; then come values.

Counters are differences, cut to 1, 2, 4 or 8 bytes; the rest stands as it is.
"""

from collections.abc import Sequence
from itertools import compress
from operator import itemgetter, ne
from struct import Struct
from typing import Any, NamedTuple

from cptbpf.image.rows import FIELDS, INDEX, MASKS, WHERE, WIDTH, Row

#: Codes of a field in a shape: a difference of that many bytes, or the value itself.
ADD1, ADD2, ADD4, ADD8 = 1, 2, 4, 8
SET16, SET24, SET_S32 = 0x10, 0x18, 0x84
CODES = {ADD1: "b", ADD2: "h", ADD4: "i", ADD8: "q", SET16: "16s", SET24: "24s", SET_S32: "i"}
_SETS = {"char[16]": SET16, "u64[3]": SET24, "s32": SET_S32}

#: A pseudo-field, as ADD2: which PROVENANCE text holds, counted from 0 in the order in which they stand since the key frame.
PROVENANCE_PLACE = (0x26, 0)
PROVENANCE = WIDTH

#: Flag of a shape: the values are relative to another task's, whose slot precedes them; the entry's own slot is new.
BASED = 1
#: 0, flags, number of fields; then for each field group, place and code.
SHAPE, SHAPE_FIELD = Struct("<HBB"), Struct("<BBB")
MAX_SHAPES = 0xFFFF
MAX_TEXT = 0x7FFF

#: Fields that no shape names: they repeat others, and change as these do.
REPEATS = {INDEX["utimescaled"]: INDEX["utime"], INDEX["stimescaled"]: INDEX["stime"]}
_repeated, _repeating = itemgetter(*REPEATS), itemgetter(*REPEATS.values())
_TLS = Struct("<3Q")
_CHANGED = range(WIDTH)
_RELATIVE = tuple(bool(mask) for mask in MASKS)


class Shape(NamedTuple):
    """A shape by its flags and its fields, each an index in a row (or PROVENANCE) and a code."""

    flags: int
    fields: tuple[tuple[int, int], ...]


def packer(shape: Shape) -> Struct:
    """What packs an entry of a shape: its number, slot, time, base, and the values."""
    # number of the shape, slot, ns after the group's time; and the slot that a new task is relative to
    return Struct(("<HIiI" if shape.flags & BASED else "<HIi") + "".join(CODES[code] for _, code in shape.fields))


def definition(shape: Shape) -> bytes:
    """The shape as it is told in the stream."""
    fields = b"".join(
        SHAPE_FIELD.pack(*(PROVENANCE_PLACE if index == PROVENANCE else WHERE[index]), code) for index, code in shape.fields
    )
    return SHAPE.pack(0, shape.flags, len(shape.fields)) + fields


def fits(index: int, code: int) -> bool:
    """Whether a field may have a code."""
    if index == PROVENANCE:
        return code == ADD2
    ctype = FIELDS[index].ctype
    if ctype in _SETS:
        return code == _SETS[ctype]
    return index not in REPEATS and code in ((ADD1, ADD2, ADD4, ADD8) if ctype == "u64" else (ADD1, ADD2, ADD4))


def changes(old: Sequence[Any], new: Row) -> tuple[list[tuple[int, int]], list[Any]] | None:
    """The fields that differ, with their codes, and the values to pack; None where no difference can say it."""
    fields: list[tuple[int, int]] = []
    values: list[Any] = []
    for index in compress(_CHANGED, map(ne, old, new)):
        if index in REPEATS:
            continue
        before, value = old[index], new[index]
        if before is None or value is None:
            return None
        if not _RELATIVE[index]:
            code = _SETS[FIELDS[index].ctype]
            fields.append((index, code))
            values.append(_TLS.pack(*value) if code == SET24 else value)
            continue
        change = value - before
        if -0x80 <= change < 0x80:
            code = ADD1
        elif -0x8000 <= change < 0x8000:
            code = ADD2
        elif -0x80000000 <= change < 0x80000000:
            code = ADD4
        else:
            change, code = _wrapped(change, MASKS[index])
        fields.append((index, code))
        values.append(change)
    if _repeated(new) != _repeating(new) or _repeated(old) != _repeating(old):
        return None
    return fields, values


def _wrapped(change: int, mask: int) -> tuple[int, int]:
    """A great difference, modulo the size of its field."""
    change &= mask
    if change > mask >> 1:
        change -= mask + 1
    return change, ADD4 if mask == 0xFFFFFFFF else ADD8


def unpacked_tls(data: bytes) -> tuple[int, ...]:
    """The three descriptors of a SET24."""
    return _TLS.unpack(data)
