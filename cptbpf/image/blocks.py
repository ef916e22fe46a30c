"""A task as a key frame usually has it: TASK, a reference to its PROVENANCE and every group, unpacked as one piece."""

from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

from cptbpf.image import layout
from cptbpf.image.rows import GROUPS

_HEADER = 4  # values of an object header
_TLS = layout.TASK_FIELDS.index("tls")


class _Block(NamedTuple):
    """``fixed`` are the values that every such block has, by their places; ``reference`` is the place of the provenance."""

    packer: Struct
    fixed: tuple[tuple[int, int], ...]
    reference: int
    spans: tuple[tuple[int, int], ...]


def _block() -> _Block:
    formats = [layout.TASK.format, layout.REF.format]
    headers = [
        (288, 288, layout.CPT_OBJ_TASK, layout.CPT_CONTENT_ARRAY),
        (24, 24, layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_REF),
    ]
    for name in GROUPS[1:]:
        group = layout.GROUPS[name]
        end = group.ends[-1]
        formats.append(group.format + "4x" * (-end % 8 // 4))
        headers.append((end + -end % 8, end, group.type, layout.CPT_CONTENT_VOID))
    fixed: list[tuple[int, int]] = []
    spans: list[tuple[int, int]] = []
    reference = place = 0
    for number, (form, header) in enumerate(zip(formats, headers, strict=True)):
        codes = form.removeprefix("<").replace("4x", "P")
        values = _count(codes)
        fixed += [(place + at, value) for at, value in enumerate(header)]
        if number == 1:
            reference = place + _HEADER
        else:
            spans += _runs(codes, place, fixed)
        place += values
    packer = Struct("<" + "".join(form.removeprefix("<").replace("4x", "L") for form in formats))
    return _Block(packer, tuple(fixed), reference, tuple(spans))


def _tokens(codes: str) -> list[tuple[int, str]]:
    """How many values each code of a format stands for."""
    tokens, number = [], ""
    for char in codes:
        if char.isdigit():
            number += char
            continue
        tokens.append((1 if char == "s" or not number else int(number), char))
        number = ""
    return tokens


def _count(codes: str) -> int:
    return sum(count for count, _ in _tokens(codes))


def _runs(codes: str, place: int, fixed: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where the fields of an object lie among the values; its pads go to what is fixed."""
    at = place + _HEADER
    start, runs = at, []
    for count, code in _tokens(codes)[_HEADER:]:
        if code == "P":
            runs.append((start, at))
            fixed.append((at, 0))
            start = at + 1
        at += count
    runs.append((start, at))
    return [run for run in runs if run[0] < run[1]]


_WHOLE = _block()
SIZE = _WHOLE.packer.size
_FIRST, _END = _WHOLE.spans[0]
_fixed, _FIXED = itemgetter(*(at for at, _ in _WHOLE.fixed)), tuple(value for _, value in _WHOLE.fixed)


def row_at(data: bytes, at: int) -> tuple[list[Any], int] | None:
    """The row of the block that begins at ``at``, and where its provenance stands; None for what is another one."""
    if at + SIZE > len(data):
        return None
    values = _WHOLE.packer.unpack_from(data, at)
    if _fixed(values) != _FIXED:
        return None
    tls = _FIRST + _TLS
    row = [*values[_FIRST:tls], values[tls : tls + 3], *values[tls + 3 : _END]]
    for start, end in _WHOLE.spans[1:]:
        row += values[start:end]
    return row, values[_WHOLE.reference]
