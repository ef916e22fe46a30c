"""From the bytes of objects to the model. Every object is already known to lie within the file."""

from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import Any
from zlib import crc32

from cptbpf.image import layout
from cptbpf.image.encode import DIGEST_SIZE, META_CRC_OFFSET
from cptbpf.image.model import (
    CertificateEntry,
    Exe,
    Meta,
    PidLevel,
    Placed,
    RawObject,
    TaskImage,
    TaskRecord,
    Trailer,
    X86_64Regs,
    X86Regs,
    XstateComponent,
)
from cptbpf.image.walk import Found, check_zero, damaged
from cptbpf.xsave import EXTENDED, FXSAVE_SIZE

#: A PROVENANCE text is at most this long: a reference costs 24 bytes, and must not stand for megabytes.
MAX_PROVENANCE = 1 << 16

TASK_KEY = layout.CPT_CONTENT_ARRAY << 16 | layout.CPT_OBJ_TASK
META_KEY = layout.CPT_CONTENT_VOID << 16 | layout.CPT_OBJ_META
TRAILER_KEY = layout.CPT_CONTENT_VOID << 16 | layout.CPT_OBJ_TRAILER
_PROVENANCE_DATA = layout.CPT_CONTENT_DATA << 16 | layout.CPT_OBJ_PROVENANCE
_PROVENANCE_REF = layout.CPT_CONTENT_REF << 16 | layout.CPT_OBJ_PROVENANCE

_TLS = layout.TASK_FIELDS.index("tls")
_HEADER = 4  # values of an object header


def _check_fixed(found: Found, size: int) -> None:
    if found.hdrlen < size:
        damaged(f"an object whose fixed part has {found.hdrlen} bytes of {size}", found.offset)


def _payload(data: bytes, found: Found, size: int) -> tuple[int, int]:
    """Where an object's payload begins and ends: it fills the object but for the padding."""
    start = found.offset + found.hdrlen
    end = start + size
    if end + -(found.hdrlen + size) % 8 != found.end:
        damaged(f"a payload of {size} bytes in an object of {found.length}", found.offset)
    if end != found.end:
        check_zero(data, end, found.end)
    return start, end


def _sized(data: bytes, found: Found) -> tuple[int, int]:
    """Start and end of the payload of an object laid out as ``struct cpt_obj_bits``."""
    _check_fixed(found, layout.BITS.size)
    size = layout.BITS.unpack_from(data, found.offset)[4]
    check_zero(data, found.offset + 20, found.offset + 24)
    return _payload(data, found, size)


def _texts(data: bytes, start: int, end: int) -> list[str]:
    """NUL-terminated strings."""
    if start == end:
        return []
    if data[end - 1]:
        damaged("a string without its NUL", end - 1)
    return data[start : end - 1].decode("utf-8", "surrogateescape").split("\0")


def _pairs(data: bytes, start: int, end: int) -> dict[str, str]:
    texts = _texts(data, start, end)
    pairs = dict(zip(texts[::2], texts[1::2], strict=False))
    if 2 * len(pairs) != len(texts):
        damaged("a key twice, or without a value", start)
    return pairs


def _fxsave(data: bytes, found: Found) -> memoryview:
    start, end = _sized(data, found)
    if end - start != FXSAVE_SIZE:
        damaged(f"an fxsave area of {end - start} bytes", found.offset)
    return memoryview(data)[start:end]


def _xsave(data: bytes, found: Found) -> memoryview:
    start, end = _sized(data, found)
    if end - start < EXTENDED:
        damaged(f"an xsave area of {end - start} bytes", found.offset)
    return memoryview(data)[start:end]


def _bytes(data: bytes, found: Found) -> bytes:
    start, end = _sized(data, found)
    return data[start:end]


def _kstack(data: bytes, found: Found) -> tuple[str, ...]:
    return tuple(_texts(data, *_sized(data, found)))


