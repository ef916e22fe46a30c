"""Every record of the cpt format, declared once, with the names of the OpenVZ patch.

:func:`render_layout` turns the declarations into ``layout.py`` (plain :mod:`struct` formats), so that what packs and
unpacks tasks needs no construct; ``tools/generate`` writes that file and a test holds it current.
"""

from collections.abc import Iterator
from typing import Any

from construct import Array, Bytes, Const, Enum, FormatField, Int16ul, Int32sl, Int32ul, Int64ul, Renamed, Struct

from cptbpf import fields

#: One object type for each group of the catalogue. A number is never given to another group.
GROUP_TYPES: dict[str, int] = {
    "host": 0x2010,
    "cred": 0x2011,
    "sched": 0x2012,
    "signal": 0x2013,
    "io": 0x2014,
    "ns": 0x2015,
    "mm": 0x2016,
}

OBJECT_TYPES: dict[str, int] = {
    "CPT_OBJ_TASK": 0,
    "CPT_OBJ_HEAD": 1024,
    "CPT_OBJ_X86_REGS": 1025,
    "CPT_OBJ_BITS": 1026,
    "CPT_OBJ_X86_64_REGS": 4097,
    "CPT_OBJ_META": 0x2000,
    "CPT_OBJ_TRAILER": 0x2001,
    **{f"CPT_OBJ_{name.upper()}": number for name, number in GROUP_TYPES.items()},
    "CPT_OBJ_PIDS": 0x2020,
    "CPT_OBJ_GROUPS": 0x2021,
    "CPT_OBJ_KSTACK": 0x2022,
    "CPT_OBJ_CGROUP": 0x2023,
    "CPT_OBJ_EXE": 0x2024,
    "CPT_OBJ_CMDLINE": 0x2025,
    "CPT_OBJ_PROVENANCE": 0x2026,
    "CPT_OBJ_KREGS64": 0x2027,
    "CPT_OBJ_KREGS32": 0x2028,
    "CPT_OBJ_KBITS": 0x2029,
    # 0x2040-0x204f: recordings
    "CPT_OBJ_SAMPLE": 0x2040,
    "CPT_OBJ_DELTA": 0x2041,
    "CPT_OBJ_EVENT": 0x2042,
    "CPT_OBJ_CHECK": 0x2043,
}

CONTENT_TYPES: dict[str, int] = {
    "CPT_CONTENT_VOID": 0,
    "CPT_CONTENT_ARRAY": 1,
    "CPT_CONTENT_DATA": 2,
    "CPT_CONTENT_NAME": 3,
    "CPT_CONTENT_REF": 4,
    "CPT_CONTENT_X86_FPUSTATE": 5,
    "CPT_CONTENT_X86_FPUSTATE_OLD": 6,
    "CPT_CONTENT_XSAVE": 11,
}

HEADER = (
    "cpt_len" / Int64ul,
    "cpt_hdrlen" / Int32ul,
    "cpt_type" / Enum(Int16ul, **OBJECT_TYPES),
    "cpt_content" / Enum(Int16ul, **CONTENT_TYPES),
)


def _pad(name: str = "__cpt_pad1", of: Any = Int32ul) -> Renamed:
    """Bytes that are written zero and refused when they are not."""
    return name / Const(0, of)


def _many(ctype: Any, names: str) -> tuple[Renamed, ...]:
    return tuple(f"cpt_{name}" / ctype for name in names.split())


CPT_HEAD = Struct(
    "cpt_signature" / Bytes(4),
    "cpt_hdrlen" / Int32ul,
    *_many(Int16ul, "image_major image_minor image_sublevel image_extra arch"),
    _pad("__cpt_pad1", Int16ul),
    _pad("__cpt_pad2", Int32ul),
    "cpt_time" / Int64ul,
)

CPT_OBJECT_HDR = Struct(*HEADER)

