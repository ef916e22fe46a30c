"""How much of the extended state (NT_X86_XSTATE) is worth reading of every task."""

from typing import Final, NamedTuple

from cptbpf import cpu
from cptbpf.cpu import Component

_XFD: Final = 1 << 2


class Layout(NamedTuple):
    """What is known of NT_X86_XSTATE before any task is stopped.

    ``size``
        Bytes of the whole, 0 where the CPU or the kernel has no XSAVE.
    ``head``
        Bytes that are worth reading of every task: all but the per-process components at the end (8 KiB of AMX tile data).
    ``tail_mask``
        The bits of xstate_bv that say that a task has something behind ``head``; without them all of that is zero.
    """

    size: int
    head: int
    tail_mask: int
    components: tuple[Component, ...]


NONE = Layout(0, 0, 0, ())
"""No XSAVE: PTRACE_GETFPREGS has all there is."""


def layout_of(size: int, components: tuple[Component, ...]) -> Layout:
    """The layout that follows from the whole size and the components: pure, so that a test can try other CPUs."""
    head, tail_mask = size, 0
    for component in sorted(components, key=lambda c: c.offset, reverse=True):
        if not component.flags & _XFD:
            break
        head = component.offset
        tail_mask |= 1 << component.number
    return Layout(size, head, tail_mask, components)


def layout() -> Layout:
    """This CPU's layout under this kernel. Raises UnsupportedError as :func:`cptbpf.cpu.layout` does."""
    area = cpu.layout()
    return NONE if area is None else layout_of(area.size, area.user())
