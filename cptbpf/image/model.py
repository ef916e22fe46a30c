"""What an image holds, as Python sees it: the boundary between the conductors and the format.

Every integer is the raw number of the file. Strings that came from a task (comm, paths, command lines) stay bytes; nothing
here is safe to print unescaped.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cptbpf import fields
from cptbpf.image.provenance import is_absent, source_of

#: Bytes of an image: the reader hands out views of the file's memory instead of copies.
Buffer = bytes | memoryview

KIND_IMAGE, KIND_RECORDING = 0, 1
ARCH_I386, ARCH_X86_64 = 0, 1
FREEZE_NONE, FREEZE_PTRACE = 0, 1
REGISTERS_NONE, REGISTERS_PTRACE, REGISTERS_BPF = 0, 1, 2
#: TRAILER flags: what the consistency certificate says.
CERTIFICATE_NONE, CERTIFICATE_CONSISTENT, CERTIFICATE_MOVED = 0, 1, 2

#: Values that may stand for one that was not to be had: provenance says whether they do.
EMPTY: tuple[Any, ...] = (0, (0, 0, 0), bytes(16))

_PLACES = {field.name: (name, at) for name in fields.GROUPS for at, field in enumerate(fields.group(name))}


class RawObject(NamedTuple):
    """An object of a type that this version does not know, kept as it is; ``data`` is all that follows the 16-byte header."""

    type: int
    content: int
    hdrlen: int
    data: Buffer


class Head(NamedTuple):
    """``struct cpt_head``.

    ``time`` is CLOCK_REALTIME of the snapshot as ``sec << 32 | nsec``; ``extra`` is what a later version appended.
    """

    time: int
    arch: int = ARCH_X86_64
    version: tuple[int, int, int, int] = (1, 0, 0, 0)
    extra: bytes = b""


class XstateComponent(NamedTuple):
    """Where one XSAVE state component lies in the standard format (CPUID leaf 0xD); ``flags`` is that leaf's ECX."""

    number: int
    offset: int
    size: int
    flags: int


class Meta(NamedTuple):
    """The META object: of which machine, when and how the image was taken.

    ``realtime``, ``monotonic`` and ``boottime`` are the three clocks at one instant, in ns. ``strings`` has the kernel release,
    version and build id, boot id, host name, machine, writer, units and the request.
    """

    kind: int = KIND_IMAGE
    pid_ns: int = 0
    pid_ns_level: int = 0
    user_ns: int = 0
    realtime: int = 0
    monotonic: int = 0
    boottime: int = 0
    hz: int = 0
    user_hz: int = 0
    page_size: int = 0
    freeze: int = FREEZE_NONE
    registers: int = REGISTERS_NONE
    xstate_size: int = 0
    xstate: tuple[XstateComponent, ...] = ()
    strings: Mapping[str, str] = {}
    extra: bytes = b""


class TaskRecord(NamedTuple):
    """``struct cpt_task_image`` after its header, without ``cpt_``; :mod:`cptbpf.fields` says what each field means."""

    state: int
    flags: int
    thrflags: int
    thrstatus: int
    pid: int
    tgid: int
    ppid: int
    rppid: int
    pgrp: int
    session: int
    old_pgrp: int
    leader: int
    set_tid: int
    clear_tid: int
    exit_code: int
    exit_signal: int
    pdeath_signal: int
    user: int
    uid: int
    euid: int
    suid: int
    fsuid: int
    gid: int
    egid: int
    sgid: int
    fsgid: int
    comm: bytes
    tls: tuple[int, int, int]
    utime: int
    stime: int
    utimescaled: int
    stimescaled: int
    gtime: int
    prev_utime: int
    prev_stime: int
    start_time: int
    real_start_time: int
    nvcsw: int
    nivcsw: int
    min_flt: int
    maj_flt: int


class X86Regs(NamedTuple):
    """``struct cpt_x86_regs``; the six segments are encoded as :func:`cptbpf.image.segments.encode_segment` does."""

    debugreg: tuple[int, ...]
    gs: int
    bx: int
    cx: int
    dx: int
    si: int
    di: int
    bp: int
    ax: int
    ds: int
    es: int
    fs: int
    orig_ax: int
    ip: int
    cs: int
    flags: int
    sp: int
    ss: int


class X86_64Regs(NamedTuple):  # noqa: N801 - the record's own name
    """``cpt_x86_64_regs``; the six segments are encoded as :func:`cptbpf.image.segments.encode_segment` does."""

    debugreg: tuple[int, ...]
    fsbase: int
    gsbase: int
    fsindex: int
    gsindex: int
    ds: int
    es: int
    r15: int
    r14: int
    r13: int
    r12: int
    rbp: int
    rbx: int
    r11: int
    r10: int
    r9: int
    r8: int
    rax: int
    rcx: int
    rdx: int
    rsi: int
    rdi: int
    orig_rax: int
    rip: int
    cs: int
    eflags: int
    rsp: int
    ss: int


