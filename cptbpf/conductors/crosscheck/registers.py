"""Registers as BPF found them in the kernel's memory, against ptrace, of a task that stands still."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from cptbpf.conductors.crosscheck import Result
from cptbpf.conductors.crosscheck.fpu import compare_fpu
from cptbpf.conductors.crosscheck.values import exported
from cptbpf.conductors.merge import kernel_registers
from cptbpf.cpu import layout
from cptbpf.fields import BY_NAME, REGISTERS, Field
from cptbpf.kernel.tasks import FullTask
from cptbpf.rules import Context, Sight, judge
from cptbpf.trace import ptrace
from cptbpf.trace import registers as user_registers
from cptbpf.trace.freezer import Freezer
from cptbpf.xsave import FXSAVE_SIZE

_GENERAL, _DEBUG = REGISTERS[:27], REGISTERS[27:33]
_DEBUG_NUMBERS = (0, 1, 2, 3, 6, 7)


class View(NamedTuple):
    """What ptrace shows besides general registers and extended state: debug registers, TLS descriptors, fxsave area."""

    debug: tuple[int, ...]
    tls: tuple[tuple[int, ...], ...]
    fxsave: bytes


def view(freezer: Freezer, tid: int) -> View | None:
    """The view of a stopped task; None where ptrace gives none. For the tracer's thread alone."""
    regs = freezer.regs(tid)
    if regs is None:
        return None
    compat = user_registers.parse(regs).is_compat
    try:
        return View(
            tuple([ptrace.debug_register(tid, number) for number in _DEBUG_NUMBERS]),
            tuple([ptrace.thread_area(tid, entry)[1:] for entry in ptrace.TLS_ENTRIES]),
            ptrace.regset(tid, ptrace.NT_PRXFPREG, FXSAVE_SIZE) if compat else ptrace.floating_point(tid),
        )
    except OSError:
        return None


def compare(task: FullTask, later: FullTask, freezer: Freezer, seen: View, context: Context) -> Iterator[Result]:
    """Every register of a task that stood still from one pass to the next."""

    def result(field: Field, kernel: Any, other: Any) -> Result:
        sight = Sight(field, kernel, kernel, other, task.state, later.state, context, True)
        values = exported(field, kernel), exported(field, other)
        return Result(task.state.pid, task.state.host_pid, field.name, "ptrace", *values, *judge(sight))

    yield result(BY_NAME["tls"], task.extra.tls, seen.tls)
    yield from map(result, _DEBUG, (*task.extra.dr, task.extra.dr6, task.extra.dr7), seen.debug)
    kernel, raw = kernel_registers(task), freezer.regs(task.state.host_pid)
    if kernel.regs is not None and raw is not None:
        yield from map(result, _GENERAL, kernel.regs, user_registers.parse(raw))
    areas = (kernel.fxsave, kernel.xsave, seen.fxsave, freezer.xstate(task.state.host_pid))
    components = area.user() if (area := layout()) else ()
    for field, *rest in compare_fpu(*areas, components):
        yield Result(task.state.pid, task.state.host_pid, field, "ptrace", *rest)
