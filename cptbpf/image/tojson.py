"""An image as JSON: everything in it, so that :mod:`cptbpf.image.fromjson` can make the same bytes of it again.

Masks, addresses, registers and ``sec << 32`` times are ``"0x…"`` strings, other integers numbers. Strings of a task are text
with the bytes that are not UTF-8 as surrogate escapes; comm loses only the NULs at its end. A value that the image says is
absent is null.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from cptbpf import fields
from cptbpf.image.model import (
    EMPTY,
    Head,
    Image,
    Meta,
    Placed,
    RawObject,
    TaskImage,
    TaskRecord,
    Trailer,
    X86_64Regs,
    X86Regs,
)
from cptbpf.image.provenance import is_absent, source_of

KINDS = ("image", "recording")
FREEZES = ("none", "ptrace")
REGISTERS = ("none", "ptrace", "bpf")
CERTIFICATES = ("none", "consistent", "moved")

GROUP_NAMES = tuple(name for name in fields.GROUPS if name != "task")
HEX_FIELDS = {name: tuple(field.hex for field in fields.group(name)) for name in fields.GROUPS}
FIELD_NAMES = {name: tuple(field.name for field in fields.group(name)) for name in fields.GROUPS}


def text(data: bytes) -> str:
    """Bytes of a task as a string; :func:`str.encode` with surrogateescape gives them back."""
    return data.decode("utf-8", "surrogateescape")


def to_json(image: Image) -> dict[str, Any]:
    """The whole image as what :func:`json.dumps` takes."""
    shown: dict[str, Any] = {
        "head": _head(image.head),
        "meta": _meta(image.meta),
        "tasks": [task_to_json(task) for task in image.tasks],
        "trailer": _trailer(image.trailer),
    }
    if image.unknown:
        shown["unknown"] = _raw(image.unknown)
    return shown


def task_to_json(image: TaskImage) -> dict[str, Any]:
    """One task: ``task``, ``regs``, ``fpu``, ``ext``, ``provenance``, and ``unknown`` and ``layout`` where there is any."""
    shown: dict[str, Any] = {
        "task": _record(image),
        "regs": None if image.regs is None else _regs(image.regs),
        "fpu": {
            "fxsave": None if image.fxsave is None else image.fxsave.hex(),
            "xsave": None if image.xsave is None else image.xsave.hex(),
        },
        "ext": _ext(image),
        "provenance": dict(image.provenance),
    }
    if image.unknown:
        shown["unknown"] = _raw(image.unknown)
    if image.layout:
        shown["layout"] = [_placed(placed) for placed in image.layout]
    return shown


def _named(names: tuple[str, ...], number: int) -> str | int:
    return names[number] if number < len(names) else number


def _with_extra(shown: dict[str, Any], extra: bytes) -> dict[str, Any]:
    return {**shown, "extra": extra.hex()} if extra else shown


def _head(head: Head) -> dict[str, Any]:
    names = ("image_major", "image_minor", "image_sublevel", "image_extra")
    shown = {**dict(zip(names, head.version, strict=True)), "arch": head.arch, "time": hex(head.time)}
    return _with_extra(shown, head.extra)


def _meta(meta: Meta) -> dict[str, Any]:
    shown: dict[str, Any] = meta._asdict()
    del shown["extra"]
    shown["kind"] = _named(KINDS, meta.kind)
    shown["freeze"] = _named(FREEZES, meta.freeze)
    shown["registers"] = _named(REGISTERS, meta.registers)
    for clock in ("realtime", "monotonic", "boottime"):
        shown[clock] = hex(shown[clock])
    shown["xstate"] = [component._asdict() for component in meta.xstate]
    shown["strings"] = dict(meta.strings)
    return _with_extra(shown, meta.extra)


def _trailer(trailer: Trailer) -> dict[str, Any]:
    shown = {
        "tasks": trailer.tasks,
        "certificate": _named(CERTIFICATES, trailer.flags),
        "entries": [entry._asdict() for entry in trailer.entries],
        "digest": trailer.digest.hex(),
    }
    return _with_extra(shown, trailer.extra)


def _raw(objects: Iterable[RawObject]) -> list[dict[str, Any]]:
    return [{"type": raw.type, "content": raw.content, "hdrlen": raw.hdrlen, "data": raw.data.hex()} for raw in objects]


def _placed(placed: Placed) -> dict[str, Any]:
    return _with_extra({"type": placed.type, "content": placed.content}, placed.extra)


def _numbers(group: str, values: Iterable[Any], provenance: Mapping[str, str]) -> dict[str, Any]:
    """A group's fields by name. A 0 that the image calls absent is null."""
    shown: dict[str, Any] = {}
    for name, is_hex, value in zip(FIELD_NAMES[group], HEX_FIELDS[group], values, strict=False):
        if value in EMPTY and is_absent(source_of(provenance, group, name)):
            shown[name] = None
        else:
            shown[name] = hex(value) if is_hex and isinstance(value, int) else value
    return shown


def _record(image: TaskImage) -> dict[str, Any]:
    record: TaskRecord = image.task
    shown = _numbers("task", record, image.provenance)
    if shown["comm"] is not None:
        shown["comm"] = text(record.comm.rstrip(b"\0"))
    if shown["tls"] is not None:
        shown["tls"] = [hex(descriptor) for descriptor in record.tls]
    return shown


def _regs(regs: X86_64Regs | X86Regs) -> dict[str, Any]:
    debugreg, *rest = regs
    return {
        "debugreg": [hex(value) for value in debugreg],
        **{name: hex(value) for name, value in zip(regs._fields[1:], rest, strict=True)},
    }


def _ext(image: TaskImage) -> dict[str, Any]:
    ext = image.ext
    shown: dict[str, Any] = {name: _numbers(name, ext[name], image.provenance) for name in GROUP_NAMES if name in ext}
    if "pids" in ext:
        shown["pids"] = [level._asdict() for level in ext["pids"]]
    if "groups" in ext:
        shown["groups"] = list(ext["groups"])
    if "kstack" in ext:
        shown["kstack"] = list(ext["kstack"])
    for name in ("cgroup", "cmdline"):
        if name in ext:
            shown[name] = text(ext[name])
    if "exe" in ext:
        shown["exe"] = {"path": text(ext["exe"].path), "build_id": ext["exe"].build_id.hex()}
    if "kregs" in ext:
        shown["kregs"] = _regs(ext["kregs"])
    for name in ("kfxsave", "kxsave"):
        if name in ext:
            shown[name] = ext[name].hex()
    return shown