def _pids(data: bytes, found: Found) -> tuple[PidLevel, ...]:
    start, end = _sized(data, found)
    if (end - start) % layout.PID_LEVEL.size:
        damaged("an array of ids that does not come out even", found.offset)
    for at in range(start, end, layout.PID_LEVEL.size):
        check_zero(data, at + 12, at + 16)
    return tuple(map(PidLevel._make, layout.PID_LEVEL.iter_unpack(data[start:end])))


def _groups(data: bytes, found: Found) -> tuple[int, ...]:
    start, end = _sized(data, found)
    if (end - start) % 4:
        damaged("an array of group ids that does not come out even", found.offset)
    return tuple(memoryview(data)[start:end].cast("I"))


def _exe(data: bytes, found: Found) -> Exe:
    _check_fixed(found, layout.EXE.size)
    path_size, build_id_size = layout.EXE.unpack_from(data, found.offset)[_HEADER:]
    start, end = _payload(data, found, path_size + build_id_size)
    return Exe(data[start : start + path_size], data[start + path_size : end])


def _regs64(data: bytes, found: Found) -> X86_64Regs:
    _check_fixed(found, layout.X86_64_REGS.size)
    _payload(data, found, 0)
    values = layout.X86_64_REGS.unpack_from(data, found.offset)
    return X86_64Regs(values[4:12], *values[12:])


def _regs32(data: bytes, found: Found) -> X86Regs:
    _check_fixed(found, layout.X86_REGS.size)
    _payload(data, found, 0)
    check_zero(data, found.offset + 116, found.offset + 120)
    values = layout.X86_REGS.unpack_from(data, found.offset)
    return X86Regs(values[4:12], *values[12:])


def _group(group: layout.Group) -> Callable[[bytes, Found], tuple[int, ...]]:
    """A decoder of one group's record; an older version's has fewer fields."""
    whole, size = Struct(group.format), group.ends[-1]
    pads = _pads(group)

    def decode(data: bytes, found: Found) -> tuple[int, ...]:
        offset, hdrlen = found.offset, found.hdrlen
        _payload(data, found, 0)
        if hdrlen >= size:
            for start, end in pads:
                check_zero(data, offset + start, offset + end)
            return whole.unpack_from(data, offset)[_HEADER:]
        if hdrlen != 16 and hdrlen not in group.ends:
            damaged(f"an object whose fixed part of {hdrlen} bytes ends inside a field", offset)
        for start, end in pads:
            if end <= hdrlen:
                check_zero(data, offset + start, offset + end)
        count = sum(end <= hdrlen for end in group.ends)
        padded = data[offset : offset + hdrlen] + bytes(size - hdrlen)
        return whole.unpack(padded)[_HEADER : _HEADER + count]

    return decode


def _pads(group: layout.Group) -> list[tuple[int, int]]:
    """Start and end of the gaps that natural alignment leaves inside a group's record."""
    pads, before = [], 16
    codes = group.format.removeprefix("<QLHH").replace("4x", "")
    for end, code in zip(group.ends, codes, strict=True):
        start = end - (8 if code in "Qq" else 4)
        if start != before:
            pads.append((before, start))
        before = end
    return pads


