"""A compiled program set as plain data: what the worker hands over, and what is kept to load again without a compiler."""

import json
import struct
from collections.abc import Mapping
from typing import NamedTuple

_INSTRUCTION = struct.Struct("=BBhi")
_LD_IMM64 = 0x18
_PSEUDO_MAP_FD = 1  # BPF_PSEUDO_MAP_FD, as src_reg


class MapObject(NamedTuple):
    """A map to be made: the words of bpf(2)'s BPF_MAP_CREATE."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int


class ProgramObject(NamedTuple):
    """A program's instructions, and at which of them a map's descriptor belongs."""

    name: str
    code: bytes
    relocations: tuple[tuple[int, str], ...]


class Objects(NamedTuple):
    """One compiled variant of a set."""

    variant: str
    maps: tuple[MapObject, ...]
    programs: tuple[ProgramObject, ...]


def extract(name: str, code: bytes, maps: Mapping[int, str]) -> ProgramObject:
    """A program as BCC made it; ``maps`` are the names by the descriptors that its instructions hold.

    Raises ValueError for a descriptor that is no map of the set.
    """
    relocations = []
    for index in range(len(code) // 8):
        opcode, registers, _, number = _INSTRUCTION.unpack_from(code, index * 8)
        if opcode == _LD_IMM64 and registers >> 4 == _PSEUDO_MAP_FD:
            if number not in maps:
                raise ValueError(f"{name} refers to descriptor {number}, which is no map of its set")
            relocations.append((index, maps[number]))
    return ProgramObject(name, code, tuple(relocations))


def relocated(program: ProgramObject, descriptors: Mapping[str, int]) -> bytes:
    """The instructions with this process's descriptors of the maps in their places."""
    code = bytearray(program.code)
    for index, name in program.relocations:
        struct.pack_into("=i", code, index * 8 + 4, descriptors[name])
    return bytes(code)


def dump(objects: Objects) -> bytes:
    """A set as bytes."""
    programs = [[name, code.hex(), relocations] for name, code, relocations in objects.programs]
    return json.dumps({"variant": objects.variant, "maps": objects.maps, "programs": programs}).encode()


def parse(data: bytes) -> Objects:
    """The set in bytes that :func:`dump` made. Raises ValueError, TypeError or KeyError where it did not."""
    raw = json.loads(data)
    programs = (
        ProgramObject(name, bytes.fromhex(code), tuple((int(index), str(target)) for index, target in relocations))
        for name, code, relocations in raw["programs"]
    )
    return Objects(raw["variant"], tuple(MapObject(*fields) for fields in raw["maps"]), tuple(programs))
