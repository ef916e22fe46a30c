"""From the model to the bytes of objects. Struct packing only: this is on the way of every task."""

from collections.abc import Mapping, Sequence
from zlib import crc32

from cptbpf.image import layout
from cptbpf.image.model import Buffer, Head, Meta, PidLevel, RawObject, TaskImage, Trailer, X86_64Regs, X86Regs

SIGNATURE = b"\x79\x1c\x01\x63"
DIGEST_SIZE = 32
META_CRC_OFFSET = 88

_TEXTS_KEPT = 256

_PADS = tuple(bytes(-size % 8) for size in range(8))
_TASK_TLS = layout.TASK_FIELDS.index("tls")
_GROUP_PACKERS = tuple((name, group.type, group.ends, layout.GROUP_STRUCTS[name]) for name, group in layout.GROUPS.items())


def pack_bits(number: int, content: int, payload: Buffer) -> bytes:
    """An object with the layout of ``struct cpt_obj_bits`` and its payload."""
    size = len(payload)
    pad = _PADS[size & 7]
    return b"".join((layout.BITS.pack(24 + size + len(pad), 24, number, content, size), payload, pad))


def pack_raw(raw: RawObject) -> bytes:
    """An object of a type that this version does not know, as it was."""
    return b"".join((layout.OBJECT_HDR.pack(16 + len(raw.data), raw.hdrlen, raw.type, raw.content), raw.data))


def pack_regs(regs: X86_64Regs | X86Regs, number64: int, number32: int) -> bytes:
    """A register record under one of the two type numbers."""
    if isinstance(regs, X86_64Regs):
        return layout.X86_64_REGS.pack(280, 280, number64, layout.CPT_CONTENT_VOID, *regs[0], *regs[1:])
    return layout.X86_REGS.pack(120, 120, number32, layout.CPT_CONTENT_VOID, *regs[0], *regs[1:])


def _pack_group_prefix(name: str, values: Sequence[int]) -> bytes:
    """A group's record with only its first fields: what an older version wrote."""
    group, whole = layout.GROUPS[name], layout.GROUP_STRUCTS[name]
    hdrlen = group.ends[len(values) - 1] if values else 16
    padded = whole.pack(
        hdrlen + -hdrlen % 8, hdrlen, group.type, layout.CPT_CONTENT_VOID, *values, *[0] * (len(group.ends) - len(values))
    )
    return padded[:hdrlen] + _PADS[hdrlen & 7]


def _pack_exe(path: bytes, build_id: bytes) -> bytes:
    size = len(path) + len(build_id)
    pad = _PADS[size & 7]
    return (
        layout.EXE.pack(24 + size + len(pad), 24, layout.CPT_OBJ_EXE, layout.CPT_CONTENT_NAME, len(path), len(build_id))
        + path
        + build_id
        + pad
    )


def pack_texts(texts: Sequence[str]) -> bytes:
    """NUL-terminated strings, one after the other; a string that has a NUL inside is a ValueError."""
    if not texts:
        return b""
    joined = "\0".join(texts)
    if joined.count("\0") != len(texts) - 1:
        raise ValueError("a NUL inside a string of the image")
    return joined.encode("utf-8", "surrogateescape") + b"\0"


def _pack_pids(levels: Sequence[PidLevel]) -> bytes:
    return b"".join(layout.PID_LEVEL.pack(level, ns, pid) for level, ns, pid in levels)


def _pack_gids(gids: Sequence[int]) -> bytes:
    return b"".join(gid.to_bytes(4, "little") for gid in gids)