CPT_TASK_IMAGE = Struct(
    *HEADER,
    *_many(Int64ul, "state flags thrflags thrstatus"),
    *_many(Int32ul, "pid tgid ppid rppid pgrp session old_pgrp leader"),
    *_many(Int64ul, "set_tid clear_tid"),
    *_many(Int32ul, "exit_code exit_signal pdeath_signal user uid euid suid fsuid gid egid sgid fsgid"),
    "cpt_comm" / Bytes(16),
    "cpt_tls" / Array(3, Int64ul),
    *_many(Int64ul, "utime stime utimescaled stimescaled gtime prev_utime prev_stime start_time real_start_time"),
    *_many(Int64ul, "nvcsw nivcsw min_flt maj_flt"),
)

CPT_OBJ_BITS = Struct(*HEADER, "cpt_size" / Int32ul, _pad())

CPT_X86_REGS = Struct(
    *HEADER,
    "cpt_debugreg" / Array(8, Int32ul),
    *_many(Int32ul, "gs bx cx dx si di bp ax ds es fs orig_ax ip cs flags sp ss"),
    _pad(),
)

CPT_X86_64_REGS = Struct(
    *HEADER,
    "cpt_debugreg" / Array(8, Int64ul),
    *_many(Int64ul, "fsbase gsbase"),
    *_many(Int32ul, "fsindex gsindex ds es"),
    *_many(Int64ul, "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss"),
)

CPT_META = Struct(
    *HEADER,
    *_many(Int32ul, "kind pid_ns pid_ns_level user_ns"),
    *_many(Int64ul, "realtime monotonic boottime"),
    *_many(Int32ul, "hz user_hz page_size freeze registers xstate_size xstate_count strings_size crc32"),
    _pad(),
)
CPT_XSTATE_COMPONENT = Struct(*_many(Int32ul, "number offset size flags"))

CPT_TRAILER = Struct(*HEADER, *_many(Int32ul, "tasks flags entries text_size"))

CPT_SAMPLE = Struct(*HEADER, *_many(Int64ul, "size time until realtime"), *_many(Int32ul, "kind tasks alive crc32"))
CPT_DELTA = Struct(*HEADER, *_many(Int32ul, "size entries"))
CPT_EVENT = Struct(
    *HEADER, *_many(Int32ul, "kind flags"), "cpt_time" / Int64ul, *_many(Int32ul, "slot old_pid"), "cpt_lost" / Int64ul
)
CPT_CHECK = Struct(*HEADER, "cpt_crc32" / Int32ul, _pad())

CPT_PID_LEVEL = Struct(*_many(Int32ul, "level ns pid"), _pad())
CPT_EXE = Struct(*HEADER, *_many(Int32ul, "path_size build_id_size"))
CPT_REF = Struct(*HEADER, "cpt_ref" / Int64ul)

_CTYPES: dict[str, tuple[Any, int]] = {"u32": (Int32ul, 4), "s32": (Int32sl, 4), "u64": (Int64ul, 8)}


def _group_record(name: str) -> Struct:
    """The record of one group of the catalogue: natural alignment, ``cpt_hdrlen`` ends with the last field."""
    members: list[Any] = list(HEADER)
    offset = 16
    for field in fields.group(name):
        ctype, size = _CTYPES[field.ctype]
        if offset % size:
            members.append(_pad(f"__cpt_pad{offset}"))
            offset += 4
        members.append(f"cpt_{field.name}" / ctype)
        offset += size
    return Struct(*members)


GROUP_RECORDS: dict[str, Struct] = {name: _group_record(name) for name in GROUP_TYPES}

RECORDS: dict[str, Struct] = {
    "HEAD": CPT_HEAD,
    "OBJECT_HDR": CPT_OBJECT_HDR,
    "TASK": CPT_TASK_IMAGE,
    "BITS": CPT_OBJ_BITS,
    "X86_REGS": CPT_X86_REGS,
    "X86_64_REGS": CPT_X86_64_REGS,
    "META": CPT_META,
    "XSTATE_COMPONENT": CPT_XSTATE_COMPONENT,
    "TRAILER": CPT_TRAILER,
    "PID_LEVEL": CPT_PID_LEVEL,
    "EXE": CPT_EXE,
    "REF": CPT_REF,
    "SAMPLE": CPT_SAMPLE,
    "DELTA": CPT_DELTA,
    "EVENT": CPT_EVENT,
    "CHECK": CPT_CHECK,
}


