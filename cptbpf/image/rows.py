"""A task's state as one flat row: every field of the catalogue, group after group, in the order of the image's records.

Recordings hold what changes from one row of a task to its next. A row is a tuple of ints, but for ``comm`` (16 bytes) and
``tls`` (three ints); None stands for a field that the version that wrote it did not know.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cptbpf import fields
from cptbpf.image import layout
from cptbpf.image.model import TaskImage, TaskRecord

Row = tuple[Any, ...]

GROUPS = tuple(fields.GROUPS)
FIELDS = tuple(field for name in GROUPS for field in fields.group(name))
NAMES = tuple(field.name for field in FIELDS)
INDEX = {name: index for index, name in enumerate(NAMES)}
WIDTH = len(FIELDS)

#: The number of a group within DELTA: the low byte of its object's type.
_CODES = {"task": layout.CPT_OBJ_TASK & 0xFF, **{name: group.type & 0xFF for name, group in layout.GROUPS.items()}}
#: Index in a row, by the number of the group and the field's place in it; and back.
PLACES = {(_CODES[name], at): INDEX[field.name] for name in GROUPS for at, field in enumerate(fields.group(name))}
WHERE = {index: place for place, index in PLACES.items()}
#: What a number is cut to when it is counted on, 0 where a field is only ever replaced.
MASKS = tuple({"u32": 0xFFFFFFFF, "u64": 0xFFFFFFFFFFFFFFFF}.get(field.ctype, 0) for field in FIELDS)

_TASK = len(TaskRecord._fields)


class _Span(NamedTuple):
    """Where a group lies in a row."""

    name: str
    start: int
    end: int


def _spans() -> tuple[_Span, ...]:
    spans, start = [], 0
    for name in GROUPS:
        end = start + len(fields.group(name))
        spans.append(_Span(name, start, end))
        start = end
    return tuple(spans[1:])


SPANS = _spans()
_BLANK = {span.name: (None,) * (span.end - span.start) for span in SPANS}


def from_image(image: TaskImage) -> Row:
    """The row of a task."""
    row: list[Any] = list(image.task)
    for span in SPANS:
        values = image.ext.get(span.name, ())
        row += values
        row += _BLANK[span.name][len(values) :]
    return tuple(row)


def to_image(row: Sequence[Any], provenance: Mapping[str, str]) -> TaskImage:
    """The task of a row; a group of which no field is known is not there."""
    ext = {}
    for name, start, end in SPANS:
        values = tuple(row[start:end])
        if None in values:
            values = values[: values.index(None)]
        if values:
            ext[name] = values
    return TaskImage(TaskRecord._make(row[:_TASK]), ext=ext, provenance=provenance)