def _handlers() -> dict[int, tuple[int, str, int, Callable[[bytes, Found], Any]]]:
    """For each known object of a task: its rank in the order of the format, its name, its fixed size, its decoder."""
    void, array, name = layout.CPT_CONTENT_VOID, layout.CPT_CONTENT_ARRAY, layout.CPT_CONTENT_NAME
    fxsave, xsave = layout.CPT_CONTENT_X86_FPUSTATE, layout.CPT_CONTENT_XSAVE
    rows: list[tuple[int, int, str, int, Callable[[bytes, Found], Any]]] = [
        (layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_DATA, "provenance", 24, _bytes),
        (layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_REF, "provenance", 24, _bytes),
        *((group.type, void, key, group.ends[-1], _group(group)) for key, group in layout.GROUPS.items()),
        (layout.CPT_OBJ_PIDS, array, "pids", 24, _pids),
        (layout.CPT_OBJ_GROUPS, array, "groups", 24, _groups),
        (layout.CPT_OBJ_KSTACK, name, "kstack", 24, _kstack),
        (layout.CPT_OBJ_CGROUP, name, "cgroup", 24, _bytes),
        (layout.CPT_OBJ_EXE, name, "exe", 24, _exe),
        (layout.CPT_OBJ_CMDLINE, name, "cmdline", 24, _bytes),
        (layout.CPT_OBJ_KREGS64, void, "kregs", 280, _regs64),
        (layout.CPT_OBJ_KREGS32, void, "kregs", 120, _regs32),
        (layout.CPT_OBJ_KBITS, fxsave, "kfxsave", 24, _fxsave),
        (layout.CPT_OBJ_KBITS, xsave, "kxsave", 24, _xsave),
        (layout.CPT_OBJ_BITS, fxsave, "fxsave", 24, _fxsave),
        (layout.CPT_OBJ_BITS, xsave, "xsave", 24, _xsave),
        (layout.CPT_OBJ_X86_64_REGS, void, "regs", 280, _regs64),
        (layout.CPT_OBJ_X86_REGS, void, "regs", 120, _regs32),
    ]
    return {
        content << 16 | number: (rank, key, size, decoder) for rank, (number, content, key, size, decoder) in enumerate(rows)
    }


_HANDLERS = _handlers()
_UNKNOWN_RANK = _HANDLERS[layout.CPT_CONTENT_X86_FPUSTATE << 16 | layout.CPT_OBJ_BITS][0] - 0.5


def raw_object(data: bytes, found: Found) -> RawObject:
    """An object as it is."""
    return RawObject(found.key & 0xFFFF, found.key >> 16, found.hdrlen, data[found.offset + 16 : found.end])


class TaskDecoder:
    """Decodes the tasks of one file, in order: PROVENANCE may refer to an earlier task's.

    ``data`` stands at ``start`` of the file.
    """

    def __init__(self, data: bytes, start: int = 0) -> None:
        self._data = data
        self._start = start
        self._first: dict[bytes, int] = {}
        self._provenance: dict[int, Mapping[str, str]] = {}

    def go_on(self, data: bytes, start: int) -> None:
        """Goes on with a later part of the file."""
        self._data, self._start = data, start

    def provenance(self, offset: int) -> Mapping[str, str]:
        """What the PROVENANCE object at that offset of the file says. Raises ImageError where there was none."""
        if offset not in self._provenance:
            damaged(f"a reference to byte {offset}, where no earlier provenance begins", 0)
        return self._provenance[offset]

    def task(self, objects: Sequence[Found]) -> TaskImage:
        """Decode one task from its TASK object and those that follow it."""
        data = self._data
        record = self._record(objects[0])
        parts: dict[str, Any] = {}
        unknown: list[RawObject] = []
        rank: float = -1
        usual = objects[0].hdrlen == layout.TASK.size
        for found in objects[1:]:
            handler = _HANDLERS.get(found.key)
            if handler is None:
                usual = usual and rank <= _UNKNOWN_RANK
                rank = _UNKNOWN_RANK
                unknown.append(raw_object(data, found))
                continue
            own_rank, name, size, decode = handler
            if name in parts:
                damaged(f"a second {name} of one task", found.offset)
            usual = usual and rank < own_rank and found.hdrlen <= size
            rank = own_rank
            if name == "provenance":
                parts[name], first = self._read_provenance(found)
                usual = usual and first
            else:
                parts[name] = decode(data, found)
        return TaskImage(
            record,
            parts.pop("regs", None),
            parts.pop("fxsave", None),
            parts.pop("xsave", None),
            provenance=parts.pop("provenance", {}),
            ext=parts,
            unknown=tuple(unknown),
            layout=() if usual else tuple(self._placed(found) for found in objects),
        )

    def _record(self, found: Found) -> TaskRecord:
        _check_fixed(found, layout.TASK.size)
        _payload(self._data, found, 0)
        values = layout.TASK.unpack_from(self._data, found.offset)
        tls = _HEADER + _TLS
        return TaskRecord._make((*values[_HEADER:tls], values[tls : tls + 3], *values[tls + 3 :]))

    def _placed(self, found: Found) -> Placed:
        """What the encoder needs to put an object back where it was, as long as it was."""
        size = (
            layout.TASK.size if found.key == TASK_KEY else _HANDLERS[found.key][2] if found.key in _HANDLERS else found.hdrlen
        )
        extra = self._data[found.offset + size : found.offset + found.hdrlen]
        return Placed(found.key & 0xFFFF, found.key >> 16, extra)

    def _read_provenance(self, found: Found) -> tuple[Mapping[str, str], bool]:
        """A task's provenance, and whether this version would have written it the same way."""
        data = self._data
        if found.key == _PROVENANCE_REF:
            _check_fixed(found, layout.REF.size)
            _payload(data, found, 0)
            (reference,) = layout.REF.unpack_from(data, found.offset)[_HEADER:]
            if reference not in self._provenance:
                damaged(f"a reference to byte {reference}, where no earlier provenance begins", found.offset)
            return self._provenance[reference], True
        start, end = _sized(data, found)
        if not 0 < end - start <= MAX_PROVENANCE:
            damaged(f"a provenance of {end - start} bytes", found.offset)
        text = data[start:end]
        here = self._start + found.offset
        first = self._first.setdefault(text, here)
        if first == here:
            self._provenance[first] = _pairs(data, start, end)
        return self._provenance[first], first == here


