"""Arbitrary images for hypothesis, and a small one whose every value differs."""

from collections.abc import Callable
from hashlib import sha256
from struct import Struct
from typing import Any

from hypothesis import strategies as st

from cptbpf.image import layout
from cptbpf.image.model import (
    CertificateEntry,
    Exe,
    Head,
    Image,
    Meta,
    PidLevel,
    RawObject,
    TaskImage,
    TaskRecord,
    Trailer,
    X86_64Regs,
    X86Regs,
    XstateComponent,
)

_u16, _u32, _u64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))

# As a reader sees bytes of a task: text, or surrogate escapes for what is not UTF-8.
_texts = st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
_mappings = st.dictionaries(_texts, _texts, max_size=4)


def _record(packer: Struct, make: Callable[[tuple[Any, ...]], Any]) -> st.SearchStrategy[Any]:
    """A record from arbitrary bytes: far faster than one strategy for each field."""
    size = packer.size - 16
    return st.binary(min_size=size, max_size=size).map(lambda data: make(packer.unpack(bytes(16) + data)[4:]))


def _group_values(name: str) -> st.SearchStrategy[tuple[Any, ...]]:
    """The fields of one group, some of the last ones missing as an older version would leave them."""
    whole = _record(layout.GROUP_STRUCTS[name], tuple)
    return st.one_of(
        whole, st.tuples(whole, st.integers(0, len(layout.GROUPS[name].fields))).map(lambda pair: pair[0][: pair[1]])
    )


def _area(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=1, max_size=16).map(lambda seed: (seed * size)[:size])


_records = _record(layout.TASK, lambda values: TaskRecord._make((*values[:27], values[27:30], *values[30:])))
_regs64 = _record(layout.X86_64_REGS, lambda values: X86_64Regs._make((values[:8], *values[8:])))
_regs32 = _record(layout.X86_REGS, lambda values: X86Regs._make((values[:8], *values[8:])))
_regs = st.one_of(_regs64, _regs32)
_fxsave = _area(512)
_xsave = st.integers(576, 900).flatmap(_area)
_raw = st.builds(
    lambda number, content, data, fixed: RawObject(number, content, 16 + min(fixed, len(data)), data),
    st.integers(0x2100, 0x2FFF),
    _u16,
    st.binary(max_size=24).map(lambda data: data + bytes(-len(data) % 8)),
    st.integers(0, 24),
)
_unknown = st.lists(_raw, max_size=2).map(tuple)

_ext = st.fixed_dictionaries(
    {},
    optional={
        **{name: _group_values(name) for name in layout.GROUPS},
        "pids": st.lists(st.tuples(_u32, _u32, _u32).map(PidLevel._make), max_size=3).map(tuple),
        "groups": st.lists(_u32, max_size=3).map(tuple),
        "kstack": st.lists(_texts, max_size=3).map(tuple),
        "cgroup": st.binary(max_size=20),
        "exe": st.tuples(st.binary(max_size=20), st.binary(max_size=20)).map(Exe._make),
        "cmdline": st.binary(max_size=20),
        "kregs": _regs,
        "kfxsave": _fxsave,
        "kxsave": _xsave,
    },
)

_provenance = st.one_of(
    _mappings,
    st.dictionaries(
        st.sampled_from(["task", "task.state", "cred", "cred.securebits"]), st.sampled_from(["absent: x", "kernel:A"])
    ),
)
tasks = st.builds(
    TaskImage,
    _records,
    st.none() | _regs,
    st.none() | _fxsave,
    st.none() | _xsave,
    _ext,
    _provenance,
    _unknown,
    st.just(()),
)
_extra = st.binary(max_size=12)
_heads = st.builds(Head, _u64, st.integers(0, 1), st.tuples(st.just(1), _u16, _u16, _u16), _extra)
_components = st.lists(st.tuples(_u32, _u32, _u32, _u32).map(XstateComponent._make), max_size=2).map(tuple)
_metas = st.builds(
    Meta,
    st.just(0),
    *[_u32] * 3,
    *[_u64] * 3,
    *[_u32] * 6,
    _components,
    _mappings,
    _extra,
)
_entries = st.lists(st.builds(CertificateEntry, _u32, _texts, _texts, _texts), max_size=2).map(tuple)

images = st.builds(
    lambda head, meta, some, flags, entries, extra, unknown: Image(
        head, meta, tuple(some), Trailer(len(some), flags, entries, extra), unknown
    ),
    _heads,
    _metas,
    st.lists(tasks, max_size=3),
    _u32,
    _entries,
    _extra,
    _unknown,
)


def _counted(kind: Any, start: int) -> Any:
    return kind._make(range(start, start + len(kind._fields)))


def small_task(pid: int = 1) -> TaskImage:
    """A task whose every value differs from its neighbours."""
    record = _counted(TaskRecord, 0x100)._replace(
        pid=pid, comm=b"small\xff\0rest".ljust(16, b"\0"), tls=(1 << 40, 2 << 40, 3 << 40)
    )
    ext: dict[str, Any] = {
        name: tuple(range(0x1000 * at, 0x1000 * at + len(group.fields)))
        for at, (name, group) in enumerate(layout.GROUPS.items(), 1)
    }
    ext |= {
        "pids": (PidLevel(0, 4026531836, 77), PidLevel(1, 4026532198, 1)),
        "groups": (4, 24, 27),
        "kstack": ("futex_wait_queue+0x60", "do_futex+0x10"),
        "cgroup": b"/system.slice/\xff",
        "exe": Exe(b"/bin/small", bytes(range(20))),
        "cmdline": b"small\0-x\0",
    }
    provenance = {"task": "kernel:B", "task.state": "kernel:A", "regs": "ptrace", "io": "absent: no TASK_XACCT"}
    return TaskImage(record, _counted(X86_64Regs, 0x200)._replace(debugreg=tuple(range(8))), None, None, ext, provenance)


def small_image(tasks: int = 2) -> Image:
    """A small image, the second task 32-bit with an FPU area."""
    some = [small_task(pid) for pid in range(1, tasks + 1)]
    if tasks > 1:
        regs = _counted(X86Regs, 0x300)._replace(debugreg=tuple(range(8)))
        some[1] = some[1]._replace(regs=regs, fxsave=bytes(range(256)) * 2, xsave=bytes(range(192)) * 3 + b"tail")
    strings = {"kernel_release": "6.18.0", "hostname": "höst"}
    meta = Meta(
        0, 4026532198, 1, 4026531837, 10, 20, 30, 250, 100, 4096, 1, 1, 580, (XstateComponent(2, 576, 256, 0),), strings
    )
    entries = (CertificateEntry(1, "task.utime", "1", "2"),)
    return Image(Head(5 << 32 | 7), meta, tuple(some), Trailer(tasks, 2, entries))


def sealed(body: bytes) -> bytes:
    """``body`` (a file without its last 32 bytes) with a digest that is right, so that only the structure is wrong."""
    return body + sha256(body).digest()
