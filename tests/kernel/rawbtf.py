"""The kernel's BTF, read without libbpf: a witness for what cptbpf makes of it."""

import struct
from pathlib import Path
from typing import NamedTuple

_STRUCT, _UNION = 4, 5
# bytes behind struct btf_type: of one element, by kind, or a fixed number
_PER_ELEMENT = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
_FIXED = {1: 4, 3: 12, 14: 4, 17: 4}


class Struct(NamedTuple):
    """Its size, and the bit offsets of its members by name, those of anonymous members included, without bit-fields."""

    size: int
    members: dict[str, int]


def structs(path: str = "/sys/kernel/btf/vmlinux") -> dict[str, Struct]:
    """Every named struct and union."""
    blob = Path(path).read_bytes()
    magic, _, _, head, type_at, type_size, text_at, text_size = struct.unpack_from("<HBBIIIII", blob)
    assert magic == 0xEB9F
    text = blob[head + text_at : head + text_at + text_size]
    types: list[tuple[int, int, int, int]] = [(0, 0, 0, 0)]  # name, info, size or type, where its tail is
    at, end = head + type_at, head + type_at + type_size
    while at < end:
        name, info, size = struct.unpack_from("<III", blob, at)
        at += 12
        types.append((name, info, size, at))
        kind, count = info >> 24 & 0x1F, info & 0xFFFF
        at += _PER_ELEMENT[kind] * count if kind in _PER_ELEMENT else _FIXED.get(kind, 0)

    def named(offset: int) -> str:
        return text[offset : text.index(b"\0", offset)].decode()

    def members(number: int, base: int) -> dict[str, int]:
        _, info, _, tail = types[number]
        found: dict[str, int] = {}
        for index in range(info & 0xFFFF):
            name, target, offset = struct.unpack_from("<III", blob, tail + 12 * index)
            if info >> 31:
                if offset >> 24:
                    continue
                offset &= 0xFFFFFF
            if name:
                found.setdefault(named(name), base + offset)
                continue
            while (kind := types[target][1] >> 24 & 0x1F) in (9, 10, 11, 18):  # const, volatile, restrict, tag
                target = types[target][2]
            if kind in (_STRUCT, _UNION):
                found |= {key: value for key, value in members(target, base + offset).items() if key not in found}
        return found

    result: dict[str, Struct] = {}
    for number, (name, info, size, _) in enumerate(types):
        if name and info >> 24 & 0x1F in (_STRUCT, _UNION) and named(name) not in result:
            result[named(name)] = Struct(size, members(number, 0) if info & 0xFFFF else {})
    return result
