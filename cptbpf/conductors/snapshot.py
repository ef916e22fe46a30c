"""The conductor of ``snapshot``: passes, the frozen window between them, and the image that comes of both."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from cptbpf import capabilities
from cptbpf.conductors import surroundings
from cptbpf.conductors.assemble import Assembly, Freeze, Omission
from cptbpf.conductors.freeze import frozen_window
from cptbpf.conductors.merge import certificate
from cptbpf.conductors.meta import meta_of
from cptbpf.conductors.target import Target, members, resolve
from cptbpf.cpu import layout
from cptbpf.errors import TargetError
from cptbpf.image import model
from cptbpf.image.flags import timespec_export
from cptbpf.image.output import opened
from cptbpf.image.writer import ImageWriter
from cptbpf.kernel.tasks import RawTask, TaskReader, TaskTable
from cptbpf.proc import system
from cptbpf.trace.freezer import Freezer

#: Called with how many tasks are written, and of how many.
Progress = Callable[[int, int], None]

Output = str | os.PathLike[str] | BinaryIO


class Summary(NamedTuple):
    """What a snapshot did.

    ``file`` is the path, or ``-`` for a stream; times are in ms, ``size`` in bytes; ``consistent`` is None where nobody was
    frozen, and ``moved`` says what moved where it is False.
    """

    file: str
    tasks: int
    frozen_ms: float
    wall_ms: float
    consistent: bool | None
    partial: tuple[Omission, ...]
    no_registers: tuple[Omission, ...]
    size: int
    moved: tuple[model.CertificateEntry, ...]


class _Capture(NamedTuple):
    """All that was read, before it is merged."""

    tasks: list[RawTask]
    earlier: dict[tuple[int, int, int], RawTask]
    after: TaskTable | None
    freeze: Freeze | None
    clocks: system.Clocks


def snapshot(
    *,
    pidns: str | int | None = None,
    pid: int | None = None,
    output: Output | None = None,
    freeze: bool = True,
    registers: str = "ptrace",
    timeout: float = 1.0,
    force: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Take an image of every task of a pid namespace, or of a process tree.

    ``pidns``
        A namespace as ``--pidns`` takes it: ``pid:[N]``, a path, a pid, an inode number; or ``pid`` for a process tree.
    ``output``
        A path, a binary stream, or None for ``./cptbpf-<inode>-<time>.cpt``.
    ``freeze``
        False: nobody is stopped, and tasks on a cpu have no registers.
    ``registers``
        Who takes the registers of frozen tasks: ``ptrace`` or ``bpf``.
    ``timeout``
        Seconds to wait for tasks to stop.
    ``progress``
        Told how far it is; never while tasks are stopped.

    Raises TargetError (no such target, a file in the way), PrivilegeError, UnsupportedError.
    """
    started = time.monotonic_ns()
    if registers not in ("ptrace", "bpf"):
        raise TargetError(f"registers are taken by ptrace or bpf, not by {registers!r}", "see --registers")
    if freeze:
        capabilities.require("to stop tasks", "CAP_SYS_PTRACE")
    with ExitStack() as places:
        with TaskReader() as reader:
            target = resolve(reader, pidns, pid)
            output = _default_name(target) if output is None else output
            place = places.enter_context(opened(output, force))  # what cannot be written is refused before anybody is stopped
            capture = _frozen(reader, target, registers, timeout) if freeze else _running(reader, target)
            if not capture.tasks:
                raise TargetError(f"no task is left in pid:[{target.inode}]", "'cptbpf list' shows the pid namespaces")
            count, moved = len(capture.tasks), _moved(capture)
            assembly = Assembly(capture.tasks, capture.earlier, capture.freeze)
            around = surroundings.read(reader, assembly.leaders())
        head = model.Head(timespec_export(capture.clocks.realtime))
        writer = ImageWriter(place, head, _meta(target, capture, registers))
        size = _write(writer, _reported(assembly.images(around, registers), count, progress), moved)
    return Summary(
        file=os.fspath(output) if isinstance(output, str | os.PathLike) else "-",
        tasks=count,
        frozen_ms=round(capture.freeze.freezer.frozen_ns / 1e6, 3) if capture.freeze else 0.0,
        wall_ms=round((time.monotonic_ns() - started) / 1e6, 3),
        consistent=None if moved is None else not moved,
        partial=tuple(assembly.partial),
        no_registers=tuple(assembly.no_registers),
        size=size,
        moved=tuple(moved or ()),
    )


def _frozen(reader: TaskReader, target: Target, registers: str, timeout: float) -> _Capture:
    """Pass A, then the window with passes B and C."""
    before = {task.identity: task for task in reader.full(stacks=True).raw()}
    freezer = Freezer(registers == "ptrace")
    window = freezer.run(lambda: frozen_window(reader, freezer, target, registers, timeout))
    inside = members(window.c, target)
    tasks = [task for task in window.b.raw() if inside is None or task.host_pid in inside]
    # Whose parent ended in the window is no longer below the root of a tree.
    frozen = window.frozen if inside is None else window.frozen & inside
    freeze = Freeze(freezer, frozen, window.why_not, window.own, window.tracer)
    return _Capture(tasks, before, window.c, freeze, window.clocks)


def _running(reader: TaskReader, target: Target) -> _Capture:
    """One pass, which disturbs nobody."""
    clocks = system.clocks()
    everyone = list(reader.full(registers=True, stacks=True).raw())
    inside = members(reader.states(), target) if target.root else None
    tasks = [task for task in everyone if inside is None or task.host_pid in inside]
    return _Capture(tasks, {task.identity: task for task in tasks}, None, None, clocks)


def _moved(capture: _Capture) -> list[model.CertificateEntry] | None:
    """The consistency certificate; None where nobody was frozen."""
    if capture.freeze is None or capture.after is None:
        return None
    return certificate(capture.tasks, capture.after, capture.freeze.frozen)


def _default_name(target: Target) -> str:
    return f"./cptbpf-{target.inode}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.cpt"


def _meta(target: Target, capture: _Capture, registers: str) -> model.Meta:
    area = layout()
    return meta_of(target, capture.clocks, model.KIND_IMAGE)._replace(
        freeze=model.FREEZE_PTRACE if capture.freeze else model.FREEZE_NONE,
        registers=model.REGISTERS_PTRACE if capture.freeze and registers == "ptrace" else model.REGISTERS_BPF,
        xstate_size=area.size if area else 0,
        xstate=tuple(model.XstateComponent(*component) for component in area.user()) if area else (),
    )


def _reported(images: Iterable[model.TaskImage], total: int, progress: Progress | None) -> Iterable[model.TaskImage]:
    if progress is None:
        return images
    return _reporting(images, total, progress)


def _reporting(images: Iterable[model.TaskImage], total: int, progress: Progress) -> Iterable[model.TaskImage]:
    for count, image in enumerate(images):
        if count % 256 == 0:
            progress(count, total)
        yield image
    progress(total, total)


def _write(writer: ImageWriter, images: Iterable[model.TaskImage], moved: list[model.CertificateEntry] | None) -> int:
    """Writes the image whole or not at all; returns its size in bytes."""
    flags = model.CERTIFICATE_NONE
    if moved is not None:
        flags = model.CERTIFICATE_MOVED if moved else model.CERTIFICATE_CONSISTENT
    for image in images:
        writer.write_task(image)
    return writer.finish(flags, moved or ())