class PidLevel(NamedTuple):
    """A task's id at one level of pid namespaces; ``ns`` is the namespace's inode number."""

    level: int
    ns: int
    pid: int


class Exe(NamedTuple):
    """The executable of a process: its path, and its GNU build id where it has one."""

    path: bytes
    build_id: bytes


class Placed(NamedTuple):
    """Where an object stood in a file that this version would have written differently."""

    type: int
    content: int
    extra: bytes


class TaskImage(NamedTuple):
    """One task as it goes into a file or comes from one.

    ``ext``
        What was had beyond the patch's records: ``host``, ``cred``, ``sched``, ``signal``, ``io``, ``ns``, ``mm`` are tuples of
        ints in the catalogue's order (shorter when an older version wrote them); ``pids`` a tuple of :class:`PidLevel`;
        ``groups`` of gids; ``kstack`` of strings, innermost first (``symbol+0xoffset``, ``[module]+0xoffset`` or ``0x…``);
        ``cgroup`` and ``cmdline`` bytes; ``exe`` an :class:`Exe`; ``kregs``, ``kfxsave``, ``kxsave`` the kernel's view where it
        differs from ptrace's.
    ``provenance``
        Where values are from, by a group's name or ``group.field``: see :mod:`cptbpf.image.provenance`.
    ``layout``
        Empty unless the file held this task's objects in another order or with more in them than this version writes.
    """

    task: TaskRecord
    regs: X86_64Regs | X86Regs | None = None
    fxsave: Buffer | None = None
    xsave: Buffer | None = None
    ext: Mapping[str, Any] = {}
    provenance: Mapping[str, str] = {}
    unknown: tuple[RawObject, ...] = ()
    layout: tuple[Placed, ...] = ()

    def source(self, group: str, field: str = "") -> str:
        """Where a value came from, or ``absent: reason``, or ``""`` where the image does not say."""
        return source_of(self.provenance, group, field)

    def value(self, name: str) -> Any:
        """A field of the catalogue by its name: an int, bytes for ``comm``, a tuple for ``tls``.

        None where the image has none: where the group is not there, or was written by a version that did not know the field,
        and where the number is 0 and provenance calls it absent. Raises KeyError for a name that the catalogue has not.
        """
        group, at = _PLACES[name]
        values = self.task if group == "task" else self.ext.get(group, ())
        if at >= len(values):
            return None
        found = values[at]
        return None if found in EMPTY and is_absent(self.source(group, name)) else found


class CertificateEntry(NamedTuple):
    """One thing that moved while the tasks were frozen; ``before`` and ``after`` as the catalogue shows the field."""

    pid: int
    field: str
    before: str
    after: str


class Trailer(NamedTuple):
    """The TRAILER object. ``digest`` is the SHA-256 over all that precedes it."""

    tasks: int
    flags: int = CERTIFICATE_NONE
    entries: tuple[CertificateEntry, ...] = ()
    extra: bytes = b""
    digest: bytes = b""


class Image(NamedTuple):
    """A whole image. ``unknown`` are objects between META and the first task."""

    head: Head
    meta: Meta
    tasks: tuple[TaskImage, ...]
    trailer: Trailer
    unknown: tuple[RawObject, ...] = ()


#: What an event of a recording tells: a state, a birth, another program, the end, other credentials; reports that were lost; a
#: task that is no longer there, and whose end nobody saw.
EVENT_SAMPLE, EVENT_FORK, EVENT_EXEC, EVENT_EXIT, EVENT_CRED, EVENT_DROP, EVENT_GONE = range(7)
EVENT_NAMES = ("sample", "fork", "exec", "exit", "cred", "drop", "gone")
#: Flag of an exit: of a leader whose id another thread took over by executing a program; it ends with that one's id.
EVENT_DISPLACED = 1
#: Flags of a drop: why reports were lost. No room in the ring buffer; no memory to follow a task; a program did not run.
DROP_REASONS = ("full", "memory", "busy")


def drop_reason(flags: int) -> str:
    """Why reports were lost, by the flags of a drop: one of DROP_REASONS, or ``unknown`` for one of a later version."""
    return DROP_REASONS[flags] if flags < len(DROP_REASONS) else "unknown"


class RecordedEvent(NamedTuple):
    """One event of a recording.

    ``kind`` is EVENT_*; ``time`` CLOCK_MONOTONIC in ns; ``row`` the task's state then (see :mod:`cptbpf.image.rows`), of
    EVENT_GONE the last known one, None for EVENT_DROP, and ``said`` where its values are from; ``old_pid`` the id that the task
    had before, where it changed, else 0; ``lost`` how many reports a drop has lost, on ``cpu`` (-1: unknown).
    """

    kind: int
    time: int
    row: tuple[Any, ...] | None
    said: Mapping[str, str] = {}
    old_pid: int = 0
    flags: int = 0
    lost: int = 0
    cpu: int = -1