def task_objects(image: TaskImage) -> list[bytes]:
    """A task's objects in the order of the format, PROVENANCE apart (it depends on the file so far)."""
    task, ext = image.task, image.ext
    objects = [
        layout.TASK.pack(
            288, 288, layout.CPT_OBJ_TASK, layout.CPT_CONTENT_ARRAY, *task[:_TASK_TLS], *task.tls, *task[_TASK_TLS + 1 :]
        )
    ]
    for name, number, ends, packer in _GROUP_PACKERS:
        values = ext.get(name)
        if values is None:
            continue
        if len(values) == len(ends):
            hdrlen = ends[-1]
            objects.append(
                packer.pack(hdrlen + -hdrlen % 8, hdrlen, number, layout.CPT_CONTENT_VOID, *values) + _PADS[hdrlen & 7]
            )
        else:
            objects.append(_pack_group_prefix(name, values))
    if (levels := ext.get("pids")) is not None:
        objects.append(pack_bits(layout.CPT_OBJ_PIDS, layout.CPT_CONTENT_ARRAY, _pack_pids(levels)))
    if (gids := ext.get("groups")) is not None:
        objects.append(pack_bits(layout.CPT_OBJ_GROUPS, layout.CPT_CONTENT_ARRAY, _pack_gids(gids)))
    if (stack := ext.get("kstack")) is not None:
        objects.append(pack_bits(layout.CPT_OBJ_KSTACK, layout.CPT_CONTENT_NAME, pack_texts(stack)))
    if (cgroup := ext.get("cgroup")) is not None:
        objects.append(pack_bits(layout.CPT_OBJ_CGROUP, layout.CPT_CONTENT_NAME, cgroup))
    if (exe := ext.get("exe")) is not None:
        objects.append(_pack_exe(*exe))
    if (cmdline := ext.get("cmdline")) is not None:
        objects.append(pack_bits(layout.CPT_OBJ_CMDLINE, layout.CPT_CONTENT_NAME, cmdline))
    if (kregs := ext.get("kregs")) is not None:
        objects.append(pack_regs(kregs, layout.CPT_OBJ_KREGS64, layout.CPT_OBJ_KREGS32))
    if (area := ext.get("kfxsave")) is not None:
        objects.append(pack_bits(layout.CPT_OBJ_KBITS, layout.CPT_CONTENT_X86_FPUSTATE, area))
    if (area := ext.get("kxsave")) is not None:
        objects.append(pack_bits(layout.CPT_OBJ_KBITS, layout.CPT_CONTENT_XSAVE, area))
    objects.extend(map(pack_raw, image.unknown))
    if image.fxsave is not None:
        objects.append(pack_bits(layout.CPT_OBJ_BITS, layout.CPT_CONTENT_X86_FPUSTATE, image.fxsave))
    if image.xsave is not None:
        objects.append(pack_bits(layout.CPT_OBJ_BITS, layout.CPT_CONTENT_XSAVE, image.xsave))
    if image.regs is not None:
        objects.append(pack_regs(image.regs, layout.CPT_OBJ_X86_64_REGS, layout.CPT_OBJ_X86_REGS))
    return objects


def _extended(packed: bytes, extra: bytes) -> bytes:
    """An object whose fixed part a later version made longer by ``extra``."""
    length, hdrlen, number, content = layout.OBJECT_HDR.unpack_from(packed)
    body = packed[hdrlen : hdrlen + _payload_size(packed, length, hdrlen, number, content)]
    size = hdrlen + len(extra) + len(body)
    return b"".join(
        (
            layout.OBJECT_HDR.pack(size + -size % 8, hdrlen + len(extra), number, content),
            packed[16:hdrlen],
            extra,
            body,
            _PADS[size & 7],
        )
    )


_SIZED = {
    layout.CPT_OBJ_BITS,
    layout.CPT_OBJ_KBITS,
    layout.CPT_OBJ_PIDS,
    layout.CPT_OBJ_GROUPS,
    layout.CPT_OBJ_KSTACK,
    layout.CPT_OBJ_CGROUP,
    layout.CPT_OBJ_CMDLINE,
}


def _payload_size(packed: bytes, length: int, hdrlen: int, number: int, content: int) -> int:
    """Bytes behind the fixed part, the padding not counted."""
    if number in _SIZED or (number == layout.CPT_OBJ_PROVENANCE and content == layout.CPT_CONTENT_DATA):
        return int(layout.BITS.unpack_from(packed)[4])
    if number == layout.CPT_OBJ_EXE:
        return int(sum(layout.EXE.unpack_from(packed)[4:]))
    if number in {group.type for group in layout.GROUPS.values()}:
        return 0
    return length - hdrlen


