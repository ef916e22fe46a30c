"""From JSON back to an image. What comes in was perhaps edited by hand: every mistake is named with its place."""

from collections.abc import Callable, Iterable, Mapping
from struct import error as StructError  # noqa: N812
from typing import Any, NoReturn

from cptbpf import fields
from cptbpf.errors import ImageError, TargetError
from cptbpf.image.model import (
    CertificateEntry,
    Exe,
    Head,
    Image,
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
from cptbpf.image.provenance import is_absent, source_of
from cptbpf.image.reader import parse
from cptbpf.image.tojson import CERTIFICATES, FREEZES, GROUP_NAMES, KINDS, REGISTERS
from cptbpf.image.writer import encode_image


def from_json(document: object) -> Image:
    """Make an image of what :func:`cptbpf.image.tojson.to_json` gave, or of an edited copy.

    Digest and checksums are made anew. Raises :class:`~cptbpf.errors.TargetError` with the place of the first mistake.
    """
    top = _object(document, "the document", ("head", "meta", "tasks", "trailer"), ("unknown",))
    image = Image(
        _head(top["head"]),
        _meta(top["meta"]),
        tuple(_task(value, f"tasks[{at}]") for at, value in enumerate(_list(top["tasks"], "tasks"))),
        _trailer(top["trailer"]),
        _raw(top.get("unknown", []), "unknown"),
    )
    try:
        return parse(encode_image(image))  # nothing is written that the reader would refuse
    except (StructError, ValueError, OverflowError) as error:
        raise TargetError(f"not the JSON of an image: {error}") from error
    except ImageError as error:
        raise TargetError(f"the JSON does not make an image: {error}") from error


def _wrong(where: str, what: str) -> NoReturn:
    raise TargetError(f"not the JSON of an image: {where} {what}")


def _object(value: object, where: str, keys: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """A JSON object that has all of ``keys`` and nothing beside them but ``optional``."""
    if not isinstance(value, dict):
        _wrong(where, "is not an object")
    required = set(keys)
    if missing := required - value.keys():
        _wrong(where, f"lacks {min(missing)!r}")
    if more := value.keys() - required - set(optional):
        _wrong(where, f"has an unknown key {min(more)!a}")
    return value


def _list(value: object, where: str, count: int | None = None) -> list[Any]:
    if not isinstance(value, list):
        _wrong(where, "is not an array")
    if count is not None and len(value) != count:
        _wrong(where, f"has {len(value)} elements, not {count}")
    return value


def _int(value: object, where: str, bits: int = 64, signed: bool = False) -> int:
    """A number, or a ``"0x…"`` string, that fits."""
    if isinstance(value, str) and value.startswith("0x") and len(value) <= 18:
        try:
            value = int(value, 16)
        except ValueError:
            _wrong(where, "is not a number")
    if isinstance(value, bool) or not isinstance(value, int):
        _wrong(where, "is not a number")
    low = -(1 << bits - 1) if signed else 0
    if not low <= value < low + (1 << bits):
        _wrong(where, f"does not fit into {bits} bits")
    return value


def _choice(value: object, where: str, names: tuple[str, ...]) -> int:
    return names.index(value) if isinstance(value, str) and value in names else _int(value, where, 32)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        _wrong(where, "is not a string")
    return value


def _bytes(value: object, where: str) -> bytes:
    """The bytes of a string that :func:`cptbpf.image.tojson.text` made."""
    try:
        return _text(value, where).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        _wrong(where, "has a surrogate that stands for no byte")


def _hex(value: object, where: str) -> bytes:
    try:
        return bytes.fromhex(_text(value, where))
    except ValueError:
        _wrong(where, "is not hexadecimal")


def _area(value: object, where: str) -> bytes | None:
    return None if value is None else _hex(value, where)


def _texts(value: object, where: str) -> dict[str, str]:
    """An object of strings."""
    if not isinstance(value, dict):
        _wrong(where, "is not an object")
    for key, part in value.items():
        _bytes(key, where)
        _bytes(part, f"{where}.{key!a}")
    return value


def _head(value: object) -> Head:
    names = ("image_major", "image_minor", "image_sublevel", "image_extra")
    head = _object(value, "head", (*names, "arch", "time"), ("extra",))
    major, minor, sublevel, extra = (_int(head[name], f"head.{name}", 16) for name in names)
    version = (major, minor, sublevel, extra)
    return Head(
        _int(head["time"], "head.time"), _int(head["arch"], "head.arch", 16), version, _hex(head.get("extra", ""), "head.extra")
    )


def _meta(value: object) -> Meta:
    names = Meta._fields[: Meta._fields.index("xstate")]
    meta = _object(value, "meta", (*names, "xstate", "strings"), ("extra",))
    named = {"kind": KINDS, "freeze": FREEZES, "registers": REGISTERS}
    numbers = [
        _choice(meta[name], f"meta.{name}", named[name])
        if name in named
        else _int(meta[name], f"meta.{name}", 64 if name in ("realtime", "monotonic", "boottime") else 32)
        for name in names
    ]
    components = tuple(
        XstateComponent._make(_ints(part, f"meta.xstate[{at}]", XstateComponent._fields))
        for at, part in enumerate(_list(meta["xstate"], "meta.xstate"))
    )
    return Meta._make(
        (*numbers, components, _texts(meta["strings"], "meta.strings"), _hex(meta.get("extra", ""), "meta.extra"))
    )


def _ints(value: object, where: str, names: tuple[str, ...]) -> list[int]:
    """An object of 32-bit numbers, in the order of ``names``."""
    part = _object(value, where, names)
    return [_int(part[name], f"{where}.{name}", 32) for name in names]


def _trailer(value: object) -> Trailer:
    trailer = _object(value, "trailer", ("tasks", "certificate", "entries"), ("digest", "extra"))
    entries = []
    for at, part in enumerate(_list(trailer["entries"], "trailer.entries")):
        where = f"trailer.entries[{at}]"
        entry = _object(part, where, CertificateEntry._fields)
        pid = _int(entry["pid"], f"{where}.pid")
        entries.append(CertificateEntry(pid, *(_text(entry[name], f"{where}.{name}") for name in CertificateEntry._fields[1:])))
    return Trailer(
        _int(trailer["tasks"], "trailer.tasks", 32),
        _choice(trailer["certificate"], "trailer.certificate", CERTIFICATES),
        tuple(entries),
        _hex(trailer.get("extra", ""), "trailer.extra"),
    )


def _raw(value: object, where: str) -> tuple[RawObject, ...]:
    objects = []
    for at, part in enumerate(_list(value, where)):
        spot = f"{where}[{at}]"
        raw = _object(part, spot, RawObject._fields)
        number, content = (_int(raw[name], f"{spot}.{name}", 16) for name in ("type", "content"))
        data = _hex(raw["data"], f"{spot}.data")
        objects.append(RawObject(number, content, _int(raw["hdrlen"], f"{spot}.hdrlen", 32), data))
    return tuple(objects)


def _task(value: object, where: str) -> TaskImage:
    task = _object(value, where, ("task", "regs", "fpu", "ext", "provenance"), ("unknown", "layout"))
    provenance = _texts(task["provenance"], f"{where}.provenance")
    fpu = _object(task["fpu"], f"{where}.fpu", ("fxsave", "xsave"))
    return TaskImage(
        _record(task["task"], f"{where}.task", provenance),
        None if task["regs"] is None else _regs(task["regs"], f"{where}.regs"),
        _area(fpu["fxsave"], f"{where}.fpu.fxsave"),
        _area(fpu["xsave"], f"{where}.fpu.xsave"),
        _ext(task["ext"], f"{where}.ext", provenance),
        provenance,
        _raw(task.get("unknown", []), f"{where}.unknown"),
        tuple(
            _placed(part, f"{where}.layout[{at}]") for at, part in enumerate(_list(task.get("layout", []), f"{where}.layout"))
        ),
    )


def _placed(value: object, where: str) -> Placed:
    placed = _object(value, where, ("type", "content"), ("extra",))
    number, content = (_int(placed[name], f"{where}.{name}", 16) for name in ("type", "content"))
    return Placed(number, content, _hex(placed.get("extra", ""), f"{where}.extra"))


_EMPTY: dict[str, Any] = {"char[16]": bytes(16), "u64[3]": (0, 0, 0)}


def _field(value: object, where: str, provenance: Mapping[str, str], field: fields.Field) -> Any:
    """A field of the catalogue; null only where the provenance calls it absent."""
    if value is None:
        if not is_absent(source_of(provenance, field.group, field.name)):
            _wrong(where, "is null, and no provenance says why it is absent")
        return _EMPTY.get(field.ctype, 0)
    if field.ctype == "char[16]":
        comm = _bytes(value, where)
        if len(comm) > 16:
            _wrong(where, "is longer than 16 bytes")
        return comm.ljust(16, b"\0")
    if field.ctype == "u64[3]":
        return tuple(_int(part, where) for part in _list(value, where, 3))
    return _int(value, where, 64 if field.ctype == "u64" else 32, field.ctype == "s32")


def _record(value: object, where: str, provenance: Mapping[str, str]) -> TaskRecord:
    record = _object(value, where, TaskRecord._fields)
    return TaskRecord._make(
        _field(record[field.name], f"{where}.{field.name}", provenance, field) for field in fields.group("task")
    )


def _regs(value: object, where: str) -> X86_64Regs | X86Regs:
    kind: type[X86_64Regs] | type[X86Regs] = X86_64Regs if isinstance(value, dict) and "rip" in value else X86Regs
    regs = _object(value, where, kind._fields)
    wide = kind is X86_64Regs
    narrow = {"fsindex", "gsindex", "ds", "es"}
    debugreg = tuple(
        _int(part, f"{where}.debugreg", 64 if wide else 32) for part in _list(regs["debugreg"], f"{where}.debugreg", 8)
    )
    rest = (_int(regs[name], f"{where}.{name}", 64 if wide and name not in narrow else 32) for name in kind._fields[1:])
    return kind._make((debugreg, *rest))


def _group(value: object, where: str, name: str, provenance: Mapping[str, str]) -> tuple[int, ...]:
    """A group of the catalogue: all its fields, or the first ones where an older version wrote it."""
    known = fields.group(name)
    group = _object(value, where, (), [field.name for field in known])
    present = known[: len(group)]
    _object(value, where, [field.name for field in present])
    return tuple(_field(group[field.name], f"{where}.{field.name}", provenance, field) for field in present)


def _pids(value: object, where: str) -> tuple[PidLevel, ...]:
    levels = enumerate(_list(value, where))
    return tuple(PidLevel._make(_ints(part, f"{where}[{at}]", PidLevel._fields)) for at, part in levels)


def _gids(value: object, where: str) -> tuple[int, ...]:
    return tuple(_int(part, f"{where}[{at}]", 32) for at, part in enumerate(_list(value, where)))


def _kstack(value: object, where: str) -> tuple[str, ...]:
    return tuple(_text(part, f"{where}[{at}]") for at, part in enumerate(_list(value, where)))


def _exe(value: object, where: str) -> Exe:
    exe = _object(value, where, Exe._fields)
    return Exe(_bytes(exe["path"], f"{where}.path"), _hex(exe["build_id"], f"{where}.build_id"))


_EXTENSIONS: dict[str, Callable[[object, str], Any]] = {
    "pids": _pids,
    "groups": _gids,
    "kstack": _kstack,
    "cgroup": _bytes,
    "exe": _exe,
    "cmdline": _bytes,
    "kregs": _regs,
    "kfxsave": _hex,
    "kxsave": _hex,
}


def _ext(value: object, where: str, provenance: Mapping[str, str]) -> dict[str, Any]:
    ext = _object(value, where, (), (*GROUP_NAMES, *_EXTENSIONS))
    return {
        name: _EXTENSIONS[name](part, f"{where}.{name}")
        if name in _EXTENSIONS
        else _group(part, f"{where}.{name}", name, provenance)
        for name, part in ext.items()
    }