def read_meta(data: bytes, found: Found) -> Meta:
    """Decode META; its checksum is verified first."""
    _check_fixed(found, layout.META.size)
    checked = bytearray(data[found.offset : found.end])
    checked[META_CRC_OFFSET : META_CRC_OFFSET + 4] = bytes(4)
    *values, count, strings_size, crc = layout.META.unpack_from(data, found.offset)[_HEADER:]
    if crc32(checked) != crc:
        damaged("the checksum of META does not match", found.offset)
    check_zero(data, found.offset + 92, found.offset + 96)
    start, end = _payload(data, found, 16 * count + strings_size)
    middle = end - strings_size
    components = tuple(map(XstateComponent._make, layout.XSTATE_COMPONENT.iter_unpack(data[start:middle])))
    extra = data[found.offset + layout.META.size : found.offset + found.hdrlen]
    return Meta._make((*values, components, _pairs(data, middle, end), extra))


def read_trailer(data: bytes, found: Found) -> Trailer:
    """Decode the TRAILER; the digest is given as it stands in the file."""
    _check_fixed(found, layout.TRAILER.size)
    body = found._replace(length=found.length - DIGEST_SIZE)
    tasks, flags, count, text_size = layout.TRAILER.unpack_from(data, found.offset)[_HEADER:]
    start, end = _payload(data, body, text_size)
    texts = _texts(data, start, end)
    if len(texts) != 4 * count:
        damaged(f"a certificate of {len(texts)} strings for {count} entries", start)
    entries = []
    for at in range(0, len(texts), 4):
        pid, *rest = texts[at : at + 4]
        if not (pid.isascii() and pid.isdigit() and str(int(pid[:20])) == pid):
            damaged("a certificate entry without a pid", start)
        entries.append(CertificateEntry(int(pid), *rest))
    extra = data[found.offset + layout.TRAILER.size : found.offset + found.hdrlen]
    return Trailer(tasks, flags, tuple(entries), extra, data[found.end - DIGEST_SIZE : found.end])