def _code(subcon: Any) -> str:
    """The :mod:`struct` format of one construct field."""
    if isinstance(subcon, (Renamed, Enum)):
        return _code(subcon.subcon)
    if isinstance(subcon, FormatField):
        return str(subcon.fmtstr)[1:]
    if isinstance(subcon, Bytes):
        return f"{subcon.length}s"
    if isinstance(subcon, Array):
        return f"{subcon.count}{_code(subcon.subcon)}"
    if isinstance(subcon, Const):
        return f"{subcon.sizeof()}x"
    raise TypeError(f"no struct format for {subcon!r}")


def members(record: Struct) -> Iterator[tuple[int, int, str, str]]:
    """Yield ``(offset, size, name, struct format)`` for each member of a record, pads included."""
    offset = 0
    for subcon in record.subcons:
        size = subcon.sizeof()
        yield offset, size, subcon.name, _code(subcon)
        offset += size


def _format(record: Struct) -> str:
    return "<" + "".join(code for _, _, _, code in members(record))


def own_members(record: Struct) -> list[tuple[int, int, str, str]]:
    """The members of a record that carry a value of their own: neither its object header nor its pads."""
    header = {subcon.name for subcon in HEADER}
    return [member for member in members(record) if member[2] not in header and not member[2].startswith("__")]


def _wrapped(items: list[str], indent: str, width: int = 128) -> list[str]:
    lines, line = [], indent
    for item in items:
        if len(line) + len(item) + 1 > width:
            lines.append(line.rstrip())
            line = indent
        line += f"{item}, "
    return [*lines, line.rstrip()]


def _group_lines(name: str, number: int) -> list[str]:
    own = own_members(GROUP_RECORDS[name])
    ends = [f"{offset + size}" for offset, size, _, _ in own]
    return [
        f'    "{name}": Group(',
        f"        {number:#06x},",
        f'        "{_format(GROUP_RECORDS[name])}",',
        "        (",
        *_wrapped([f'"{member[2].removeprefix("cpt_")}"' for member in own], " " * 12),
        "        ),",
        "        (",
        *_wrapped(ends, " " * 12),
        "        ),",
        "    ),",
    ]


def render_layout() -> str:
    """The text of ``cptbpf/image/layout.py``."""
    lines = [
        '"""Struct formats of the cpt format. Generated by tools/generate from records.py: do not edit."""',
        "",
        "# fmt: off",
        "",
        "from struct import Struct",
        "from typing import NamedTuple",
        "",
        *(f"{name} = {number:#06x}" for name, number in OBJECT_TYPES.items()),
        "",
        *(f"{name} = {number}" for name, number in CONTENT_TYPES.items()),
        "",
    ]
    for name, record in RECORDS.items():
        lines.append(f'{name} = Struct("{_format(record)}")')
    for name in ("TASK", "X86_REGS", "X86_64_REGS"):
        names = [f'"{member[2].removeprefix("cpt_")}"' for member in own_members(RECORDS[name])]
        lines += ["", f"{name}_FIELDS = (", *_wrapped(names, "    "), ")"]
    lines += [
        "",
        "",
        "class Group(NamedTuple):",
        '    """The record of one group of the catalogue: a field is there when its end is within cpt_hdrlen."""',
        "",
        "    type: int",
        "    format: str",
        "    fields: tuple[str, ...]",
        "    ends: tuple[int, ...]",
        "",
        "",
        "GROUPS: dict[str, Group] = {",
    ]
    for name, number in GROUP_TYPES.items():
        lines += _group_lines(name, number)
    lines += ["}", "GROUP_STRUCTS: dict[str, Struct] = {name: Struct(group.format) for name, group in GROUPS.items()}"]
    return "\n".join(lines) + "\n"