class Encoder:
    """Objects of one file, in order. ``offset`` is the number of bytes encoded so far, from the head on."""

    def __init__(self) -> None:
        self.offset = 0
        self.tasks = 0
        self._provenance: dict[bytes, int] = {}
        self._texts: dict[int, tuple[Mapping[str, str], bytes]] = {}  # by the mapping's id: tasks share theirs

    def start(self, head: Head, meta: Meta, unknown: Sequence[RawObject] = ()) -> list[bytes]:
        """The head, META and what stands before the first task."""
        hdrlen = layout.HEAD.size + len(head.extra)
        packed = layout.HEAD.pack(SIGNATURE, hdrlen, *head.version, head.arch, head.time) + head.extra
        return self._emit([packed + _PADS[hdrlen & 7], pack_meta(meta), *map(pack_raw, unknown)])

    def task(self, image: TaskImage) -> list[bytes]:
        """One task's objects."""
        self.tasks += 1
        objects = task_objects(image)
        if image.layout:
            return self._emit(self._placed(image, objects))
        if image.provenance:
            objects.insert(1, self._provenance_object(image, self.offset + len(objects[0])))
        return self._emit(objects)

    def trailer(self, trailer: Trailer) -> bytes:
        """The TRAILER up to its digest, which the caller appends."""
        texts = [text for entry in trailer.entries for text in (str(entry.pid), *entry[1:])]
        payload = pack_texts(texts)
        hdrlen = layout.TRAILER.size + len(trailer.extra)
        size = hdrlen + len(payload)
        length = size + -size % 8 + DIGEST_SIZE
        fixed = layout.TRAILER.pack(
            length,
            hdrlen,
            layout.CPT_OBJ_TRAILER,
            layout.CPT_CONTENT_VOID,
            trailer.tasks,
            trailer.flags,
            len(trailer.entries),
            len(payload),
        )
        packed = b"".join((fixed, trailer.extra, payload, _PADS[size & 7]))
        self.offset += len(packed)
        return packed

    def _emit(self, objects: list[bytes]) -> list[bytes]:
        self.offset += sum(map(len, objects))
        return objects

    def _provenance_object(self, image: TaskImage, offset: int, content: int | None = None) -> bytes:
        """PROVENANCE as text, or as a reference where an earlier task's has the same text."""
        said, text = self._texts.get(id(image.provenance), ({}, b""))
        if said is not image.provenance:
            text = pack_texts([part for pair in image.provenance.items() for part in pair])
            if len(self._texts) >= _TEXTS_KEPT:
                self._texts.clear()
            self._texts[id(image.provenance)] = image.provenance, text
        earlier = self._provenance.setdefault(text, offset)
        if content == layout.CPT_CONTENT_DATA or earlier == offset:
            return pack_bits(layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_DATA, text)
        return layout.REF.pack(24, 24, layout.CPT_OBJ_PROVENANCE, layout.CPT_CONTENT_REF, earlier)

    def _placed(self, image: TaskImage, objects: list[bytes]) -> list[bytes]:
        """A task's objects as the file had them whose layout was not this version's."""
        waiting: dict[bytes, list[bytes]] = {}
        for packed in objects:
            waiting.setdefault(packed[12:16], []).append(packed)
        placed = []
        offset = self.offset
        for number, content, extra in image.layout:
            if number == layout.CPT_OBJ_PROVENANCE and content in (layout.CPT_CONTENT_DATA, layout.CPT_CONTENT_REF):
                packed = self._provenance_object(image, offset, content)
            else:
                same = waiting.get(number.to_bytes(2, "little") + content.to_bytes(2, "little"))
                if not same:
                    raise ValueError("the layout names an object that the task has not")
                packed = same.pop(0)
            placed.append(_extended(packed, extra) if extra else packed)
            offset += len(placed[-1])
        if any(waiting.values()):
            raise ValueError("the task has an object that its layout does not name")
        return placed


def pack_meta(meta: Meta) -> bytes:
    """META with its checksum."""
    strings = pack_texts([part for pair in meta.strings.items() for part in pair])
    components = b"".join(layout.XSTATE_COMPONENT.pack(*component) for component in meta.xstate)
    hdrlen = layout.META.size + len(meta.extra)
    size = hdrlen + len(components) + len(strings)
    packed = bytearray(
        layout.META.pack(
            size + -size % 8,
            hdrlen,
            layout.CPT_OBJ_META,
            layout.CPT_CONTENT_VOID,
            *meta[: Meta._fields.index("xstate")],
            len(meta.xstate),
            len(strings),
            0,
        )
    )
    packed += b"".join((meta.extra, components, strings, _PADS[size & 7]))
    packed[META_CRC_OFFSET : META_CRC_OFFSET + 4] = crc32(packed).to_bytes(4, "little")
    return bytes(packed)
